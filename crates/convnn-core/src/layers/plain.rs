//! What `conv_nn_1d` and `conv_nn_2d` share: select by features or positions, aggregate by a kernel, no projections.

use super::limits::{self, check_candidates, check_tokens, within};
use super::shuffle::Shuffler;
use super::{ensure, parameter};
use crate::error::{ensure_dtype, ensure_shape};
use crate::operator::canvas::Canvas;
use crate::operator::search::Search;
use crate::operator::similarity::Compared;
use crate::operator::{Neighbors, Rho, Weights, aggregate};
use crate::{Candidates, Compare, Grid, Kernel, Pass, Result, Similarity, Values};
use candle_core::Tensor;
use candle_nn::VarBuilder;

/// How neighbors are chosen and what is aggregated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) neighbors: usize,
    pub(super) padding: usize,
    pub(super) similarity: Similarity,
    pub(super) compare: Compare,
    pub(super) values: Values,
    pub(super) candidates: Candidates,
    pub(super) kernel: Kernel,
    pub(super) sequence: bool,
}

/// A layer without projections on tokens (B, N, C).
#[derive(Clone, Debug)]
pub(super) struct Plain {
    options: Options,
    path: String,
    shuffler: Shuffler,
    sample: Option<Vec<u32>>,
    weights: Weights,
    bias: Tensor,
}

impl Options {
    /// The shape of the kernel's weight for a layer of `inputs` and `outputs` channels.
    fn weight_shape(
        &self,
        shuffler: Shuffler,
        inputs: usize,
        outputs: usize,
        layer: &str,
    ) -> Result<(usize, usize, usize)> {
        let (inputs, outputs) = shuffler.channels(inputs, outputs, layer)?;
        let inputs = match (self.kernel, self.values) {
            (Kernel::Standard, Values::FeaturesPosition) => inputs + if self.sequence { 1 } else { 2 },
            (Kernel::Standard, Values::Features) => inputs,
            (Kernel::Depthwise, values) => {
                let carries = "standard: with `values = features_position` a depthwise kernel would change the width";
                ensure(values == Values::Features, layer, "kernel", "depthwise", carries)?;
                let found = format!("depthwise from {inputs} to {outputs} channels");
                ensure(inputs == outputs, layer, "kernel", found, "as many channels out as in, or standard")?;
                1
            }
            (Kernel::DepthwiseSeparable, _) => {
                ensure(false, layer, "kernel", "depthwise_separable", "standard or depthwise")?;
                1
            }
        };
        Ok((outputs, inputs, self.neighbors))
    }

    fn check(&self, layer: &str) -> Result<()> {
        within(self.neighbors, 1, limits::NEIGHBORS, layer, "neighbors")?;
        within(self.padding, 0, limits::PADDING, layer, "padding")?;
        check_candidates(self.candidates, layer)?;
        let compared = if self.compare == Compare::Position { Compared::Positions } else { Compared::Features };
        self.similarity.ensure_compares(compared, layer)?;
        if let Compare::Blend(share) = self.compare {
            ensure((0.0..=1.0).contains(&share), layer, "compare.blend", share, "a number from 0 to 1")?;
        }
        Ok(())
    }

    fn canvas(&self, grid: Grid) -> Canvas {
        if self.sequence { Canvas::sequence(grid.width, self.padding) } else { Canvas::grid(grid, self.padding) }
    }
}

impl Plain {
    pub(super) fn new(
        inputs: usize,
        outputs: usize,
        options: Options,
        shuffler: Shuffler,
        path: String,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        options.check(&path)?;
        let shape = options.weight_shape(shuffler, inputs, outputs, &path)?;
        let fan_in = shape.1 * shape.2;
        let vb = vb.pp("conv1d_layer");
        let weight = parameter(&vb, shape, "weight", fan_in)?;
        let bias = parameter(&vb, shape.0, "bias", fan_in)?;
        Ok(Self { options, weights: weights(options.kernel, weight), path, shuffler, sample: None, bias })
    }

