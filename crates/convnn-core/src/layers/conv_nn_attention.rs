//! `conv_nn_attention`: the token mixer of the ViT, attention over the K best neighbors.

use super::limits::{self, check_candidates, within};
use super::{Input, ensure, layer_path, module, parameter};
use crate::nn::{dropout, linear};
use crate::operator::canvas::{Canvas, linspace};
use crate::operator::search::{Pool, Search};
use crate::operator::similarity::Compared;
use crate::operator::{Neighbors, Score, Weights, aggregate, modulate, own_in_sample, score_with_own};
use crate::{Candidates, Kernel, Modulation, Pass, Result, Similarity};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

/// Options of [`ConvNnAttention`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ConvNnAttentionConfig {
    /// Number of heads; they share one kernel.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = crate::layers::limits::CHANNELS)))]
    pub heads: usize,
    /// Number of neighbors, K.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = crate::layers::limits::NEIGHBORS)))]
    pub neighbors: usize,
    /// How close two tokens are.
    pub similarity: Similarity,
    /// The kernel that aggregates the K neighbors.
    pub kernel: Kernel,
    /// What the K scores become before they weigh the neighbors.
    pub modulation: Modulation,
    /// Whether keys, queries and values of each head carry a position channel.
    pub positions: bool,
    /// Which tokens may be chosen.
    pub candidates: Candidates,
    /// Dropout on the aggregated output, before W_o.
    #[cfg_attr(feature = "schema", schemars(extend("minimum" = 0.0, "exclusiveMaximum" = 1.0)))]
    pub dropout: f64,
    /// Whether the four projections have biases; the published layer has none.
    pub bias: bool,
}

impl Default for ConvNnAttentionConfig {
    fn default() -> Self {
        Self {
            heads: 1,
            neighbors: 9,
            similarity: Similarity::Dot,
            kernel: Kernel::Depthwise,
            modulation: Modulation::Softmax,
            positions: false,
            candidates: Candidates::All,
            dropout: 0.1,
            bias: false,
        }
    }
}

/// Attention as k-nearest-neighbor selection and aggregation.
///
/// Row i is key i, its neighbors are chosen among the queries, and values are gathered at their places. *Select* the K
/// best candidates; *modulate* by the softmax of their scores; *aggregate* by a kernel of rank. With `dot`, all
/// candidates, K = N, softmax and depthwise ones it is multi-head self-attention; with K < N, KVT attention. Gradients
/// reach all parameters and the input, through scores and values.
#[derive(Clone, Debug)]
pub struct ConvNnAttention {
    config: ConvNnAttentionConfig,
    path: String,
    dim: usize,
    sample: Option<Vec<u32>>,
    w_q: Projection,
    w_k: Projection,
    w_v: Projection,
    w_o: Projection,
    kernel: Weights,
}

/// A projection (D, D) with or without a bias (D).
#[derive(Clone, Debug)]
pub(super) struct Projection {
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
}

impl Projection {
    fn new(dim: usize, bias: bool, vb: &VarBuilder<'_>) -> Result<Self> {
        let weight = parameter(vb, (dim, dim), "weight", dim)?;
        let bias = bias.then(|| parameter(vb, dim, "bias", dim)).transpose()?;
        Ok(Self { weight, bias })
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        linear(x, &self.weight, self.bias.as_ref())
    }
}

impl ConvNnAttention {
    /// Takes `W_q`, `W_k`, `W_v`, `W_o` (D, D) and `conv` (of one head, without bias) from `vb`, for tokens of width
    /// `dim`.
    ///
    /// # Errors
    /// [`crate::Error::Option`] for options that exclude each other.
    pub fn new(dim: usize, config: &ConvNnAttentionConfig, vb: VarBuilder<'_>) -> Result<Self> {
        let path = layer_path(&vb, "conv_nn_attention");
        config.check(dim, &path)?;
        let head = dim / config.heads;
        let inputs = head + usize::from(config.positions);
        let k = config.neighbors;
        let conv = vb.pp("conv");
        let kernel = match config.kernel {
            Kernel::Standard => Weights::Standard(parameter(&conv, (head, inputs, k), "weight", inputs * k)?),
            Kernel::Depthwise => {
                Weights::Depthwise(conv.get_with_hints((head, 1, k), "weight", candle_nn::init::ONE)?)
            }
            Kernel::DepthwiseSeparable => Weights::DepthwiseSeparable(
                parameter(&conv.pp("0"), (inputs, 1, k), "weight", k)?,
                parameter(&conv.pp("1"), (head, inputs, 1), "weight", inputs)?,
            ),
        };
        let projection = |name: &str| Projection::new(dim, config.bias, &vb.pp(name));
        Ok(Self {
            config: config.clone(),
            dim,
            sample: None,
            w_q: projection("W_q")?,
            w_k: projection("W_k")?,
            w_v: projection("W_v")?,
            w_o: projection("W_o")?,
            kernel,
            path,
        })
    }

    /// The layer with a depthwise kernel of ones and the projections W_q, W_k, W_v, W_o (D, D).
    pub(super) fn depthwise_ones(
        config: &ConvNnAttentionConfig,
        dim: usize,
        projections: [Projection; 4],
    ) -> Result<Self> {
        let path = "conv_nn_attention".to_owned();
        config.check(dim, &path)?;
        let [w_q, w_k, w_v, w_o] = projections;
        let shape = (dim / config.heads, 1, config.neighbors);
        let kernel = Weights::Depthwise(Tensor::ones(shape, w_q.weight.dtype(), w_q.weight.device())?);
        Ok(Self { config: config.clone(), path, dim, sample: None, w_q, w_k, w_v, w_o, kernel })
    }

