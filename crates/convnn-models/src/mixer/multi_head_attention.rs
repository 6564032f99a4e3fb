//! `multi_head_attention`: multi-head self-attention, the baseline.

use super::heads::{attention_flops, attention_kept, check};
use super::{Slot, TokenMixer, TokenMixerConfig};
use crate::Choice;
use candle_core::Tensor;
use candle_nn::{Module, VarBuilder};
use convnn_core::nn::{Attention, Dropout, Linear, attention, linear};
use convnn_core::{AttentionWeights, ConvNnAttention, Pass, Result};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Options of `multi_head_attention`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct MultiHeadAttentionConfig {
    /// Number of heads.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = convnn_core::layers::limits::CHANNELS)))]
    pub heads: usize,
    /// Dropout on the attention weights.
    #[cfg_attr(feature = "schema", schemars(extend("minimum" = 0.0, "exclusiveMaximum" = 1.0)))]
    pub dropout: f64,
}

impl Default for MultiHeadAttentionConfig {
    fn default() -> Self {
        Self { heads: 1, dropout: 0.1 }
    }
}

impl TokenMixerConfig for MultiHeadAttentionConfig {
    fn build(&self, slot: &Slot, vb: VarBuilder) -> Result<Arc<dyn TokenMixer>> {
        Ok(Arc::new(MultiHeadAttention::new(slot.dim, self, vb)?))
    }

    fn flops(&self, slot: &Slot) -> u64 {
        attention_flops(slot.dim, slot.tokens)
    }

    fn kept(&self, slot: &Slot) -> u64 {
        attention_kept(slot)
    }

    /// Attention takes all tokens.
    fn choice(&self, slot: &Slot) -> Option<Choice> {
        Some(Choice { candidates: slot.tokens, neighbors: slot.tokens })
    }
}

/// softmax(Q Kᵀ / √d) V per head, and an output projection: `W_q`, `W_k`, `W_v`, `W_o` (D, D), without biases.
#[derive(Clone, Debug)]
pub struct MultiHeadAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    heads: usize,
    dropout: Dropout,
}

impl MultiHeadAttention {
    /// For tokens of width `dim`.
    ///
    /// # Errors
    /// [`Error::Option`](convnn_core::Error::Option) for an option out of its range, and those of `vb`.
    pub fn new(dim: usize, config: &MultiHeadAttentionConfig, vb: VarBuilder) -> Result<Self> {
        check(&vb, "multi_head_attention", dim, config.heads, config.dropout)?;
        let projection = |name| Linear::without_bias(dim, dim, vb.pp(name));
        Ok(Self {
            query: projection("W_q")?,
            key: projection("W_k")?,
            value: projection("W_v")?,
            out: projection("W_o")?,
            heads: config.heads,
            dropout: Dropout::new(config.dropout, &vb)?,
        })
    }
}

impl TokenMixer for MultiHeadAttention {
    fn forward_t(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        // One product instead of three, whose gradients of x would have to be added.
        let weight = Tensor::cat(&[&self.query, &self.key, &self.value].map(Linear::weight), 0)?; // (3D, D)
        let qkv = linear(x, &weight, None)?;
        let options = Attention { heads: self.heads, neighbors: None, dropout: self.dropout.mask(pass)? };
        Ok(self.out.forward(&attention(&qkv, options)?)?)
    }

    fn to_conv_nn(&self, tokens: usize) -> Result<Option<Arc<dyn TokenMixer>>> {
        let weight = |linear: &Linear| candle_nn::Linear::new(linear.weight().clone(), None);
        let weights = AttentionWeights {
            query: weight(&self.query),
            key: weight(&self.key),
            value: weight(&self.value),
            out: weight(&self.out),
        };
        Ok(Some(Arc::new(ConvNnAttention::from_attention(&weights, self.heads, tokens)?)))
    }
}
