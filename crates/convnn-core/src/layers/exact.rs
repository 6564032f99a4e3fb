//! Exact special cases: trained convolutions and attention as ConvNN layers (docs/specification.md, section 4).
//!
//! | from | to | select | modulate | aggregate |
//! |---|---|---|---|---|
//! | κ×κ convolution | [`ConvNn2d::from_convolution`] | the κ² nearest positions, in raster order | 1 | standard |
//! | depthwise convolution | [`ConvNn2d::from_depthwise_convolution`] | the same | 1 | depthwise |
//! | self-attention | [`ConvNnAttention::from_attention`] | all N tokens by dot product | softmax | depthwise, all ones |
//! | KVT attention | [`ConvNnAttention::from_kvt_attention`] | the K best tokens by dot product | softmax | the same |
//!
//! The layers hold the tensors they are given, reshaped, so that outputs are equal and gradients reach those tensors.

use super::conv_nn_attention::Projection;
use super::{ConvNn2d, ConvNn2dConfig, ConvNnAttention, ConvNnAttentionConfig};
use crate::error::ensure_shape;
use crate::operator::canvas::Canvas;
use crate::{Candidates, Compare, Error, Grid, Kernel, Modulation, Result, Similarity};
use candle_core::Tensor;
use candle_nn::{Conv2d, Linear};

