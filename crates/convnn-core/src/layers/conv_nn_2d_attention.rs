//! `conv_nn_2d_attention`: the 2-D layer with projections and softmax over the neighbors (SPEC section 3).

use super::{ConvNn2dConfig, ensure, layer_name, parameter, shuffle, to_map, to_tokens};
use crate::operator::canvas::{Canvas, checked};
use crate::ops::{self, Score, Selection};
use crate::{Compare, Grid, Kernel, Pass, Result, Similarity, Values};
use candle_core::{D, Tensor};
use candle_nn::VarBuilder;

/// The k-nearest-neighbor layer on feature maps with query, key and value projections.
///
/// Row i is key i, its neighbors are chosen among the queries, and values are gathered at their places. *Select* K
/// candidates, the token itself first; *modulate* by the softmax of their scores; *aggregate* depthwise, then
/// pointwise. Gradients reach all parameters and the input, through scores and values.
#[derive(Clone, Debug)]
pub struct ConvNn2dAttention {
    config: ConvNn2dConfig,
    name: String,
    sample: Option<Vec<u32>>,
    w_q: Tensor,
    w_k: Tensor,
    w_v: Tensor,
    w_o: Tensor,
    kernel: Tensor,
    kernel_bias: Tensor,
    pointwise: Tensor,
    pointwise_bias: Tensor,
}

impl ConvNn2dAttention {
    /// Takes the projections `w_q`, `w_k`, `w_v` (C, C, 1), `conv1d_layer` (C, 1, K), `pointwise_conv` (O, C, 1) and `w_o` (O, O, 1).
    ///
    /// # Errors
    /// [`crate::Error::Option`] for options that do not go together.
    pub fn new(config: &ConvNn2dConfig, vb: VarBuilder<'_>) -> Result<Self> {
        let name = layer_name(&vb, "conv_nn_2d_attention");
        let (k, scale) = (config.neighbors, config.shuffle_scale);
        ensure(k > 0, &name, "neighbors", 0, "at least 1")?;
        ensure(scale > 0, &name, "shuffle_scale", 0, "at least 1")?;
        let supported = matches!(config.similarity, Similarity::Cosine | Similarity::Euclidean);
        ensure(
            supported,
            &name,
            "similarity",
            format!("{:?}", config.similarity).to_lowercase(),
            "cosine or euclidean",
        )?;
        let compared = config.compare == Compare::Features;
        ensure(compared, &name, "compare", "not features", "features: positions join through `values`")?;
        let found = format!("{:?}", config.kernel).to_lowercase();
        ensure(config.kernel == Kernel::Standard, &name, "kernel", found, "no choice: this layer has its own kernels")?;
        let (c, o) = shuffle::channels(config.shuffle, scale, config.in_channels, config.out_channels);
        let c = if config.values == Values::FeaturesPosition { c + 2 } else { c };
        let matrix = |name: &str, outputs: usize, inputs: usize| -> Result<Tensor> {
            parameter(&vb.pp(name), (outputs, inputs, 1), "weight", inputs)
        };
        let conv1d = vb.pp("conv1d_layer");
        Ok(Self {
            config: config.clone(),
            sample: None,
            w_q: matrix("w_q", c, c)?,
            w_k: matrix("w_k", c, c)?,
            w_v: matrix("w_v", c, c)?,
            w_o: matrix("w_o", o, o)?,
            kernel: conv1d.get_with_hints((c, 1, k), "weight", candle_nn::init::ONE)?,
            kernel_bias: parameter(&conv1d, c, "bias", k)?,
            pointwise: matrix("pointwise_conv", o, c)?,
            pointwise_bias: parameter(&vb.pp("pointwise_conv"), o, "bias", c)?,
            name,
        })
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
        let y = self.mix(&x, Canvas::grid(grid, c.padding), pass)?;
        match c.shuffle.after() {
            true => shuffle::pixel_shuffle(&y, grid, c.shuffle_scale),
            false => Ok((y, grid)),
        }
    }

    /// Select → modulate → aggregate on the padded map.
    fn mix(&self, x: &Tensor, canvas: Canvas, pass: &Pass) -> Result<Tensor> {
        let c = &self.config;
        let mut x = canvas.pad(x)?;
        if c.values == Values::FeaturesPosition {
            let positions = canvas.positions(x.dtype(), x.device())?;
            x = Tensor::cat(&[&x, &positions.broadcast_left(x.dim(0)?)?.squeeze(1)?], 2)?;
        }
        let keys = linear(&canvas.crop(&x)?, &self.w_k)?; // (B, N, C)
        let queries = linear(&x, &self.w_q)?; // (B, T, C)
        let values = linear(&x, &self.w_v)?; // (B, T, C)

        let candidates = canvas.candidates(self.sample.as_deref(), c.candidates, pass, &self.name)?;
        // The score that the token itself is given (SPEC section 2).
        let own_score = match (&candidates, c.similarity) {
            (Some(_), _) => 1.0,
            (None, Similarity::Cosine) => 1.1,
            (None, _) => 0.1,
        };
        let selection = Selection {
            similarity: c.similarity,
            neighbors: c.neighbors,
            own: Some(canvas.places()),
            candidates,
            zeros: Vec::new(),
        };
        let selection = checked(selection, &self.name, canvas.padded_tokens())?;
        let index = ops::select(&keys.detach(), &queries.detach(), &selection)?; // (B, N, K)

        let score = Score::of(c.similarity, &self.name, queries.dim(2)?)?;
        let scores = own_first(&keys, &queries, &index, score, own_score)?;
        let rho = ops::softmax(&scores)?;

        let y = ops::aggregate_depthwise(&values, &index, Some(&rho), &self.kernel, Some(&self.kernel_bias))?;
        let y = ops::linear(&y, &self.pointwise.squeeze(2)?, Some(&self.pointwise_bias))?;
        linear(&y, &self.w_o)
    }
}

/// Scores of the chosen pairs, the first being the constant of the token itself: (B, N, K).
pub(super) fn own_first(
    keys: &Tensor,
    queries: &Tensor,
    index: &Tensor,
    score: Score,
    own_score: f64,
) -> Result<Tensor> {
    let (b, n, k) = index.dims3()?;
    let own = Tensor::full(own_score, (b, n, 1), keys.device())?.to_dtype(keys.dtype())?;
    if k == 1 {
        return Ok(own);
    }
    let others = index.narrow(D::Minus1, 1, k - 1)?.contiguous()?;
    Ok(Tensor::cat(&[&own, &ops::pair_scores(keys, queries, &others, score)?], 2)?)
}

/// A 1×1 convolution (O, C, 1) without bias.
fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    ops::linear(x, &weight.squeeze(2)?, None)
}
