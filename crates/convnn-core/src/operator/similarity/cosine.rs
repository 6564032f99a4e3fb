//! `cosine`: x·y / (‖x‖‖y‖), norms no smaller than 1e-12.
//!
//! Scores by which candidates are ordered are clamped to [−1, 1]. The score of a chosen pair is not: rounding past 1 must
//! not stop its gradient.

use super::{Compared, Metric, Pair, products};
use crate::Result;
use crate::kernel::{float::Float, simd::sum_of};
use crate::operator::positions::Position;
use candle_core::{D, Tensor};
use std::cmp::Ordering;

/// Norms are no smaller than this.
const SMALLEST_NORM: f64 = 1e-12;

#[derive(Clone, Copy)]
pub(crate) struct Cosine;

impl Metric for Cosine {
    const NAME: &'static str = "cosine";
    const DISTANCE: bool = false;
    const COMPARES: &'static [Compared] = &[Compared::Features, Compared::Projections, Compared::Positions];
    const UNIT_ROWS: bool = true;

    #[inline(always)]
    fn term<const FMA: bool, T: Float>(score: T, query: T, candidate: T) -> T {
        query.fma::<FMA>(candidate, score)
    }

    #[inline(always)]
    fn clamp<T: Float>(score: T) -> T {
        let score = if score > T::ONE { T::ONE } else { score };
        if score < -T::ONE { -T::ONE } else { score }
    }

    /// Compares q·a/‖a‖ with q·b/‖b‖ by their squares, which are ratios of whole numbers.
    fn compare_places(query: &Position, a: &Position, b: &Position) -> Ordering {
        let product =
            |p: &Position| (0..2).map(|i| i128::from(query.scaled[i]) * i128::from(p.scaled[i])).sum::<i128>();
        let square = |p: &Position| p.scaled.iter().map(|&v| i128::from(v) * i128::from(v)).sum::<i128>();
        let ((product_a, product_b), (square_a, square_b)) = ((product(a), product(b)), (square(a), square(b)));
        // A norm of 0 has a product of 0.
        let exact = || {
            let left = product_a.checked_mul(product_a)?.checked_mul(square_b.max(1))?;
            let right = product_b.checked_mul(product_b)?.checked_mul(square_a.max(1))?;
            Some((product_a.signum() * left).cmp(&(product_b.signum() * right)))
        };
        exact().unwrap_or_else(|| {
            let cosine = |product: i128, square: i128| product as f64 / (square.max(1) as f64).sqrt();
            cosine(product_a, square_a).total_cmp(&cosine(product_b, square_b))
        })
    }

    fn all_pairs(x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let unit = |t: &Tensor| t.broadcast_div(&t.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(SMALLEST_NORM)?);
        Ok(products(&unit(x)?, &unit(y)?)?.clamp(-1.0, 1.0)?)
    }
}

impl Pair for Cosine {
    #[inline(always)]
    fn of_query<T: Float>(query: &[T]) -> T {
        norm(query)
    }

    #[inline(always)]
    fn pair<T: Float>(x: &[T], y: &[T], norm_of_x: T) -> T {
        let product = sum_of(
            [x, y],
            #[inline(always)]
            |[x, y]| x * y,
        );
        product / (norm_of_x * norm(y))
    }

    /// With s the score and x̂ = x/‖x‖: dx = g·(ŷ − s·x̂)/‖x‖, and the same for y. A norm below the smallest is a constant.
    #[inline(always)]
    fn pair_gradient<T: Float>(x: &[T], y: &[T], g: T, dx: &mut [T], dy: &mut [T]) {
        let (norm_x, norm_y) = (norm(x), norm(y));
        let product = sum_of(
            [x, y],
            #[inline(always)]
            |[x, y]| x * y,
        );
        let smallest = T::narrow(SMALLEST_NORM);
        let own = |norm: T, other: T| {
            if norm > smallest { (product / (norm * other)) / (norm * norm) } else { T::ZERO }
        };
        let of_other = g * (T::ONE / (norm_x * norm_y));
        let (of_x, of_y) = (g * own(norm_x, norm_y), g * own(norm_y, norm_x));
        for ((dx, dy), (&x, &y)) in dx.iter_mut().zip(dy).zip(x.iter().zip(y)) {
            *dx += of_other * y - of_x * x;
            *dy += of_other * x - of_y * y;
        }
    }

    fn chosen_pairs(x: &Tensor, y: &Tensor) -> Result<Tensor> {
        Ok(unit(x)?.broadcast_mul(&unit(y)?)?.sum(D::Minus1)?)
    }
}

#[inline(always)]
fn norm<T: Float>(row: &[T]) -> T {
    let norm = sum_of(
        [row],
        #[inline(always)]
        |[v]| v * v,
    )
    .sqrt();
    let smallest = T::narrow(SMALLEST_NORM);
    if norm > smallest { norm } else { smallest }
}

/// Rows of length 1, in a form whose gradient is finite for zero rows.
fn unit(t: &Tensor) -> Result<Tensor> {
    let squared = t.sqr()?.sum_keepdim(D::Minus1)?;
    let small = squared.le(SMALLEST_NORM * SMALLEST_NORM)?;
    let norm = small.where_cond(&squared.ones_like()?, &squared)?.sqrt()?;
    let norm = small.where_cond(&(squared.ones_like()? * SMALLEST_NORM)?, &norm)?;
    Ok(t.broadcast_div(&norm)?)
}