    /// With the tensors of a kernel in place of parameters; `weight` (O, I, K) as [`Options::weight_shape`] has it.
    pub(super) fn from_tensors(
        inputs: usize,
        options: Options,
        shuffler: Shuffler,
        path: String,
        weight: Tensor,
        bias: Tensor,
    ) -> Result<Self> {
        options.check(&path)?;
        let (outputs, channels, k) = options.weight_shape(shuffler, inputs, weight.dim(0)?, &path)?;
        let fits = weight.dims() == [outputs, channels, k];
        ensure_shape(fits, "conv_nn_2d", "weight", &weight, || format!("({outputs}, {channels}, {k})"))?;
        ensure_dtype("conv_nn_2d", &[("weight", &weight), ("bias", &bias)])?;
        Ok(Self { options, weights: weights(options.kernel, weight), path, shuffler, sample: None, bias })
    }

    pub(super) fn with_candidates(self, places: Vec<u32>) -> Self {
        Self { sample: Some(places), ..self }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) const fn weights(&self) -> &Weights {
        &self.weights
    }

    pub(super) const fn bias(&self) -> &Tensor {
        &self.bias
    }

    pub(super) const fn weight(&self) -> &Tensor {
        match &self.weights {
            Weights::Standard(weight) | Weights::Depthwise(weight) | Weights::DepthwiseSeparable(weight, _) => weight,
        }
    }

    /// Tokens (B, N, C) on `grid` to tokens and their grid.
    pub(super) fn forward(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<(Tensor, Grid)> {
        self.mix(x, grid, |x, canvas| self.search(canvas, pass).compare(x, self.options.compare, self.options.values))
    }

    pub(super) fn forward_with(&self, x: &Tensor, grid: Grid, neighbors: &Neighbors) -> Result<(Tensor, Grid)> {
        self.mix(x, grid, |_, _| Ok(neighbors.clone()))
    }

    /// Select → aggregate; ρ is 1.
    fn mix(
        &self,
        x: &Tensor,
        grid: Grid,
        select: impl FnOnce(&Tensor, Canvas) -> Result<Neighbors>,
    ) -> Result<(Tensor, Grid)> {
        let (x, grid) = self.shuffler.before(x, grid, &self.path)?;
        let canvas = self.options.canvas(grid);
        let neighbors = select(&x, canvas)?;
        let values = canvas.values(&x, self.options.values)?;
        neighbors.ensure_fits(&self.path, values.dim(0)?, canvas.tokens(), values.dim(1)?)?;
        let y = aggregate(&values, &neighbors, &Rho::One, &self.weights, Some(&self.bias))?;
        self.shuffler.after(y, grid)
    }

    pub(super) fn neighbors(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<Neighbors> {
        let (x, grid) = self.shuffler.before(x, grid, &self.path)?;
        self.search(self.options.canvas(grid), pass).compare(&x, self.options.compare, self.options.values)
    }

    /// Fails unless every token of `grid` has K candidates.
    pub(super) fn check_grid(&self, grid: Grid) -> Result<()> {
        let inner = self.shuffler.inner(grid, &self.path)?;
        let canvas = self.options.canvas(inner);
        check_tokens(canvas, self.shuffler.outer(inner), &self.path)?;
        self.search(canvas, &Pass::evaluation()).check(true)
    }

    fn search<'a>(&'a self, canvas: Canvas, pass: &'a Pass) -> Search<'a> {
        Search {
            layer: &self.path,
            canvas,
            similarity: self.options.similarity,
            neighbors: self.options.neighbors,
            candidates: self.options.candidates,
            sample: self.sample.as_deref(),
            pass,
        }
    }
}

fn weights(kernel: Kernel, weight: Tensor) -> Weights {
    match kernel {
        Kernel::Depthwise => Weights::Depthwise(weight),
        Kernel::Standard | Kernel::DepthwiseSeparable => Weights::Standard(weight),
    }
}
