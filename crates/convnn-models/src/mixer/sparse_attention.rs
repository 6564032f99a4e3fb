//! `sparse_attention`: attention restricted to a fixed pattern of positions.

use super::heads::{attend, attention_flops, check, join, mask, scores, split};
use super::{Slot, TokenMixer, TokenMixerConfig};
use crate::error::within_option;
use crate::flops::values;
use candle_core::Tensor;
use candle_nn::{Module, VarBuilder};
use convnn_core::layers::limits;
use convnn_core::nn::{Dropout, Linear};
use convnn_core::{Pass, Result};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const KIND: &str = "sparse_attention";

/// Which tokens j a token i attends to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SparseMode {
    /// |i − j| ≤ window / 2
    #[default]
    Local,
    /// |i − j| a multiple of window
    Strided,
    /// Every j; `window` has no effect.
    All,
}

/// Options of `sparse_attention`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct SparseAttentionConfig {
    /// Number of heads.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = convnn_core::layers::limits::CHANNELS)))]
    pub heads: usize,
    /// The pattern.
    pub mode: SparseMode,
    /// Width of the band, or the stride.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = convnn_core::layers::limits::TOKENS)))]
    pub window: usize,
    /// Dropout on the attention weights.
    #[cfg_attr(feature = "schema", schemars(extend("minimum" = 0.0, "exclusiveMaximum" = 1.0)))]
    pub dropout: f64,
}

impl Default for SparseAttentionConfig {
    fn default() -> Self {
        Self { heads: 1, mode: SparseMode::Local, window: 49, dropout: 0.1 }
    }
}

impl TokenMixerConfig for SparseAttentionConfig {
    fn build(&self, slot: &Slot, vb: VarBuilder) -> Result<Arc<dyn TokenMixer>> {
        Ok(Arc::new(SparseAttention::new(slot.dim, self, vb)?))
    }

    fn flops(&self, slot: &Slot) -> u64 {
        // Four more operations per score: the scale, and three of the mask.
        attention_flops(slot.dim, slot.tokens) + crate::flops::elements(&[4, self.heads, slot.tokens, slot.tokens])
    }

    fn kept(&self, slot: &Slot) -> u64 {
        let Slot { tokens, dim, .. } = *slot;
        // Scores, masked, through the softmax and the dropout.
        let maps = 2 + usize::from(self.mode != SparseMode::All) + usize::from(self.dropout > 0.0);
        let copies = if self.heads > 1 { 4 } else { 0 };
        values(tokens * self.heads, tokens * maps) + values(tokens, (6 + copies) * dim)
    }
}

/// Self-attention among the pairs of positions that [`SparseMode`] allows: `q_proj`, `k_proj`, `v_proj`, `out_proj`
/// (D, D), without biases.
#[derive(Clone, Debug)]
pub struct SparseAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    heads: usize,
    mode: SparseMode,
    window: usize,
    dropout: Dropout,
}

impl SparseAttention {
    /// For tokens of width `dim`.
    ///
    /// # Errors
    /// [`Error::Option`](convnn_core::Error::Option) for an option out of its range, and those of `vb`.
    pub fn new(dim: usize, config: &SparseAttentionConfig, vb: VarBuilder) -> Result<Self> {
        check(&vb, KIND, dim, config.heads, config.dropout)?;
        within_option(config.window, 1, limits::TOKENS, &vb, KIND, "window")?;
        let linear = |name| Linear::without_bias(dim, dim, vb.pp(name));
        Ok(Self {
            query: linear("q_proj")?,
            key: linear("k_proj")?,
            value: linear("v_proj")?,
            out: linear("out_proj")?,
            heads: config.heads,
            mode: config.mode,
            window: config.window,
            dropout: Dropout::new(config.dropout, &vb)?,
        })
    }
}

impl TokenMixer for SparseAttention {
    fn forward_t(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let project = |linear: &Linear| split(&linear.forward(x)?, self.heads); // (B, h, N, d)
        let window = self.window;
        let scores = scores(&project(&self.query)?, &project(&self.key)?)?; // (B, h, N, N)
        let scores = match self.mode {
            SparseMode::Local => scores.broadcast_add(&mask(&scores, |i, j| i.abs_diff(j) <= window / 2)?)?,
            SparseMode::Strided => {
                scores.broadcast_add(&mask(&scores, |i, j| i.abs_diff(j).is_multiple_of(window))?)?
            }
            SparseMode::All => scores,
        };
        Ok(self.out.forward(&join(&attend(&scores, &project(&self.value)?, Some(&self.dropout), pass)?)?)?)
    }
}
