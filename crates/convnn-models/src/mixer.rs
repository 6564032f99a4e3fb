//! A token mixer of any kind.

use crate::config::{MixerConfig, NeighborAttentionConfig};
use crate::mixers::{BranchingTokens, KvtAttention, LocalAttention, MultiHeadAttention, SparseAttention};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use convnn_core::{ConvNnAttention, ConvNnAttentionConfig, Pass, Result};

/// What stands in the place of attention in a block: (B, N, D) → (B, N, D).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Mixer {
    /// Multi-head self-attention.
    MultiHeadAttention(MultiHeadAttention),
    /// ConvNN over projected tokens.
    ConvNnAttention(ConvNnAttention),
    /// Attention to the K largest scores of each row.
    KvtAttention(KvtAttention),
    /// Attention to a fixed pattern of positions.
    SparseAttention(SparseAttention),
    /// Attention to neighboring windows, with rotary positions.
    LocalAttention(LocalAttention),
    /// ConvNN attention on the first features, something else on the rest.
    BranchingTokens(BranchingTokens),
}

impl Mixer {
    /// The same mixer with given candidates in place of a drawn sample, where it draws one: token numbers.
    #[must_use]
    pub fn with_candidates(self, tokens: Vec<u32>) -> Self {
        match self {
            Self::ConvNnAttention(mixer) => Self::ConvNnAttention(mixer.with_candidates(tokens)),
            Self::BranchingTokens(mixer) => Self::BranchingTokens(mixer.with_candidates(tokens)),
            other => other,
        }
    }

    /// The mixer that `config` describes, over tokens of width `dim`.
    ///
    /// # Errors
    /// Where an option does not suit the mixer, or `builder` holds other shapes.
    pub fn new(dim: usize, config: &MixerConfig, builder: VarBuilder) -> Result<Self> {
        Ok(match config {
            MixerConfig::MultiHeadAttention(c) => Self::MultiHeadAttention(MultiHeadAttention::new(dim, c, builder)?),
            MixerConfig::ConvNnAttention(c) => {
                Self::ConvNnAttention(ConvNnAttention::new(&neighbor_attention(dim, c), builder)?)
            }
            MixerConfig::KvtAttention(c) => Self::KvtAttention(KvtAttention::new(dim, c, builder)?),
            MixerConfig::SparseAttention(c) => Self::SparseAttention(SparseAttention::new(dim, c, builder)?),
            MixerConfig::LocalAttention(c) => Self::LocalAttention(LocalAttention::new(dim, c, builder)?),
            MixerConfig::BranchingTokens(c) => Self::BranchingTokens(BranchingTokens::new(dim, c, builder)?),
        })
    }

    /// (B, N, D) → (B, N, D)
    ///
    /// # Errors
    /// Where the last dimension is not D, or there are fewer candidates than neighbors.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        match self {
            Self::MultiHeadAttention(mixer) => mixer.forward(x, pass),
            Self::ConvNnAttention(mixer) => mixer.forward(x, pass),
            Self::KvtAttention(mixer) => mixer.forward(x, pass),
            Self::SparseAttention(mixer) => mixer.forward(x, pass),
            Self::LocalAttention(mixer) => mixer.forward(x, pass),
            Self::BranchingTokens(mixer) => mixer.forward(x, pass),
        }
    }
}

/// The options of core's layer over tokens of width `dim`.
pub(crate) fn neighbor_attention(dim: usize, c: &NeighborAttentionConfig) -> ConvNnAttentionConfig {
    ConvNnAttentionConfig {
        dim,
        heads: c.heads,
        neighbors: c.neighbors,
        similarity: c.similarity,
        kernel: c.kernel,
        modulation: c.modulation,
        positions: c.positions,
        candidates: c.candidates,
        dropout: c.dropout,
    }
}
