//! `conv_nn_attention`: the token mixer of the ViT, attention over the K best neighbors (SPEC section 3).

use super::conv_nn_2d_attention::own_first;
use super::{ensure, layer_name, parameter};
use crate::operator::canvas::{Canvas, checked, linspace};
use crate::ops::{self, Score, Selection};
use crate::{Candidates, Kernel, Modulation, Pass, Result, Similarity};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

/// Configuration of [`ConvNnAttention`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConvNnAttentionConfig {
    /// D
    pub dim: usize,
    /// Heads, which share one kernel.
    pub heads: usize,
    /// K
    pub neighbors: usize,
    /// Dot product, cosine or Euclidean.
    pub similarity: Similarity,
    /// The kernel that aggregates.
    pub kernel: Kernel,
    /// What the selected scores become.
    pub modulation: Modulation,
    /// Whether a position channel joins the keys, queries and values of each head.
    pub positions: bool,
    /// Which tokens may be chosen.
    pub candidates: Candidates,
    /// Dropout on the aggregated output, before W_o.
    pub dropout: f64,
}

impl Default for ConvNnAttentionConfig {
    fn default() -> Self {
        Self {
            dim: 192,
            heads: 1,
            neighbors: 9,
            similarity: Similarity::Dot,
            kernel: Kernel::Depthwise,
            modulation: Modulation::Softmax,
            positions: false,
            candidates: Candidates::All,
            dropout: 0.0,
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
    name: String,
    sample: Option<Vec<u32>>,
    w_q: Tensor,
    w_k: Tensor,
    w_v: Tensor,
    w_o: Tensor,
    kernel: Conv,
}

/// The kernel of rank.
#[derive(Clone, Debug)]
enum Conv {
    /// (d, d or d+1, K)
    Standard(Tensor),
    /// (d, 1, K)
    Depthwise(Tensor),
    /// (d or d+1, 1, K), then (d, d or d+1, 1)
    Separable(Tensor, Tensor),
}

impl ConvNnAttention {
    /// Takes `W_q`, `W_k`, `W_v`, `W_o` (D, D) and `conv` (of one head, without bias) from `vb`.
    ///
    /// # Errors
    /// [`crate::Error::Option`] for options that do not go together.
    pub fn new(config: &ConvNnAttentionConfig, vb: VarBuilder<'_>) -> Result<Self> {
        let name = layer_name(&vb, "conv_nn_attention");
        check(config, &name)?;
        let d = config.dim;
        let head = d / config.heads;
        let inputs = head + usize::from(config.positions);
        let k = config.neighbors;
        let conv = vb.pp("conv");
        let kernel = match config.kernel {
            Kernel::Standard => Conv::Standard(parameter(&conv, (head, inputs, k), "weight", inputs * k)?),
            Kernel::Depthwise => Conv::Depthwise(conv.get_with_hints((head, 1, k), "weight", candle_nn::init::ONE)?),
            Kernel::DepthwiseSeparable => Conv::Separable(
                parameter(&conv.pp("0"), (inputs, 1, k), "weight", k)?,
                parameter(&conv.pp("1"), (head, inputs, 1), "weight", inputs)?,
            ),
        };
        let matrix = |name: &str| parameter(&vb.pp(name), (d, d), "weight", d);
        Ok(Self {
            config: config.clone(),
            sample: None,
            w_q: matrix("W_q")?,
            w_k: matrix("W_k")?,
            w_v: matrix("W_v")?,
            w_o: matrix("W_o")?,
            kernel,
            name,
        })
    }

    /// The layer with a depthwise kernel of ones and the projections W_q, W_k, W_v, W_o (D, D).
    pub(crate) fn depthwise_ones(config: &ConvNnAttentionConfig, projections: [Tensor; 4]) -> Result<Self> {
        let name = "conv_nn_attention".to_owned();
        check(config, &name)?;
        let [w_q, w_k, w_v, w_o] = projections;
        let shape = (config.dim / config.heads, 1, config.neighbors);
        let kernel = Conv::Depthwise(Tensor::ones(shape, w_q.dtype(), w_q.device())?);
        Ok(Self { config: config.clone(), name, sample: None, w_q, w_k, w_v, w_o, kernel })
    }

    /// The same layer with given candidates in place of a drawn sample: token numbers.
    #[must_use]
    pub fn with_candidates(self, tokens: Vec<u32>) -> Self {
        Self { sample: Some(tokens), ..self }
    }

    /// Tokens (B, N, D) to (B, N, D).
    ///
    /// # Errors
    /// [`crate::Error::NeighborsExceedCandidates`], [`crate::Error::Shape`].
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let c = &self.config;
        let fits = x.rank() == 3 && x.dim(2)? == c.dim;
        crate::error::ensure_shape(fits, "conv_nn_attention", "x", x, || format!("(B, N, {})", c.dim))?;
        let (b, n, _) = x.dims3()?;
        let keys = self.heads(&ops::linear(x, &self.w_k, None)?)?; // (B·heads, N, d)
        let queries = self.heads(&ops::linear(x, &self.w_q, None)?)?;
        let values = self.heads(&ops::linear(x, &self.w_v, None)?)?;

        let index = self.select(&keys, &queries, pass)?; // (B·heads, N, K)
        let rho = self.modulate(&keys, &queries, &index)?;
        let y = match &self.kernel {
            Conv::Standard(weight) => ops::aggregate(&values, &index, rho.as_ref(), weight, None)?,
            Conv::Depthwise(weight) => ops::aggregate_depthwise(&values, &index, rho.as_ref(), weight, None)?,
            Conv::Separable(depthwise, pointwise) => {
                let y = ops::aggregate_depthwise(&values, &index, rho.as_ref(), depthwise, None)?;
                ops::linear(&y, &pointwise.squeeze(2)?, None)?
            }
        }; // (B·heads, N, d)

        let y = if pass.is_training() && c.dropout > 0.0 {
            ops::dropout(&y, c.dropout, &mut pass.generator("dropout", &self.name))?
        } else {
            y
        };
        let y = match c.heads {
            1 => y,
            heads => y.reshape((b, heads, n, c.dim / heads))?.transpose(1, 2)?.reshape((b, n, c.dim))?,
        };
        ops::linear(&y, &self.w_o, None)
    }

    /// (B, N, D) to (B·heads, N, d), with a position channel where the layer has positions.
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

    fn select(&self, keys: &Tensor, queries: &Tensor, pass: &Pass) -> Result<Tensor> {
        let c = &self.config;
        let n = keys.dim(1)?;
        let sequence = Canvas::sequence(n, 0);
        let candidates = sequence.candidates(self.sample.as_deref(), c.candidates, pass, &self.name)?;
        let selection = Selection {
            similarity: c.similarity,
            neighbors: c.neighbors,
            own: self.is_sampled().then(|| (0..n as u32).collect()),
            candidates,
            zeros: Vec::new(),
        };
        ops::select(&keys.detach(), &queries.detach(), &checked(selection, &self.name, n)?)
    }

    /// ρ (B·heads, N, K), or `None` for 1.
    fn modulate(&self, keys: &Tensor, queries: &Tensor, index: &Tensor) -> Result<Option<Tensor>> {
        let c = &self.config;
        if c.modulation == Modulation::None {
            return Ok(None);
        }
        let score = match c.similarity {
            Similarity::Euclidean => Score::NegativeDistance,
            other => Score::of(other, &self.name, c.dim / c.heads)?,
        };
        let scores = if self.is_sampled() {
            let own = if c.similarity == Similarity::Euclidean { -1.0 } else { 1.0 };
            own_first(keys, queries, index, score, own)?
        } else {
            ops::pair_scores(keys, queries, index, score)?
        };
        Ok(Some(match (c.modulation, c.similarity) {
            (Modulation::Similarity, Similarity::Euclidean) => (scores.neg()? + 1e-8)?.recip()?,
            (Modulation::Similarity, _) => scores,
            _ => ops::softmax(&scores)?,
        }))
    }

    /// Whether a sample of candidates is in use, where the token itself comes first.
    const fn is_sampled(&self) -> bool {
        self.sample.is_some() || !matches!(self.config.candidates, Candidates::All)
    }

    /// The configuration.
    pub const fn config(&self) -> &ConvNnAttentionConfig {
        &self.config
    }
}

fn check(c: &ConvNnAttentionConfig, name: &str) -> Result<()> {
    ensure(c.neighbors > 0, name, "neighbors", 0, "at least 1")?;
    let divides = c.heads > 0 && c.dim.is_multiple_of(c.heads);
    ensure(divides, name, "heads", c.heads, &format!("a divisor of dim {}", c.dim))?;
    ensure(
        !c.positions || c.kernel != Kernel::Depthwise,
        name,
        "positions",
        "true with a depthwise kernel",
        "a standard or depthwise_separable kernel, which can take in the position channel",
    )?;
    ensure(
        c.similarity != Similarity::Chebyshev,
        name,
        "similarity",
        "chebyshev",
        "dot, cosine or euclidean: scores of features",
    )?;
    ensure((0.0..1.0).contains(&c.dropout), name, "dropout", c.dropout, "a share from 0 to below 1")
}
