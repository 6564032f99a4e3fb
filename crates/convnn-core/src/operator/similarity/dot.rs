//! `dot`: x·y. Layers scale it by 1/√d, which does not change the order.

use super::{Compared, Metric, Pair, products};
use crate::Result;
use crate::kernel::{float::Float, simd::sum_of};
use crate::operator::positions::Position;
use candle_core::{D, Tensor};
use std::cmp::Ordering;

#[derive(Clone, Copy)]
pub(crate) struct Dot;

impl Metric for Dot {
    const NAME: &'static str = "dot";
    const DISTANCE: bool = false;
    const COMPARES: &'static [Compared] = &[Compared::Projections];

    #[inline(always)]
    fn term<const FMA: bool, T: Float>(score: T, query: T, candidate: T) -> T {
        query.fma::<FMA>(candidate, score)
    }

    fn compare_places(query: &Position, a: &Position, b: &Position) -> Ordering {
        let product =
            |p: &Position| (0..2).map(|i| i128::from(query.scaled[i]) * i128::from(p.scaled[i])).sum::<i128>();
        product(a).cmp(&product(b))
    }

    fn all_pairs(x: &Tensor, y: &Tensor) -> Result<Tensor> {
        products(x, y)
    }
}

impl Pair for Dot {
    #[inline(always)]
    fn pair<T: Float>(x: &[T], y: &[T], _: T) -> T {
        sum_of(
            [x, y],
            #[inline(always)]
            |[x, y]| x * y,
        )
    }

    /// dx = g·y, dy = g·x.
    #[inline(always)]
    fn pair_gradient<T: Float>(x: &[T], y: &[T], g: T, dx: &mut [T], dy: &mut [T]) {
        for ((dx, dy), (&x, &y)) in dx.iter_mut().zip(dy).zip(x.iter().zip(y)) {
            *dx += g * y;
            *dy += g * x;
        }
    }

    fn chosen_pairs(x: &Tensor, y: &Tensor) -> Result<Tensor> {
        Ok(x.broadcast_mul(y)?.sum(D::Minus1)?)
    }
}
