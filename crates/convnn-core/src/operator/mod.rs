//! The operator: *select* neighbors, *modulate* their scores, *aggregate* them.
//!
//! ```text
//! tokens ─▶ select(similarity, candidates, K) ─▶ Neighbors ─▶ modulate(ρ) ─▶ aggregate(kernel) ─▶ tokens
//!            └ or a fixed stencil (convolution)
//! ```
//!
//! | step | function | what it takes and gives |
//! |---|---|---|
//! | select | [`select()`], or [`stencil()`] for a convolution | tokens to [`Neighbors`], without a gradient |
//! | modulate | [`modulate()`] of [`score()`] | the scores of the chosen pairs to ρ ([`Rho`]) |
//! | aggregate | [`aggregate()`] | values, neighbors and ρ to tokens, by a kernel with a weight for each rank ([`Weights`]) |
//!
//! Tokens are rows: (B, N, C) contiguous.

pub(crate) mod aggregate;
mod blend;
pub(crate) mod canvas;
pub(crate) mod limits;
mod modulate;
mod neighbors;
mod options;
mod positions;
pub(crate) mod score;
pub(crate) mod search;
pub(crate) mod select;
pub(crate) mod similarity;
mod stencil;

pub use aggregate::{Weights, aggregate, aggregate_branches};
pub(crate) use blend::Blend;
pub use modulate::{Rho, modulate};
pub use neighbors::Neighbors;
pub use options::{Candidates, Compare, Kernel, Modulation, Shuffle, Values};
pub use score::{Score, score};
pub(crate) use score::{own_among_all, own_in_sample, score_with_own};
pub use select::{CandidateRows, Selection, select};
pub use similarity::Similarity;
pub use stencil::{convolution, stencil};

use crate::Result;
use candle_core::{DType, Tensor};

/// f16 and bf16 as f32.
fn widened(x: &Tensor) -> Result<Tensor> {
    Ok(if matches!(x.dtype(), DType::F16 | DType::BF16) { x.to_dtype(DType::F32)? } else { x.clone() })
}
