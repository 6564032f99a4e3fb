//! Convolutional Nearest Neighbors (arXiv 2511.14137) on Candle: convolution and attention as one operation.
//!
//! Both *choose neighbors, weigh them, aggregate them*. This crate has exactly these three steps, and everything else is
//! a choice of the three:
//!
//! ```text
//! tokens ─▶ select(similarity, candidates, K) ─▶ modulate(ρ) ─▶ aggregate(kernel) ─▶ tokens
//!            └ or a fixed stencil (convolution)
//! ```
//!
//! | | select | modulate | aggregate |
//! |---|---|---|---|
//! | convolution | [`ops::stencil`] | 1 | [`ops::aggregate`] |
//! | ConvNN, [`ConvNn2d`] | [`ops::select`] on features, positions, or a blend | 1 | [`ops::aggregate`] |
//! | ConvNN attention, [`ConvNnAttention`] | [`ops::select`] on projections | [`ops::softmax`] of [`ops::pair_scores`] | any [`Kernel`] |
//! | self-attention | the same with K = N | the same | depthwise, all ones |
//!
//! There are two floors: functions on tensors in [`ops`], and the [`layers`] that hold parameters and call them. Each
//! op has a plain reference in tensor operations and, where it pays, a fused CPU kernel with an exact gradient.
//!
//! Letters: B batch, C channels, H and W the grid, N = H·W tokens, M candidates, K neighbors, D width, O outputs,
//! p padding. Tokens are rows, (B, N, C); the public 2-D layers take and give (B, C, H, W) and offer the token form
//! beside it.
//!
//! ```
//! # fn main() -> convnn_core::Result<()> {
//! use candle_core::{Device, Tensor};
//! use convnn_core::{Similarity, ops::{self, Selection}};
//!
//! // Four tokens on a line: 0 and 1 are near each other, 8 and 9 are.
//! let tokens = Tensor::new(&[[[0f32], [8.0], [1.0], [9.0]]], &Device::Cpu)?; // (1, 4, 1)
//! let selection = Selection {
//!     similarity: Similarity::Euclidean,
//!     neighbors: 2,
//!     own: Some(vec![0, 1, 2, 3]),
//!     ..Default::default()
//! };
//! let index = ops::select(&tokens, &tokens, &selection)?;
//! assert_eq!(index.to_vec3::<u32>()?, [[[0, 2], [1, 3], [2, 0], [3, 1]]]);
//!
//! // The kernel takes the difference of a token and its neighbor: weight (O, C, K).
//! let weight = Tensor::new(&[[[1f32, -1.0]]], &Device::Cpu)?;
//! let y = ops::aggregate(&tokens, &index, None, &weight, None)?;
//! assert_eq!(y.to_vec3::<f32>()?, [[[-1.0], [-1.0], [1.0], [1.0]]]);
//! # Ok(()) }
//! ```

mod error;
mod grid;
mod kernel;
pub mod layers;
pub mod nn;
pub mod operator;
pub mod ops;
pub mod optim;
pub mod random;
pub mod reference;
pub mod testing;

pub use error::{Error, Result};
pub use grid::Grid;
pub use kernel::backward::backward;
pub use layers::{
    AttentionWeights, Branching2d, Branching2dAttention, Branching2dAttentionConfig, Branching2dConfig, ConvNn1d,
    ConvNn1dConfig, ConvNn2d, ConvNn2dAttention, ConvNn2dAttentionConfig, ConvNn2dConfig, ConvNnAttention,
    ConvNnAttentionConfig,
};
pub use operator::{Candidates, Compare, Kernel, Modulation, Neighbors, Shuffle, Similarity, Values};
pub use random::streams;
pub use random::{Generator, Parameters, Pass, Streams, fan_in_uniform, is_running_statistic};
pub use testing as check;

/// The example of the workspace's README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct WorkspaceReadme;
