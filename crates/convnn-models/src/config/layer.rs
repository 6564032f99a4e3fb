//! The 2-D layers that a VGG takes in place of its convolutions.

use convnn_core::{Candidates, Compare, Shuffle, Similarity, Values};
use serde::{Deserialize, Serialize};

/// The table `[layer]` of a VGG.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
#[non_exhaustive]
pub enum LayerConfig {
    /// A convolution and nothing more: VGG as published.
    #[serde(rename = "conv2d")]
    Conv2d(ConvolutionConfig),
    /// ConvNN without projections.
    #[serde(rename = "conv_nn_2d")]
    ConvNn2d(NeighborConfig),
    /// ConvNN with projections.
    #[serde(rename = "conv_nn_2d_attention")]
    ConvNn2dAttention(NeighborConfig),
    /// A convolution beside a ConvNN branch.
    #[serde(rename = "branching_2d")]
    Branching2d(BranchingConfig),
    /// A convolution beside a ConvNN branch with projections.
    #[serde(rename = "branching_2d_attention")]
    Branching2dAttention(BranchingConfig),
}

impl LayerConfig {
    /// Every kind.
    pub const KINDS: [&'static str; 5] =
        ["conv2d", "conv_nn_2d", "conv_nn_2d_attention", "branching_2d", "branching_2d_attention"];

    /// The word of this kind.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Conv2d(_) => "conv2d",
            Self::ConvNn2d(_) => "conv_nn_2d",
            Self::ConvNn2dAttention(_) => "conv_nn_2d_attention",
            Self::Branching2d(_) => "branching_2d",
            Self::Branching2dAttention(_) => "branching_2d_attention",
        }
    }

    /// Share of the output channels that come from neighbors: 0 for a convolution, 1 for ConvNN alone.
    pub const fn branch_ratio(&self) -> f64 {
        match self {
            Self::Conv2d(_) => 0.0,
            Self::ConvNn2d(_) | Self::ConvNn2dAttention(_) => 1.0,
            Self::Branching2d(c) | Self::Branching2dAttention(c) => c.branch_ratio,
        }
    }

    /// The options of the ConvNN part, where the kind has one.
    pub fn neighbor_options(&self) -> Option<NeighborConfig> {
        match self {
            Self::Conv2d(_) => None,
            Self::ConvNn2d(c) | Self::ConvNn2dAttention(c) => Some(c.clone()),
            Self::Branching2d(c) | Self::Branching2dAttention(c) => Some(c.neighbor_options()),
        }
    }
}

/// Options of `conv2d`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConvolutionConfig {
    /// Side of the kernel, κ.
    pub kernel_size: usize,
}

impl Default for ConvolutionConfig {
    fn default() -> Self {
        Self { kernel_size: 3 }
    }
}

/// Options of `conv_nn_2d` and `conv_nn_2d_attention`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NeighborConfig {
    /// Number of neighbors, K.
    pub neighbors: usize,
    /// Zero tokens added on every side, p.
    pub padding: usize,
    /// How close two tokens are.
    pub similarity: Similarity,
    /// What the similarity is taken of; a layer with projections compares features.
    pub compare: Compare,
    /// What is aggregated.
    pub values: Values,
    /// Which tokens may be chosen.
    pub candidates: Candidates,
    /// Where pixels are exchanged for channels.
    pub shuffle: Shuffle,
    /// Side of the blocks that are exchanged, s.
    pub shuffle_scale: usize,
}

impl Default for NeighborConfig {
    fn default() -> Self {
        Self {
            neighbors: 9,
            padding: 1,
            similarity: Similarity::Cosine,
            compare: Compare::Features,
            values: Values::Features,
            candidates: Candidates::All,
            shuffle: Shuffle::None,
            shuffle_scale: 1,
        }
    }
}

/// Options of `branching_2d` and `branching_2d_attention`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BranchingConfig {
    /// Share of the output channels from the ConvNN branch: 0 the convolution alone, 1 the ConvNN branch alone.
    pub branch_ratio: f64,
    /// Side of the kernel of the convolution, κ.
    pub kernel_size: usize,
    /// Number of neighbors, K.
    pub neighbors: usize,
    /// Zero tokens added on every side in the ConvNN branch, p.
    pub padding: usize,
    /// How close two tokens are.
    pub similarity: Similarity,
    /// What the similarity is taken of; a branch with projections compares features.
    pub compare: Compare,
    /// What is aggregated.
    pub values: Values,
    /// Which tokens may be chosen.
    pub candidates: Candidates,
    /// Where pixels are exchanged for channels in the ConvNN branch.
    pub shuffle: Shuffle,
    /// Side of the blocks that are exchanged, s.
    pub shuffle_scale: usize,
}

impl Default for BranchingConfig {
    fn default() -> Self {
        let n = NeighborConfig::default();
        Self {
            branch_ratio: 0.5,
            kernel_size: 3,
            neighbors: n.neighbors,
            padding: n.padding,
            similarity: n.similarity,
            compare: n.compare,
            values: n.values,
            candidates: n.candidates,
            shuffle: n.shuffle,
            shuffle_scale: n.shuffle_scale,
        }
    }
}

impl BranchingConfig {
    /// The options of the ConvNN branch.
    pub fn neighbor_options(&self) -> NeighborConfig {
        NeighborConfig {
            neighbors: self.neighbors,
            padding: self.padding,
            similarity: self.similarity,
            compare: self.compare,
            values: self.values,
            candidates: self.candidates,
            shuffle: self.shuffle,
            shuffle_scale: self.shuffle_scale,
        }
    }

    /// Output channels of the ConvNN branch among `outputs`: ⌊ratio·O⌋.
    pub fn neighbor_outputs(&self, outputs: usize) -> usize {
        (self.branch_ratio * outputs as f64) as usize
    }
}
