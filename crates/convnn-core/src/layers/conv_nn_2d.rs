//! `conv_nn_2d`: each pixel aggregates its K nearest neighbors on the map (SPEC section 3; paper section on VGG).

use super::{ensure, layer_name, parameter, shuffle, to_map, to_tokens};
use crate::error::ensure_shape;
use crate::operator::canvas::Canvas;
use crate::operator::neighborhood::Neighborhood;
use crate::{Candidates, Compare, Grid, Kernel, Pass, Result, Shuffle, Similarity, Values};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

/// Configuration of [`ConvNn2d`] and [`ConvNn2dAttention`](super::ConvNn2dAttention).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConvNn2dConfig {
    /// C
    pub in_channels: usize,
    /// O
    pub out_channels: usize,
    /// K
    pub neighbors: usize,
    /// Zero tokens on every side, which are candidates too.
    pub padding: usize,
    /// Cosine, Euclidean or, for positions in pixels, Chebyshev.
    pub similarity: Similarity,
    /// What the similarity is taken of.
    pub compare: Compare,
    /// What is aggregated.
    pub values: Values,
    /// Which tokens may be chosen.
    pub candidates: Candidates,
    /// Where pixels are exchanged for channels.
    pub shuffle: Shuffle,
    /// Side of the squares that become channels.
    pub shuffle_scale: usize,
    /// Standard or depthwise; a depthwise kernel gives out as many channels as it takes in. [`ConvNn2d`] only.
    pub kernel: Kernel,
}

impl Default for ConvNn2dConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 64,
            neighbors: 9,
            padding: 1,
            similarity: Similarity::Cosine,
            compare: Compare::Features,
            values: Values::Features,
            candidates: Candidates::All,
            shuffle: Shuffle::None,
            shuffle_scale: 1,
            kernel: Kernel::Standard,
        }
    }
}

/// The k-nearest-neighbor layer on feature maps, without projections.
///
/// For each token: *select* the K most similar candidates, the token itself first; *aggregate* them with a kernel
/// matrix for each rank. Gradients reach the values and the kernel; the choice has none.
///
/// ```
/// # fn main() -> convnn_core::Result<()> {
/// use candle_core::{DType, Device, Tensor};
/// use convnn_core::{Parameters, Pass, Streams, layers::{ConvNn2d, ConvNn2dConfig}};
/// let parameters = Parameters::new(&Streams::new(0), DType::F32, &Device::Cpu);
/// let config = ConvNn2dConfig { in_channels: 3, out_channels: 8, ..Default::default() };
/// let layer = ConvNn2d::new(&config, parameters.builder())?;
/// let images = Tensor::zeros((2, 3, 6, 5), DType::F32, &Device::Cpu)?;
/// assert_eq!(layer.forward(&images, &Pass::evaluation())?.dims(), [2, 8, 6, 5]);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct ConvNn2d {
    config: ConvNn2dConfig,
    name: String,
    sample: Option<Vec<u32>>,
    weight: Tensor,
    bias: Tensor,
}

impl ConvNn2d {
    /// Takes `conv1d_layer.weight` (O, C or C+2, K), or (C, 1, K) where the kernel is depthwise, and `.bias` (O) from
    /// `vb`.
    ///
    /// # Errors
    /// [`crate::Error::Option`] for options that do not go together.
    pub fn new(config: &ConvNn2dConfig, vb: VarBuilder<'_>) -> Result<Self> {
        let name = layer_name(&vb, "conv_nn_2d");
        check(config, &name)?;
        let shape = kernel_shape(config);
        let fan_in = shape.1 * shape.2;
        let vb = vb.pp("conv1d_layer");
        let weight = parameter(&vb, shape, "weight", fan_in)?;
        let bias = parameter(&vb, shape.0, "bias", fan_in)?;
        Ok(Self { config: config.clone(), name, sample: None, weight, bias })
    }

    /// The layer with ready tensors: `weight` (O, C or C+2, K), or (C, 1, K) where the kernel is depthwise, and `bias`
    /// (O), counted with the shuffle.
    ///
    /// # Errors
    /// [`crate::Error::Option`] and [`crate::Error::Shape`].
    pub fn from_tensors(config: &ConvNn2dConfig, weight: Tensor, bias: Tensor) -> Result<Self> {
        let name = "conv_nn_2d".to_owned();
        check(config, &name)?;
        let (o, i, k) = kernel_shape(config);
        ensure_shape(weight.dims() == [o, i, k], "conv_nn_2d", "weight", &weight, || format!("({o}, {i}, {k})"))?;
        ensure_shape(bias.dims() == [o], "conv_nn_2d", "bias", &bias, || format!("({o})"))?;
        Ok(Self { config: config.clone(), name, sample: None, weight, bias })
    }

