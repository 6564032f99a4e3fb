//! Select, modulate, aggregate.
#![allow(unsafe_code)]

mod aggregate;
mod aggregate_branches;
mod aggregate_kernels;
mod blend;
pub(crate) mod canvas;
pub(crate) mod neighborhood;
mod neighbors;
mod options;
mod score;
mod select;
mod select_kernels;
mod stencil;

pub use aggregate::{aggregate, aggregate_depthwise, aggregate_depthwise_reference, aggregate_reference};
pub use aggregate_branches::{aggregate_branches, aggregate_branches_reference};
pub(crate) use blend::Blend;
pub use options::{Candidates, Compare, Kernel, Modulation, Shuffle, Similarity, Values};
pub use score::{Score, pair_scores, pair_scores_reference};
pub use select::{Selection, select, select_reference};
pub use stencil::{convolution, stencil};