impl ConvNn2d {
    /// The κ×κ convolution of stride 1 with padding κ/2 as a ConvNN layer, for every odd κ and maps of every size.
    ///
    /// Positions are compared by [`Similarity::Chebyshev`] distance in pixels: the κ² nearest tokens of the padded map
    /// are the square window, and in the order of their tokens they meet the kernel row by row.
    ///
    /// # Shapes
    /// - `weight`: (O, C, κ, κ)
    /// - `bias`: (O), or `None` for 0
    ///
    /// ```
    /// # fn main() -> convnn_core::Result<()> {
    /// use candle_core::{Device, Tensor};
    /// use convnn_core::{ConvNn2d, Pass};
    /// let x = Tensor::randn(0f32, 1.0, (2, 3, 8, 5), &Device::Cpu)?;
    /// let weight = Tensor::randn(0f32, 1.0, (4, 3, 3, 3), &Device::Cpu)?;
    /// let found = ConvNn2d::from_convolution(&weight, None)?.forward_t(&x, &Pass::evaluation())?;
    /// convnn_core::testing::compare("output", &found, &x.conv2d(&weight, 1, 1, 1, 1)?, 1e-5).unwrap();
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Option`] for an even κ, [`Error::Shape`].
    pub fn from_convolution(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        from_window(weight, bias, Kernel::Standard)
    }

    /// The same for a depthwise convolution, a κ×κ kernel for each channel.
    ///
    /// # Shapes
    /// - `weight`: (C, 1, κ, κ)
    /// - `bias`: (C), or `None` for 0
    ///
    /// # Errors
    /// As [`Self::from_convolution`].
    pub fn from_depthwise_convolution(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        let one = weight.rank() != 4 || weight.dim(1)? == 1;
        ensure_shape(one, "from_depthwise_convolution", "weight", weight, || "(C, 1, κ, κ)".into())?;
        from_window(weight, bias, Kernel::Depthwise)
    }

    /// The same for a layer of Candle's, standard or depthwise by its groups.
    ///
    /// # Errors
    /// [`Error::Option`] where stride or dilation is not 1, where the padding is not κ/2, or for other groups than 1
    /// and the number of channels; else as [`Self::from_convolution`].
    pub fn from_conv2d(conv: &Conv2d) -> Result<Self> {
        let (weight, config) = (conv.weight(), conv.config());
        let (outputs, inputs, size, _) = weight.dims4()?;
        let wrong = |option, found: usize, expected: String| {
            Err(Error::Option { layer: "conv2d".into(), option, found: found.to_string(), expected })
        };
        if config.stride != 1 {
            return wrong("stride", config.stride, "1: each token of the map has an output".into());
        }
        if config.dilation != 1 {
            return wrong("dilation", config.dilation, "1: the nearest tokens are a window without gaps".into());
        }
        check_odd(size)?;
        if config.padding != size / 2 {
            return wrong("padding", config.padding, format!("{}, so that the map keeps its sides", size / 2));
        }
        match config.groups {
            1 => Self::from_convolution(weight, conv.bias()),
            groups if groups == outputs && inputs == 1 => Self::from_depthwise_convolution(weight, conv.bias()),
            groups => wrong("groups", groups, format!("1, or {outputs} with one channel in and out of each")),
        }
    }

    /// The convolution in the paper's form, for maps of one size: [`Similarity::Euclidean`] distance of positions
    /// scaled to −1…1 on each axis.
    ///
    /// The κ² nearest tokens in that distance are the square window only for small κ and nearly square maps. Here each
    /// token of `grid` chooses its neighbors, and the layer is refused where they differ; on maps of another size
    /// it need not be the convolution.
    ///
    /// # Shapes
    /// As [`Self::from_convolution`].
    ///
    /// # Errors
    /// [`Error::Option`], which names a token and the neighbor outside its window; else as
    /// [`Self::from_convolution`].
    pub fn from_convolution_by_euclidean(weight: &Tensor, bias: Option<&Tensor>, grid: Grid) -> Result<Self> {
        by_euclidean(Self::from_convolution(weight, bias)?, grid)
    }

    /// The depthwise convolution in the same form.
    ///
    /// # Shapes
    /// As [`Self::from_depthwise_convolution`].
    ///
    /// # Errors
    /// As [`Self::from_convolution_by_euclidean`].
    pub fn from_depthwise_convolution_by_euclidean(weight: &Tensor, bias: Option<&Tensor>, grid: Grid) -> Result<Self> {
        by_euclidean(Self::from_depthwise_convolution(weight, bias)?, grid)
    }
}

/// The layer whose neighbors are the window of a kernel (O, C, κ, κ), or (C, 1, κ, κ).
fn from_window(weight: &Tensor, bias: Option<&Tensor>, kernel: Kernel) -> Result<ConvNn2d> {
    let square = weight.rank() == 4 && weight.dim(2)? == weight.dim(3)?;
    ensure_shape(square, "from_convolution", "weight", weight, || "(O, C, κ, κ)".into())?;
    let (outputs, _, size, _) = weight.dims4()?;
    check_odd(size)?;
    let config = ConvNn2dConfig {
        neighbors: size * size,
        padding: size / 2,
        similarity: Similarity::Chebyshev,
        compare: Compare::Position,
        kernel,
        ..ConvNn2dConfig::default()
    };
    let bias = match bias {
        Some(bias) => bias.clone(),
        None => Tensor::zeros(outputs, weight.dtype(), weight.device())?,
    };
    ConvNn2d::from_tensors(&config, weight.flatten_from(2)?, bias)
}

fn check_odd(size: usize) -> Result<()> {
    if size % 2 == 1 {
        return Ok(());
    }
    Err(Error::Option {
        layer: "convolution".into(),
        option: "kernel_size",
        found: size.to_string(),
        expected: "an odd number: the nearest tokens are a window with the token in its middle".into(),
    })
}

/// The layer made by [`from_window`] with the other distance, if it chooses the same window on every token of `grid`.
fn by_euclidean(layer: ConvNn2d, grid: Grid) -> Result<ConvNn2d> {
    let config = ConvNn2dConfig { similarity: Similarity::Euclidean, ..layer.config().clone() };
    let (reach, size) = (config.padding, 2 * config.padding + 1);
    let paper_form = ConvNn2d::from_tensors(&config, layer.weight().clone(), layer.bias().clone())?;
    let chosen = Canvas::grid(grid, reach).nearest_places(Similarity::Euclidean, config.neighbors, None);
    let width = grid.padded(reach).width;
    for (token, places) in chosen.chunks(config.neighbors).enumerate() {
        let (y, x) = (token / grid.width, token % grid.width);
        // The window of token (y, x) starts at (y, x) on the padded map.
        let outside = |&&place: &&u32| {
            let (row, column) = (place as usize / width, place as usize % width);
            row.wrapping_sub(y) >= size || column.wrapping_sub(x) >= size
        };
        if let Some(&place) = places.iter().find(outside) {
            let offset = |place: usize, own: usize| place as i64 - (own + reach) as i64;
            let (down, right) = (offset(place as usize / width, y), offset(place as usize % width, x));
            return Err(Error::Option {
                layer: "convolution".into(),
                option: "similarity",
                found: format!(
                    "euclidean on a map of {}x{}, where the {} nearest of token ({y}, {x}) include the one {down} down \
                     and {right} right of it, outside its {size}x{size} window",
                    grid.height, grid.width, config.neighbors
                ),
                expected: "a nearly square map and a kernel of 3 or 5, or chebyshev".into(),
            });
        }
    }
    Ok(paper_form)
}

/// The projections of self-attention, D to D each, with or without biases.
#[derive(Clone, Debug)]
pub struct AttentionWeights {
    /// Of the queries: softmax runs over a row of scores for each of them.
    pub query: Linear,
    /// Of the keys.
    pub key: Linear,
    /// Of the values.
    pub value: Linear,
    /// Of the output.
    pub out: Linear,
}

impl ConvNnAttention {
    /// Multi-head self-attention over sequences of `tokens` tokens as a ConvNN layer.
    ///
    /// In ConvNN a row is a key and its neighbors are chosen among the queries, so that `W_k` of the layer holds
    /// `weights.query` and `W_q` holds `weights.key`. On longer sequences the layer attends to the K = `tokens` best
    /// scores of each row; a shorter one is an error. Dropout of attention weights has no counterpart: the layer is made
    /// without.
    ///
    /// # Errors
    /// [`Error::Option`] if the heads do not divide D or `tokens` is 0, [`Error::Shape`] unless all four are D to D.
    pub fn from_attention(weights: &AttentionWeights, heads: usize, tokens: usize) -> Result<Self> {
        let AttentionWeights { query, key, value, out } = weights;
        let q = query.weight();
        let square = q.rank() == 2 && q.dim(0)? == q.dim(1)?;
        ensure_shape(square, "from_attention", "query", q, || "(D, D)".into())?;
        let dim = q.dim(0)?;
        for (name, linear) in [("query", query), ("key", key), ("value", value), ("out", out)] {
            let weight = linear.weight();
            ensure_shape(weight.dims() == [dim, dim], "from_attention", name, weight, || format!("({dim}, {dim})"))?;
            if let Some(bias) = linear.bias() {
                ensure_shape(bias.dims() == [dim], "from_attention", name, bias, || format!("a bias of {dim}"))?;
            }
        }
        let config = ConvNnAttentionConfig {
            heads,
            neighbors: tokens,
            similarity: Similarity::Dot,
            kernel: Kernel::Depthwise,
            modulation: Modulation::Softmax,
            positions: false,
            candidates: Candidates::All,
            dropout: 0.0,
            bias: [query, key, value, out].iter().any(|linear| linear.bias().is_some()),
        };
        let projection = |linear: &Linear| Projection { weight: linear.weight().clone(), bias: linear.bias().cloned() };
        Self::depthwise_ones(&config, dim, [key, query, value, out].map(projection))
    }

    /// KVT attention, softmax over the K = `neighbors` largest scores of each row, as a ConvNN layer.
    ///
    /// Exact unless two scores are equal at the border of the K; both keep the token of lower index there.
    ///
    /// # Shapes
    /// `qkv`: D to 3D, queries first; `out`: D to D.
    ///
    /// # Errors
    /// As [`Self::from_attention`].
    pub fn from_kvt_attention(qkv: &Linear, out: &Linear, heads: usize, neighbors: usize) -> Result<Self> {
        let weight = qkv.weight();
        let triple = weight.rank() == 2 && weight.dim(0)? == 3 * weight.dim(1)?;
        ensure_shape(triple, "from_kvt_attention", "qkv", weight, || "(3D, D)".into())?;
        let dim = weight.dim(1)?;
        let part = |i: usize| -> Result<Linear> {
            let bias = qkv.bias().map(|bias| bias.narrow(0, i * dim, dim)).transpose()?;
            Ok(Linear::new(weight.narrow(0, i * dim, dim)?, bias))
        };
        let weights = AttentionWeights { query: part(0)?, key: part(1)?, value: part(2)?, out: out.clone() };
        Self::from_attention(&weights, heads, neighbors)
    }
}
