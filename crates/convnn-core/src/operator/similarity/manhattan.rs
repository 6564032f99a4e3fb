//! `manhattan`: −Σ|x−y|, from the paper's later design space.

use super::{Compared, Metric, Pair, differences, distance};
use crate::Result;
use crate::kernel::{float::Float, simd::sum_of};
use crate::operator::positions::Position;
use candle_core::{D, Tensor};
use std::cmp::Ordering;

#[derive(Clone, Copy)]
pub(crate) struct Manhattan;

impl Metric for Manhattan {
    const NAME: &'static str = "manhattan";
    const DISTANCE: bool = true;
    const COMPARES: &'static [Compared] = &[Compared::Features, Compared::Projections, Compared::Positions];
    const WIDEST_TERMS: usize = usize::MAX;

    #[inline(always)]
    fn term<const FMA: bool, T: Float>(score: T, query: T, candidate: T) -> T {
        score - distance(query, candidate)
    }

    fn compare_places(query: &Position, a: &Position, b: &Position) -> Ordering {
        let sum = |p: &Position| (0..2).map(|i| query.scaled[i].abs_diff(p.scaled[i])).sum::<u64>();
        sum(b).cmp(&sum(a))
    }

    fn all_pairs(x: &Tensor, y: &Tensor) -> Result<Tensor> {
        Ok(differences(x, y)?.abs()?.sum(D::Minus1)?.neg()?)
    }
}

impl Pair for Manhattan {
    #[inline(always)]
    fn pair<T: Float>(x: &[T], y: &[T], _: T) -> T {
        -sum_of(
            [x, y],
            #[inline(always)]
            |[x, y]| distance(x, y),
        )
    }

    /// dx = −g·sign(x−y) = −dy, the sign of 0 being 0.
    #[inline(always)]
    fn pair_gradient<T: Float>(x: &[T], y: &[T], g: T, dx: &mut [T], dy: &mut [T]) {
        for ((dx, dy), (&x, &y)) in dx.iter_mut().zip(dy).zip(x.iter().zip(y)) {
            let step = if x > y { g } else { -g };
            let step = if x == y { T::ZERO } else { step };
            *dx -= step;
            *dy += step;
        }
    }

    fn chosen_pairs(x: &Tensor, y: &Tensor) -> Result<Tensor> {
        // Candle's gradient of |0| is taken from the sign, which is 0 there.
        Ok(x.broadcast_sub(y)?.abs()?.sum(D::Minus1)?.neg()?)
    }
}
