#![doc = include_str!("../README.md")]

mod error;
mod grid;
mod kernel;
pub mod layers;
pub mod nn;
pub mod operator;
pub mod optim;
pub mod random;
pub mod reference;
pub mod testing;

pub use error::{Error, Result};
pub use grid::Grid;
pub use kernel::backward::backward;
pub use kernel::simd::instruction_set;
pub use kernel::{allocator, threads};
pub use layers::{
    AttentionWeights, Branching2d, Branching2dAttention, Branching2dAttentionConfig, Branching2dConfig, ConvNn1d,
    ConvNn1dConfig, ConvNn2d, ConvNn2dAttention, ConvNn2dAttentionConfig, ConvNn2dConfig, ConvNnAttention,
    ConvNnAttentionConfig,
};
pub use operator::{Candidates, Compare, Kernel, Modulation, Neighbors, Shuffle, Similarity, Values};
pub use random::{Generator, Parameters, Pass, Streams, fan_in_uniform, is_running_statistic};

/// The example of the workspace's README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct WorkspaceReadme;
