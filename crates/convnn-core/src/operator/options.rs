//! The closed choices of the operator, in the words of the configuration.

use serde::{Deserialize, Serialize};

/// What the similarity is taken of, in the layers without projections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Compare {
    /// The features of the tokens.
    #[default]
    Features,
    /// Their positions; the K neighbors are then sorted by token index before aggregation.
    Position,
    /// [λ·features/σ ; (1−λ)·position], the walk from position (λ = 0) to features (λ = 1).
    Blend(#[cfg_attr(feature = "schema", schemars(range(min = 0.0, max = 1.0)))] f64),
}

/// What is aggregated, in the layers without projections and the 2-D attention layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Values {
    /// The features of the neighbors.
    #[default]
    Features,
    /// The same with the position channels appended.
    FeaturesPosition,
}

/// Which tokens may be chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Candidates {
    /// Every token, the zero tokens of the padding included.
    #[default]
    All,
    /// `n` of those, drawn without replacement once a forward pass.
    Random {
        /// Number of candidates.
        #[cfg_attr(feature = "schema", schemars(range(min = 0, max = crate::operator::limits::TOKENS)))]
        n: usize,
    },
    /// A regular n×n lattice over the unpadded map (n positions on a sequence).
    Spatial {
        /// Candidates along each axis.
        #[cfg_attr(feature = "schema", schemars(range(min = 1, max = crate::operator::limits::SIDE)))]
        n: usize,
        /// Rows and columns left out at the border.
        #[serde(default)]
        #[cfg_attr(feature = "schema", schemars(range(min = 0, max = crate::operator::limits::SIDE)))]
        margin: usize,
    },
}

/// What the K selected scores become before they weigh the neighbors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Modulation {
    /// 1: the scores choose the neighbors and nothing more.
    None,
    /// Softmax over the K scores.
    #[default]
    Softmax,
    /// The scores themselves; for a distance 1 / (distance + 1e-8).
    Similarity,
}

/// The kernel that aggregates the K neighbors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kernel {
    /// W (O, C, K): a matrix for each rank.
    Standard,
    /// w (C, 1, K): a vector for each rank.
    #[default]
    Depthwise,
    /// Depthwise, then pointwise (O, C, 1).
    DepthwiseSeparable,
}

/// Where pixels are exchanged for channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Shuffle {
    /// Nowhere.
    #[default]
    None,
    /// Pixel-unshuffle first.
    Before,
    /// Pixel-shuffle last; the kernel has O·s² outputs.
    After,
    /// Both.
    Both,
}

impl Shuffle {
    /// Whether pixels become channels first.
    pub const fn before(self) -> bool {
        matches!(self, Self::Before | Self::Both)
    }

    /// Whether channels become pixels last.
    pub const fn after(self) -> bool {
        matches!(self, Self::After | Self::Both)
    }
}
