//! Tensor operations with exact gradients: a plain reference of each, and a fused CPU kernel where one is worth it.
//!
//! Tokens are rows: (B, N, C) contiguous. Unless said otherwise, inputs may be strided, and all of it works in f32 and f64.
#![allow(unsafe_code)]

mod aggregate;
mod aggregate_branches;
mod aggregate_kernels;
pub mod allocator;
mod blend;
mod convolution;
mod float;
mod matrix;
mod neighbors;
mod pair_scores;
mod parallel;
mod select;
mod select_kernels;
mod simd;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod testing;

pub use aggregate::{aggregate, aggregate_depthwise, aggregate_depthwise_reference, aggregate_reference};
pub use aggregate_branches::{aggregate_branches, aggregate_branches_reference};
pub(crate) use blend::Blend;
pub use convolution::{convolution, stencil};
pub use pair_scores::{Score, pair_scores, pair_scores_reference};
pub use select::{Selection, select, select_reference};

mod adamw;
mod attention;
mod batch_norm;
mod batch_norm_kernels;
mod cross_entropy;
mod dropout;
mod gelu;
mod gradient_norm;
mod in_place;
mod layer_norm;
mod linear;
mod max_pool;
mod relu;
mod repeated_linear;
mod sgd;
mod softmax;

pub use adamw::{AdamWStep, Moments, adamw_step, adamw_step_reference};
pub use attention::{Attention, attention, attention_reference};
pub use batch_norm::{Activation, Statistics, batch_norm, batch_norm_reference};
pub use cross_entropy::{cross_entropy, cross_entropy_reference};
pub use dropout::{DropoutMask, add_dropout, add_dropout_reference, dropout, dropout_reference};
pub use gelu::{gelu, gelu_reference};
pub use gradient_norm::{gradient_norm, gradient_norm_reference};
pub use layer_norm::{layer_norm, layer_norm_reference};
pub use linear::{linear, linear_reference};
pub use max_pool::{max_pool_2x2, max_pool_2x2_reference};
pub use relu::{relu, relu_reference};
pub use repeated_linear::{repeated_linear, repeated_linear_reference};
pub use sgd::{Momentum, SgdStep, sgd_step, sgd_step_reference};
pub use softmax::{softmax, softmax_reference};
