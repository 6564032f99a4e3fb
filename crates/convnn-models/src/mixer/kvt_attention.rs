//! `kvt_attention`: attention restricted to the K largest scores of each row (KVT, Wang et al., ECCV 2022).

use super::heads::{attention_flops, attention_kept, check};
use super::{Slot, TokenMixer, TokenMixerConfig};
use crate::Choice;
use crate::error::{layer_name, within_option};
use candle_core::Tensor;
use candle_nn::{Module, VarBuilder};
use convnn_core::layers::limits;
use convnn_core::nn::{Attention, Dropout, Linear, attention};
use convnn_core::{ConvNnAttention, Error, Neighbors, Pass, Result};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const KIND: &str = "kvt_attention";

/// Options of `kvt_attention`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct KvtAttentionConfig {
    /// Number of heads.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = convnn_core::layers::limits::CHANNELS)))]
    pub heads: usize,
    /// K, the number of scores kept per row.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = convnn_core::layers::limits::NEIGHBORS)))]
    pub neighbors: usize,
    /// Dropout on the attention weights.
    #[cfg_attr(feature = "schema", schemars(extend("minimum" = 0.0, "exclusiveMaximum" = 1.0)))]
    pub dropout: f64,
}

impl Default for KvtAttentionConfig {
    fn default() -> Self {
        Self { heads: 1, neighbors: 100, dropout: 0.1 }
    }
}

impl TokenMixerConfig for KvtAttentionConfig {
    fn build(&self, slot: &Slot, vb: VarBuilder) -> Result<Arc<dyn TokenMixer>> {
        let mixer = KvtAttention::new(slot.dim, self, vb)?;
        mixer.check_tokens(slot.tokens)?;
        Ok(Arc::new(mixer))
    }

    fn flops(&self, slot: &Slot) -> u64 {
        // One more operation per score, for the scale.
        attention_flops(slot.dim, slot.tokens) + crate::flops::elements(&[self.heads, slot.tokens, slot.tokens])
    }

    fn kept(&self, slot: &Slot) -> u64 {
        attention_kept(slot)
    }

    fn choice(&self, slot: &Slot) -> Option<Choice> {
        Some(Choice { candidates: slot.tokens, neighbors: self.neighbors })
    }
}

/// Self-attention whose softmax runs over the K largest scores of each row: `qkv` (3D, D) and `proj` (D, D), without
/// biases.
///
/// Gradients reach the scores that are kept; the choice itself has none. Of equal scores the lower token index is kept.
#[derive(Clone, Debug)]
pub struct KvtAttention {
    qkv: Linear,
    out: Linear,
    heads: usize,
    neighbors: usize,
    dropout: Dropout,
    name: String,
}

impl KvtAttention {
    /// For tokens of width `dim`.
    ///
    /// # Errors
    /// [`Error::Option`](convnn_core::Error::Option) for an option out of its range, and those of `vb`.
    pub fn new(dim: usize, config: &KvtAttentionConfig, vb: VarBuilder) -> Result<Self> {
        check(&vb, KIND, dim, config.heads, config.dropout)?;
        within_option(config.neighbors, 1, limits::NEIGHBORS, &vb, KIND, "neighbors")?;
        Ok(Self {
            qkv: Linear::without_bias(dim, 3 * dim, vb.pp("qkv"))?,
            out: Linear::without_bias(dim, dim, vb.pp("proj"))?,
            heads: config.heads,
            neighbors: config.neighbors,
            dropout: Dropout::new(config.dropout, &vb)?,
            name: layer_name(&vb, KIND),
        })
    }

    /// Fails if a sequence of `tokens` tokens has fewer than K candidates.
    fn check_tokens(&self, tokens: usize) -> Result<()> {
        if self.neighbors <= tokens {
            return Ok(());
        }
        let (layer, neighbors) = (self.name.clone(), self.neighbors);
        Err(Error::NeighborsExceedCandidates { layer, neighbors, candidates: tokens })
    }
}

impl TokenMixer for KvtAttention {
    fn forward_t(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.check_tokens(x.dim(1)?)?;
        let options =
            Attention { heads: self.heads, neighbors: Some(self.neighbors), dropout: self.dropout.mask(pass)? };
        Ok(self.out.forward(&attention(&self.qkv.forward(x)?, options)?)?)
    }

    fn neighbors(&self, x: &Tensor) -> Result<Option<Neighbors>> {
        self.to_conv_nn(x.dim(1)?)?.map_or(Ok(None), |conv_nn| conv_nn.neighbors(x))
    }

    fn to_conv_nn(&self, _: usize) -> Result<Option<Arc<dyn TokenMixer>>> {
        let [qkv, out] = [&self.qkv, &self.out].map(|l| candle_nn::Linear::new(l.weight().clone(), None));
        Ok(Some(Arc::new(ConvNnAttention::from_kvt_attention(&qkv, &out, self.heads, self.neighbors)?)))
    }
}