    /// The same layer with given candidates in place of a drawn sample: token numbers on the padded map.
    #[must_use]
    pub fn with_candidates(self, places: Vec<u32>) -> Self {
        Self { sample: Some(places), ..self }
    }

    /// Feature maps (B, C, H, W) to (B, O, H, W).
    ///
    /// # Errors
    /// [`crate::Error::NeighborsExceedCandidates`], [`crate::Error::Option`] where sides do not divide.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let (tokens, grid) = to_tokens(x)?;
        let (y, grid) = self.forward_shuffled(&tokens, grid, pass)?;
        to_map(&y, grid)
    }

    /// Tokens (B, H·W, C) of a map to (B, H·W, O).
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_tokens(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<Tensor> {
        Ok(self.forward_shuffled(x, grid, pass)?.0)
    }

    fn forward_shuffled(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<(Tensor, Grid)> {
        let c = &self.config;
        let (x, grid) = match c.shuffle.before() {
            true => shuffle::pixel_unshuffle(x, grid, c.shuffle_scale, &self.name)?,
            false => (x.clone(), grid),
        };
        let canvas = Canvas::grid(grid, c.padding);
        let y = self.neighborhood().forward(&x, canvas, &self.weight, &self.bias, self.sample.as_deref(), pass)?;
        match c.shuffle.after() {
            true => shuffle::pixel_shuffle(&y, grid, c.shuffle_scale),
            false => Ok((y, grid)),
        }
    }

    fn neighborhood(&self) -> Neighborhood<'_> {
        let c = &self.config;
        Neighborhood {
            layer: &self.name,
            neighbors: c.neighbors,
            similarity: c.similarity,
            compare: c.compare,
            values: c.values,
            candidates: c.candidates,
            kernel: c.kernel,
        }
    }

    /// The neighbors of each token, where the layer does no more than aggregate the tokens themselves.
    pub(super) fn neighbors(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<Option<Tensor>> {
        let c = &self.config;
        let plain = c.values == Values::Features && c.kernel == Kernel::Standard && c.shuffle == Shuffle::None;
        let canvas = Canvas::grid(grid, c.padding);
        plain.then(|| self.neighborhood().select(x, canvas, self.sample.as_deref(), pass)).transpose()
    }

    /// The configuration.
    pub const fn config(&self) -> &ConvNn2dConfig {
        &self.config
    }

    /// The kernel (O, C or C+2, K), or (C, 1, K) where it is depthwise.
    pub const fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias (O).
    pub const fn bias(&self) -> &Tensor {
        &self.bias
    }
}

fn kernel_shape(c: &ConvNn2dConfig) -> (usize, usize, usize) {
    let (inputs, outputs) = shuffle::channels(c.shuffle, c.shuffle_scale, c.in_channels, c.out_channels);
    let inputs = match (c.kernel, c.values) {
        (Kernel::Depthwise, _) => 1,
        (_, Values::FeaturesPosition) => inputs + 2,
        _ => inputs,
    };
    (outputs, inputs, c.neighbors)
}

fn check(c: &ConvNn2dConfig, name: &str) -> Result<()> {
    ensure(c.neighbors > 0, name, "neighbors", 0, "at least 1")?;
    ensure(c.shuffle_scale > 0, name, "shuffle_scale", 0, "at least 1")?;
    match c.kernel {
        Kernel::Standard => {}
        Kernel::Depthwise => {
            ensure(c.values == Values::Features, name, "kernel", "depthwise", "standard where values carry positions")?;
            let (inputs, outputs) = shuffle::channels(c.shuffle, c.shuffle_scale, c.in_channels, c.out_channels);
            let found = format!("depthwise from {inputs} to {outputs} channels");
            ensure(inputs == outputs, name, "kernel", found, "as many channels out as in, or standard")?;
        }
        Kernel::DepthwiseSeparable => {
            ensure(false, name, "kernel", "depthwise_separable", "standard or depthwise")?;
        }
    }
    check_comparison(c.similarity, c.compare, name)
}

/// What the layers without projections can compare.
pub(super) fn check_comparison(similarity: Similarity, compare: Compare, name: &str) -> Result<()> {
    ensure(similarity != Similarity::Dot, name, "similarity", "dot", "cosine or euclidean: dot is for projections")?;
    ensure(
        similarity != Similarity::Chebyshev || compare == Compare::Position,
        name,
        "similarity",
        "chebyshev",
        "cosine or euclidean unless `compare` is position",
    )?;
    if let Compare::Blend(share) = compare {
        ensure((0.0..=1.0).contains(&share), name, "compare.blend", share, "a share from 0 to 1")?;
    }
    Ok(())
}