    /// The same layer with given candidates in place of a drawn sample: token numbers.
    #[must_use]
    pub fn with_candidates(self, tokens: Vec<u32>) -> Self {
        Self { sample: Some(tokens), ..self }
    }

    /// Tokens (B, N, D) to (B, N, D).
    ///
    /// # Errors
    /// [`crate::Error::Input`]; [`crate::Error::NeighborsExceedCandidates`] for a sequence shorter than K.
    pub fn forward_t(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.mix(x, None, pass)
    }

    /// [`Self::forward_t`] in evaluation with given neighbors, (B·heads or 1, N, K) into N rows.
    ///
    /// # Errors
    /// As [`Self::forward_t`], or neighbors of another sequence.
    pub fn forward_with(&self, x: &Tensor, neighbors: &Neighbors) -> Result<Tensor> {
        self.mix(x, Some(neighbors), &Pass::evaluation())
    }

    /// The neighbors that the layer chooses in evaluation: (B·heads, N, K), the heads of an image one after another.
    ///
    /// # Errors
    /// As [`Self::forward_t`].
    pub fn neighbors(&self, x: &Tensor) -> Result<Neighbors> {
        self.check_input(x)?;
        let (keys, queries) = (self.heads(&self.w_k.apply(x)?)?, self.heads(&self.w_q.apply(x)?)?);
        self.search(x.dim(1)?, &Pass::evaluation()).choose(&keys, &queries, Pool::Tokens, false)
    }

    /// Fails unless every one of `tokens` tokens has K candidates.
    ///
    /// # Errors
    /// [`crate::Error::NeighborsExceedCandidates`], [`crate::Error::Option`].
    pub fn check_tokens(&self, tokens: usize) -> Result<()> {
        self.search(tokens, &Pass::evaluation()).check(false)
    }

    /// The options.
    pub const fn config(&self) -> &ConvNnAttentionConfig {
        &self.config
    }

    fn mix(&self, x: &Tensor, given: Option<&Neighbors>, pass: &Pass) -> Result<Tensor> {
        self.check_input(x)?;
        let (b, n, _) = x.dims3()?;
        let Self { config: c, dim, .. } = self;
        let keys = self.heads(&self.w_k.apply(x)?)?; // (B·heads, N, d)
        let queries = self.heads(&self.w_q.apply(x)?)?;
        let values = self.heads(&self.w_v.apply(x)?)?;

        let neighbors = match given {
            Some(neighbors) => neighbors.clone(),
            None => self.search(n, pass).choose(&keys, &queries, Pool::Tokens, false)?,
        };
        neighbors.ensure_fits(&self.path, b * c.heads, n, n)?;
        let form = Score::of_attention(c.similarity, dim / c.heads);
        let scores = || score_with_own(&keys, &queries, &neighbors, form, own_in_sample(c.similarity));
        let rho = modulate(c.modulation, c.similarity, scores)?;
        let y = aggregate(&values, &neighbors, &rho, &self.kernel, None)?; // (B·heads, N, d)

        let y = match pass.is_training() && c.dropout > 0.0 {
            true => dropout(&y, c.dropout, &mut pass.generator("dropout", &self.path))?,
            false => y,
        };
        let y = match c.heads {
            1 => y,
            heads => y.reshape((b, heads, n, dim / heads))?.transpose(1, 2)?.reshape((b, n, *dim))?,
        };
        self.w_o.apply(&y)
    }

    /// (B, N, D) to (B·heads, N, d), with a position channel if the layer has positions.
    fn heads(&self, x: &Tensor) -> Result<Tensor> {
        let (b, n, d) = x.dims3()?;
        let heads = self.config.heads;
        let x = match heads {
            1 => x.clone(),
            _ => x.reshape((b, n, heads, d / heads))?.transpose(1, 2)?.reshape((b * heads, n, d / heads))?,
        };
        if !self.config.positions {
            return Ok(x);
        }
        let positions = Tensor::from_vec(linspace(n), (1, n, 1), x.device())?.to_dtype(x.dtype())?;
        Ok(Tensor::cat(&[&x, &positions.broadcast_as((b * heads, n, 1))?], 2)?)
    }

    fn search<'a>(&'a self, tokens: usize, pass: &'a Pass) -> Search<'a> {
        Search {
            layer: &self.path,
            canvas: Canvas::sequence(tokens, 0),
            similarity: self.config.similarity,
            neighbors: self.config.neighbors,
            candidates: self.config.candidates,
            sample: self.sample.as_deref(),
            pass,
        }
    }

    fn check_input(&self, x: &Tensor) -> Result<()> {
        let dtype = self.w_q.weight.dtype();
        Input { layer: &self.path, layout: "(B, N, D)", axis: 2, channels: self.dim, dtype }.check(x)
    }
}

module!(ConvNnAttention);

impl ConvNnAttentionConfig {
    fn check(&self, dim: usize, layer: &str) -> Result<()> {
        within(self.neighbors, 1, limits::NEIGHBORS, layer, "neighbors")?;
        check_candidates(self.candidates, layer)?;
        let divides = self.heads > 0 && dim.is_multiple_of(self.heads);
        ensure(divides, layer, "heads", self.heads, &format!("a divisor of the width, {dim}"))?;
        let fits = !self.positions || self.kernel != Kernel::Depthwise;
        let expected = "standard or depthwise_separable with `positions`, which change the width";
        ensure(fits, layer, "kernel", "depthwise", expected)?;
        self.similarity.ensure_compares(Compared::Projections, layer)?;
        ensure((0.0..1.0).contains(&self.dropout), layer, "dropout", self.dropout, "a number from 0 to below 1")
    }
}
