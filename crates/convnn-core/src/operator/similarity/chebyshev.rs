//! `chebyshev`: −max|x−y|, of pixel positions: the nearest tokens are the square windows of convolution.

use super::{Compared, Metric, Pair, differences, distance};
use crate::Result;
use crate::kernel::float::Float;
use crate::operator::positions::Position;
use candle_core::{D, Tensor};
use std::cmp::Ordering;

#[derive(Clone, Copy)]
pub(crate) struct Chebyshev;

impl Metric for Chebyshev {
    const NAME: &'static str = "chebyshev";
    const DISTANCE: bool = true;
    const COMPARES: &'static [Compared] = &[Compared::Positions];
    const WIDEST_TERMS: usize = usize::MAX;

    #[inline(always)]
    fn term<const FMA: bool, T: Float>(score: T, query: T, candidate: T) -> T {
        let term = -distance(query, candidate);
        // A NaN stays.
        #[allow(clippy::eq_op)]
        let is_nan = term != term;
        if is_nan || term < score { term } else { score }
    }

    fn compare_places(query: &Position, a: &Position, b: &Position) -> Ordering {
        let largest = |p: &Position| (0..2).map(|i| query.pixel[i].abs_diff(p.pixel[i])).max();
        largest(b).cmp(&largest(a))
    }

    fn all_pairs(x: &Tensor, y: &Tensor) -> Result<Tensor> {
        farthest(&differences(x, y)?)
    }
}

impl Pair for Chebyshev {
    #[inline(always)]
    fn pair<T: Float>(x: &[T], y: &[T], _: T) -> T {
        x.iter().zip(y).fold(
            T::ZERO,
            #[inline(always)]
            |score, (&x, &y)| Self::term::<false, T>(score, x, y),
        )
    }

    /// The first coordinate that is farthest apart gets −g·sign(x−y), and y the opposite.
    #[inline(always)]
    fn pair_gradient<T: Float>(x: &[T], y: &[T], g: T, dx: &mut [T], dy: &mut [T]) {
        let (mut farthest, mut largest) = (0, T::ZERO);
        for (i, (&x, &y)) in x.iter().zip(y).enumerate() {
            let distance = distance(x, y);
            if distance > largest {
                (farthest, largest) = (i, distance);
            }
        }
        if largest > T::ZERO {
            let step = if x[farthest] > y[farthest] { g } else { -g };
            dx[farthest] -= step;
            dy[farthest] += step;
        }
    }

    fn chosen_pairs(x: &Tensor, y: &Tensor) -> Result<Tensor> {
        farthest(&x.broadcast_sub(y)?)
    }
}

/// −max|d| over the last axis; NaN if a difference is NaN, which Candle's `max` passes over.
fn farthest(differences: &Tensor) -> Result<Tensor> {
    let distances = differences.abs()?;
    let largest = distances.max(D::Minus1)?;
    let is_nan = distances.ne(&distances)?.max(D::Minus1)?;
    let nan = largest.affine(0.0, f64::NAN)?;
    Ok(is_nan.where_cond(&nan, &largest)?.neg()?)
}
