//! How close two tokens are: one file for each similarity, and the list of them.
//!
//! A file holds all that a similarity decides: the score by which candidates are ordered (a block at a time), the score
//! of a chosen pair with its gradient, what it may be taken of, and the score that a token gets as its own first
//! neighbor. To add one, write its file and add it to [`Similarity`] and to the list below it.

mod chebyshev;
mod cosine;
mod dot;
mod euclidean;
mod manhattan;

use super::positions::Position;
use crate::kernel::float::Float;
use crate::{Error, Result};
use candle_core::Tensor;
pub(crate) use chebyshev::Chebyshev;
pub(crate) use cosine::Cosine;
pub(crate) use dot::Dot;
pub(crate) use euclidean::{Euclidean, RootedEuclidean};
pub(crate) use manhattan::Manhattan;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// How close two tokens are; larger is closer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Similarity {
    /// x·y / (‖x‖‖y‖), norms no smaller than 1e-12, clamped to [−1, 1].
    #[default]
    Cosine,
    /// −‖x−y‖² in the layers without projections and in the 2-D attention layer, −‖x−y‖ in `conv_nn_attention`.
    Euclidean,
    /// x·y / √d with d the width of one head, only in `conv_nn_attention` and `branching_tokens`.
    Dot,
    /// −Σ|x−y|.
    Manhattan,
    /// −max|x−y| of pixel positions: the square windows of convolution.
    Chebyshev,
}

/// Evaluates an expression with `M` standing for the [`Metric`] of a [`Similarity`].
macro_rules! with_metric {
    ($similarity:expr, $M:ident => $body:expr) => {
        $crate::operator::similarity::with_metric!(@ $similarity, $M => $body;
            Cosine, Euclidean, Dot, Manhattan, Chebyshev)
    };
    (@ $similarity:expr, $M:ident => $body:expr; $($name:ident),*) => {
        match $similarity {
            $($crate::operator::Similarity::$name => {
                type $M = $crate::operator::similarity::$name;
                $body
            })*
        }
    };
}
pub(crate) use with_metric;

impl Similarity {
    /// Every similarity.
    pub const ALL: [Self; 5] = [Self::Cosine, Self::Euclidean, Self::Dot, Self::Manhattan, Self::Chebyshev];

    /// The name in configurations.
    pub fn name(self) -> &'static str {
        with_metric!(self, M => M::NAME)
    }

    /// Whether it is minus a distance rather than a product.
    pub fn is_distance(self) -> bool {
        with_metric!(self, M => M::DISTANCE)
    }

    /// Fails unless a layer may compare `what` by this similarity.
    pub(crate) fn ensure_compares(self, what: Compared, layer: &str) -> Result<()> {
        let compares = with_metric!(self, M => M::COMPARES);
        if compares.contains(&what) {
            return Ok(());
        }
        let suitable: Vec<_> = Self::ALL
            .into_iter()
            .filter(|other| with_metric!(*other, M => M::COMPARES.contains(&what)))
            .map(Self::name)
            .collect();
        Err(Error::Option {
            layer: layer.to_owned(),
            option: "similarity",
            found: self.name().to_owned(),
            expected: format!("one of {} for {}", suitable.join(", "), what.name()),
        })
    }
}

/// What a similarity is taken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    /// Features as they come, or a blend of features and positions.
    Features,
    /// Projections of features.
    Projections,
    /// Positions alone.
    Positions,
}

impl Compared {
    const fn name(self) -> &'static str {
        match self {
            Self::Features => "features",
            Self::Projections => "projections",
            Self::Positions => "positions",
        }
    }
}

/// The score of a chosen pair.
///
/// The functions over [`Float`] run inside kernels: they are `#[inline(always)]`, and so is every closure in them.
pub(crate) trait Pair: Copy + Send + Sync + 'static {
    /// What the scores of one query have in common, computed once.
    #[inline(always)]
    fn of_query<T: Float>(_query: &[T]) -> T {
        T::ZERO
    }

    /// The score of a pair; `of_query` comes from [`Self::of_query`] of `x`.
    fn pair<T: Float>(x: &[T], y: &[T], of_query: T) -> T;

    /// Adds the gradients of `g` times the score of a pair to `dx` and `dy`.
    fn pair_gradient<T: Float>(x: &[T], y: &[T], g: T, dx: &mut [T], dy: &mut [T]);

    /// Scores of chosen pairs in tensor operations, with gradients: (B, N, 1, D) and (B, N, K, D) to (B, N, K).
    fn chosen_pairs(x: &Tensor, y: &Tensor) -> Result<Tensor>;
}

/// What a similarity decides beside the score of a pair.
///
/// The functions over [`Float`] run inside kernels: they are `#[inline(always)]`, and so is every closure in them.
pub(crate) trait Metric: Pair {
    /// The name in configurations.
    const NAME: &'static str;
    /// Whether it is minus a distance.
    const DISTANCE: bool;
    /// What it may be taken of.
    const COMPARES: &'static [Compared];
    /// The score of a token with itself where candidates are a sample, in `conv_nn_attention`.
    const OWN_IN_SAMPLE: f64 = if Self::DISTANCE { -1.0 } else { 1.0 };
    /// The score of a token with itself among all candidates, in `conv_nn_2d_attention`.
    const OWN_AMONG_ALL: f64 = if Self::DISTANCE { 0.1 } else { 1.1 };

    /// Up to this width the scores of a block are summed term by term; above, they come from a matrix product.
    const WIDEST_TERMS: usize = 8;
    /// Whether scores come from unit rows.
    const UNIT_ROWS: bool = false;
    /// Whether the product form needs ‖row‖² of both sides.
    const SQUARES: bool = false;

    /// The score after one more coordinate; the first is added to 0.
    fn term<const FMA: bool, T: Float>(score: T, query: T, candidate: T) -> T;

    /// The score from the product of query and candidate and, with [`Self::SQUARES`], the squares of both.
    #[inline(always)]
    fn of_product<T: Float>(product: T, _query_square: T, _candidate_square: T) -> T {
        product
    }

    /// A score within the bounds that rounding may have crossed.
    #[inline(always)]
    fn clamp<T: Float>(score: T) -> T {
        score
    }

    /// Which of two places is closer to a third by position alone, exactly; `Greater` if it is `a`.
    fn compare_places(query: &Position, a: &Position, b: &Position) -> Ordering;

    /// Scores of all pairs in tensor operations: (B, N, D) and (B, M, D) to (B, N, M).
    fn all_pairs(x: &Tensor, y: &Tensor) -> Result<Tensor>;
}

/// |x − y| without a branch.
#[inline(always)]
fn distance<T: Float>(x: T, y: T) -> T {
    if x > y { x - y } else { y - x }
}

/// x·yᵀ of a batch.
fn products(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    Ok(x.contiguous()?.matmul(&y.t()?.contiguous()?)?)
}

/// x − y of all pairs: (B, N, M, D).
fn differences(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    Ok(x.unsqueeze(2)?.broadcast_sub(&y.unsqueeze(1)?)?)
}
