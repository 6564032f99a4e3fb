//! The token mixers that a Vision Transformer takes in place of its attention.

use convnn_core::{Candidates, Kernel, Modulation, Similarity};
use serde::{Deserialize, Serialize};

/// The table `[layer]` of a Vision Transformer. The width D is that of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum MixerConfig {
    /// Multi-head self-attention.
    MultiHeadAttention(MultiHeadAttentionConfig),
    /// ConvNN over projected tokens.
    ConvNnAttention(NeighborAttentionConfig),
    /// Attention to the K largest scores of each row.
    KvtAttention(KvtAttentionConfig),
    /// Attention to a fixed pattern of positions.
    SparseAttention(SparseAttentionConfig),
    /// Attention to neighboring windows, with rotary positions.
    LocalAttention(LocalAttentionConfig),
    /// ConvNN attention on the first features, a convolution or attention on the rest.
    BranchingTokens(BranchingTokensConfig),
}

impl MixerConfig {
    /// Every kind.
    pub const KINDS: [&'static str; 6] = [
        "multi_head_attention",
        "conv_nn_attention",
        "kvt_attention",
        "sparse_attention",
        "local_attention",
        "branching_tokens",
    ];

    /// The word of this kind.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::MultiHeadAttention(_) => "multi_head_attention",
            Self::ConvNnAttention(_) => "conv_nn_attention",
            Self::KvtAttention(_) => "kvt_attention",
            Self::SparseAttention(_) => "sparse_attention",
            Self::LocalAttention(_) => "local_attention",
            Self::BranchingTokens(_) => "branching_tokens",
        }
    }
}

/// Options of `multi_head_attention`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MultiHeadAttentionConfig {
    /// Number of heads.
    pub heads: usize,
    /// Dropout on the attention weights.
    pub dropout: f64,
}

impl Default for MultiHeadAttentionConfig {
    fn default() -> Self {
        Self { heads: 1, dropout: 0.1 }
    }
}

/// Options of `conv_nn_attention`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NeighborAttentionConfig {
    /// Number of heads; they share one kernel.
    pub heads: usize,
    /// Number of neighbors, K.
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
    /// Dropout on the aggregated output.
    pub dropout: f64,
}

impl Default for NeighborAttentionConfig {
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
        }
    }
}

/// Options of `kvt_attention`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KvtAttentionConfig {
    /// Number of heads.
    pub heads: usize,
    /// Scores kept in each row, K.
    pub neighbors: usize,
    /// Dropout on the attention weights.
    pub dropout: f64,
}

impl Default for KvtAttentionConfig {
    fn default() -> Self {
        Self { heads: 1, neighbors: 100, dropout: 0.1 }
    }
}

/// Which positions a token attends to in `sparse_attention`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SparseMode {
    /// |i − j| ≤ window / 2.
    #[default]
    Local,
    /// |i − j| a multiple of window.
    Strided,
}

/// Options of `sparse_attention`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SparseAttentionConfig {
    /// Number of heads.
    pub heads: usize,
    /// The pattern.
    pub mode: SparseMode,
    /// Width of the band, or the stride.
    pub window: usize,
    /// Dropout on the attention weights.
    pub dropout: f64,
}

impl Default for SparseAttentionConfig {
    fn default() -> Self {
        Self { heads: 1, mode: SparseMode::Local, window: 49, dropout: 0.1 }
    }
}

/// Options of `local_attention`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocalAttentionConfig {
    /// Number of heads.
    pub heads: usize,
    /// Tokens of a window, and the farthest that a token attends.
    pub window: usize,
    /// Width of one head; heads · dim_head need not be the width of the model.
    pub dim_head: usize,
}

impl Default for LocalAttentionConfig {
    fn default() -> Self {
        Self { heads: 1, window: 128, dim_head: 64 }
    }
}

/// What works on the features that `conv_nn_attention` leaves in `branching_tokens`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OtherBranch {
    /// A convolution along the sequence.
    Conv1d,
    /// Multi-head attention.
    #[default]
    Attention,
}

/// Options of `branching_tokens`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BranchingTokensConfig {
    /// Share of the features that go through ConvNN attention.
    pub branch_ratio: f64,
    /// What works on the other features.
    pub other: OtherBranch,
    /// Width of the kernel where that is a convolution.
    pub kernel_size: usize,
    /// Number of heads in both branches.
    pub heads: usize,
    /// Number of neighbors, K.
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
    /// Dropout in both branches.
    pub dropout: f64,
}

impl Default for BranchingTokensConfig {
    fn default() -> Self {
        let n = NeighborAttentionConfig::default();
        Self {
            branch_ratio: 0.5,
            other: OtherBranch::Attention,
            kernel_size: 9,
            heads: n.heads,
            neighbors: n.neighbors,
            similarity: n.similarity,
            kernel: n.kernel,
            modulation: n.modulation,
            positions: n.positions,
            candidates: n.candidates,
            dropout: n.dropout,
        }
    }
}

impl BranchingTokensConfig {
    /// The options of the ConvNN branch.
    pub fn neighbor_options(&self) -> NeighborAttentionConfig {
        NeighborAttentionConfig {
            heads: self.heads,
            neighbors: self.neighbors,
            similarity: self.similarity,
            kernel: self.kernel,
            modulation: self.modulation,
            positions: self.positions,
            candidates: self.candidates,
            dropout: self.dropout,
        }
    }

    /// The options of the other branch where that is attention.
    pub fn attention_options(&self) -> MultiHeadAttentionConfig {
        MultiHeadAttentionConfig { heads: self.heads, dropout: self.dropout }
    }

    /// Features of the ConvNN branch among `dim`: ⌊ratio·D⌋.
    pub fn cut(&self, dim: usize) -> usize {
        (self.branch_ratio * dim as f64) as usize
    }
}
