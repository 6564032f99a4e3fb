//! `euclidean`: −‖x−y‖². The order is that of −‖x−y‖; [`Score::rooted`](crate::operator::Score::rooted) takes the root.

use super::{Compared, Metric, Pair, differences};
use crate::Result;
use crate::kernel::{float::Float, simd::sum_of};
use crate::operator::positions::Position;
use candle_core::{D, Tensor};
use std::cmp::Ordering;

#[derive(Clone, Copy)]
pub(crate) struct Euclidean;

impl Metric for Euclidean {
    const NAME: &'static str = "euclidean";
    const DISTANCE: bool = true;
    const COMPARES: &'static [Compared] = &[Compared::Features, Compared::Projections, Compared::Positions];
    const SQUARES: bool = true;

    #[inline(always)]
    fn term<const FMA: bool, T: Float>(score: T, query: T, candidate: T) -> T {
        (candidate - query).fma::<FMA>(query - candidate, score)
    }

    /// −(‖x‖² + ‖y‖² − 2x·y), at most 0.
    #[inline(always)]
    fn of_product<T: Float>(product: T, query_square: T, candidate_square: T) -> T {
        let distance = (query_square + candidate_square) - (product + product);
        if distance <= T::ZERO { T::ZERO } else { -distance }
    }

    fn compare_places(query: &Position, a: &Position, b: &Position) -> Ordering {
        let squared = |p: &Position| (0..2).map(|i| i128::from(query.scaled[i] - p.scaled[i]).pow(2)).sum::<i128>();
        squared(b).cmp(&squared(a))
    }

    fn all_pairs(x: &Tensor, y: &Tensor) -> Result<Tensor> {
        Ok(differences(x, y)?.sqr()?.sum(D::Minus1)?.neg()?)
    }
}

impl Pair for Euclidean {
    #[inline(always)]
    fn pair<T: Float>(x: &[T], y: &[T], _: T) -> T {
        -squared_distance(x, y)
    }

    /// dx = −2g·(x−y) = −dy.
    #[inline(always)]
    fn pair_gradient<T: Float>(x: &[T], y: &[T], g: T, dx: &mut [T], dy: &mut [T]) {
        add_differences(x, y, g * (T::ONE + T::ONE), dx, dy);
    }

    fn chosen_pairs(x: &Tensor, y: &Tensor) -> Result<Tensor> {
        Ok(x.broadcast_sub(y)?.sqr()?.sum(D::Minus1)?.neg()?)
    }
}

/// −‖x−y‖, for chosen pairs alone; its gradient is 0 if x = y.
#[derive(Clone, Copy)]
pub(crate) struct RootedEuclidean;

impl Pair for RootedEuclidean {
    #[inline(always)]
    fn pair<T: Float>(x: &[T], y: &[T], _: T) -> T {
        -squared_distance(x, y).sqrt()
    }

    /// dx = −g·(x−y)/‖x−y‖ = −dy.
    #[inline(always)]
    fn pair_gradient<T: Float>(x: &[T], y: &[T], g: T, dx: &mut [T], dy: &mut [T]) {
        let distance = squared_distance(x, y).sqrt();
        let inverse = if distance > T::ZERO { T::ONE / distance } else { T::ZERO };
        add_differences(x, y, g * inverse, dx, dy);
    }

    fn chosen_pairs(x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let squared = x.broadcast_sub(y)?.sqr()?.sum(D::Minus1)?;
        // Candle's root has an infinite gradient at 0, where a token meets itself.
        let apart = squared.gt(0.0)?;
        let safe = apart.where_cond(&squared, &squared.ones_like()?)?.sqrt()?;
        Ok(apart.where_cond(&safe, &squared.zeros_like()?)?.neg()?)
    }
}

#[inline(always)]
fn squared_distance<T: Float>(x: &[T], y: &[T]) -> T {
    sum_of(
        [x, y],
        #[inline(always)]
        |[x, y]| (x - y) * (x - y),
    )
}

/// Adds factor·(y − x) to dx and its negative to dy.
#[inline(always)]
fn add_differences<T: Float>(x: &[T], y: &[T], factor: T, dx: &mut [T], dy: &mut [T]) {
    for ((dx, dy), (&x, &y)) in dx.iter_mut().zip(dy).zip(x.iter().zip(y)) {
        let step = factor * (y - x);
        *dx += step;
        *dy -= step;
    }
}
