//! The similarity of each token to its chosen neighbors, with gradients to both sides.
//!
//! Selection itself has no gradient and forms no matrix; the scores of the K chosen pairs are computed again here, so
//! that modulation can be trained.

use crate::error::ensure_shape;
use crate::kernel::backward::deliver;
use crate::kernel::float::Float;
use crate::kernel::float::cpu_values;
use crate::kernel::float::has_kernel;
use crate::kernel::float::with_float;
use crate::kernel::parallel::fill_groups;
use crate::kernel::simd::{kernel, sum_of};
use crate::operator::neighbors::{check_index, index_values};
use crate::{Result, Similarity};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, D, Layout, Shape, Tensor, WithDType};
use rayon::prelude::*;

/// The score of a pair of tokens, as modulation takes it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Score {
    /// x·y / (‖x‖‖y‖), norms no smaller than 1e-12. No clamp: rounding past 1 must not stop the gradient.
    Cosine,
    /// factor · x·y.
    Product(f64),
    /// −‖x−y‖²
    NegativeSquaredDistance,
    /// −‖x−y‖; its gradient is 0 where x = y.
    NegativeDistance,
}

impl Score {
    /// The score whose order `similarity` selects by.
    ///
    /// # Errors
    /// [`crate::Error::Option`] for `chebyshev`, which is for positions and has no score.
    pub fn of(similarity: Similarity, layer: &str, width: usize) -> Result<Self> {
        match similarity {
            Similarity::Cosine => Ok(Self::Cosine),
            Similarity::Euclidean => Ok(Self::NegativeSquaredDistance),
            Similarity::Dot => Ok(Self::Product(1.0 / (width as f64).sqrt())),
            Similarity::Chebyshev => Err(crate::Error::Option {
                layer: layer.to_owned(),
                option: "similarity",
                found: "chebyshev".into(),
                expected: "cosine, euclidean or dot: scores of features".into(),
            }),
        }
    }
}

/// The scores of chosen pairs.
///
/// # Shapes
/// - `queries`: (B, N, D)
/// - `pool`: (B, M, D)
/// - `index`: (B, N, K), u32, rows of the pool; M means the zero token
/// - result: (B, N, K)
///
/// Gradients reach `queries` and `pool`.
///
/// # Errors
/// [`crate::Error::Shape`], or an index past M.
pub fn pair_scores(queries: &Tensor, pool: &Tensor, index: &Tensor, score: Score) -> Result<Tensor> {
    check(queries, pool, index)?;
    if !has_kernel(queries) || queries.dtype() != pool.dtype() {
        return pair_scores_reference(queries, pool, index, score);
    }
    check_index(index, pool.dim(1)?)?;
    let op = PairScores { score, index: index.contiguous()? };
    Ok(queries.contiguous()?.apply_op2(&pool.contiguous()?, op)?)
}

fn check(queries: &Tensor, pool: &Tensor, index: &Tensor) -> Result<()> {
    ensure_shape(queries.rank() == 3, "pair_scores", "queries", queries, || "(B, N, D)".into())?;
    let (b, n, d) = queries.dims3()?;
    let fits = pool.rank() == 3 && pool.dim(0)? == b && pool.dim(2)? == d;
    ensure_shape(fits, "pair_scores", "pool", pool, || format!("({b}, M, {d})"))?;
    let fits = index.rank() == 3 && index.dim(0)? == b && index.dim(1)? == n;
    ensure_shape(fits, "pair_scores", "index", index, || format!("({b}, {n}, K)"))
}

/// The plain form of [`pair_scores`], in tensor operations.
///
/// # Errors
/// As [`pair_scores`].
pub fn pair_scores_reference(queries: &Tensor, pool: &Tensor, index: &Tensor, score: Score) -> Result<Tensor> {
    check(queries, pool, index)?;
    let chosen = crate::operator::neighbors::gather_reference(pool, index)?; // (B, N, K, D)
    let queries = queries.unsqueeze(2)?; // (B, N, 1, D)
    let product = |a: &Tensor, b: &Tensor| a.broadcast_mul(b)?.sum(D::Minus1);
    Ok(match score {
        Score::Product(factor) => (product(&queries, &chosen)? * factor)?,
        Score::Cosine => product(&unit(&queries)?, &unit(&chosen)?)?,
        Score::NegativeSquaredDistance => queries.broadcast_sub(&chosen)?.sqr()?.sum(D::Minus1)?.neg()?,
        Score::NegativeDistance => {
            let squared = queries.broadcast_sub(&chosen)?.sqr()?.sum(D::Minus1)?;
            // Candle's root has an infinite gradient at 0, where a token meets itself.
            let apart = squared.gt(0.0)?;
            let safe = apart.where_cond(&squared, &squared.ones_like()?)?.sqrt()?;
            apart.where_cond(&safe, &squared.zeros_like()?)?.neg()?
        }
    })
}

fn unit(t: &Tensor) -> candle_core::Result<Tensor> {
    let squared = t.sqr()?.sum_keepdim(D::Minus1)?;
    // Below the smallest norm the divisor is a constant.
    let small = squared.le(1e-24)?;
    let norm = small.where_cond(&squared.ones_like()?, &squared)?.sqrt()?;
    let norm = small.where_cond(&(squared.ones_like()? * 1e-12)?, &norm)?;
    t.broadcast_div(&norm)
}

struct PairScores {
    score: Score,
    index: Tensor,
}

impl CustomOp2 for PairScores {
    fn name(&self) -> &'static str {
        "pair_scores"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        p: &CpuStorage,
        p_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (b, n, d) = q_layout.shape().dims3()?;
        let (m, k) = (p_layout.dims()[1], self.index.dim(2)?);
        let index = index_values(&self.index)?;
        with_float!(q.dtype(), T => {
            let (q, p) = (cpu_values::<T>(q, q_layout)?, cpu_values::<T>(p, p_layout)?);
            let mut out = vec![T::ZERO; b * n * k];
            out.par_chunks_mut(n * k).enumerate().for_each(|(i, out)| {
                let (q, p, index) = (&q[i * n * d..][..n * d], &p[i * m * d..][..m * d], &index[i * n * k..][..n * k]);
                scores(self.score, q, p, index, d, k, out);
            });
            Ok((T::to_cpu_storage_owned(out), Shape::from((b, n, k))))
        })
    }

    /// With s = f·x·y: dx = f·ds·y, dy = f·ds·x. With s = −‖x−y‖²: dx = −2·ds·(x−y) = −dy; with the root, −ds·(x−y)/‖x−y‖.
    /// With s = x̂·ŷ: dx = ds·(ŷ − s·x̂)/‖x‖, and the same for y.
    fn bwd(
        &self,
        queries: &Tensor,
        pool: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let (b, n, d) = queries.dims3()?;
        let (m, k) = (pool.dim(1)?, self.index.dim(2)?);
        let index = index_values(&self.index)?;
        let grad = grad.contiguous()?;
        let (q, q_layout) = queries.storage_and_layout();
        let (p, p_layout) = pool.storage_and_layout();
        let (g, g_layout) = grad.storage_and_layout();
        let (dq, dp) = with_float!(queries.dtype(), T => {
            let (q, p) = (crate::kernel::float::values::<T>(&q, q_layout)?, crate::kernel::float::values::<T>(&p, p_layout)?);
            let g = crate::kernel::float::values::<T>(&g, g_layout)?;
            let (mut dq, mut dp) = (vec![T::ZERO; b * n * d], vec![T::ZERO; b * m * d]);
            fill_groups([(&mut dq, n * d), (&mut dp, m * d)], |i, [dq, dp]| {
                let (q, p) = (&q[i * n * d..][..n * d], &p[i * m * d..][..m * d]);
                let (g, index) = (&g[i * n * k..][..n * k], &index[i * n * k..][..n * k]);
                score_gradients(self.score, q, p, index, g, d, k, dq, dp);
            });
            let device = queries.device();
            Ok((Tensor::from_vec(dq, (b, n, d), device)?, Tensor::from_vec(dp, (b, m, d), device)?))
        })?;
        Ok((deliver(queries, dq), deliver(pool, dp)))
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
    let smallest = T::narrow(1e-12);
    if norm > smallest { norm } else { smallest }
}

kernel! {
    /// Scores (N, K) of one image.
    fn scores<const FMA: bool, T>(score: Score, q: &[T], p: &[T], index: &[u32], d: usize, k: usize, out: &mut [T]) {
        let zero = vec![T::ZERO; d];
        for ((query, index), out) in q.chunks_exact(d).zip(index.chunks_exact(k)).zip(out.chunks_exact_mut(k)) {
            let query_norm = norm(query);
            for (&row, out) in index.iter().zip(out) {
                let other = p.get(row as usize * d..(row as usize + 1) * d).unwrap_or(&zero);
                *out = match score {
                    Score::Product(factor) => {
                        sum_of([query, other], #[inline(always)] |[a, b]| a * b) * T::narrow(factor)
                    }
                    Score::Cosine => {
                        sum_of([query, other], #[inline(always)] |[a, b]| a * b) / (query_norm * norm(other))
                    }
                    Score::NegativeSquaredDistance => {
                        -sum_of([query, other], #[inline(always)] |[a, b]| (a - b) * (a - b))
                    }
                    Score::NegativeDistance => {
                        -sum_of([query, other], #[inline(always)] |[a, b]| (a - b) * (a - b)).sqrt()
                    }
                };
            }
        }
    }
}

kernel! {
    /// Gradients of the queries (N, D) and the pool (M, D) of one image; both start at 0.
    fn score_gradients<const FMA: bool, T>(
        score: Score, q: &[T], p: &[T], index: &[u32], grad: &[T], d: usize, k: usize, dq: &mut [T], dp: &mut [T],
    ) {
        let zero = vec![T::ZERO; d];
        let mut nowhere = vec![T::ZERO; d];
        let queries = q.chunks_exact(d).zip(dq.chunks_exact_mut(d));
        for ((query, dq), (index, grad)) in queries.zip(index.chunks_exact(k).zip(grad.chunks_exact(k))) {
            for (&row, &g) in index.iter().zip(grad) {
                let place = row as usize * d..(row as usize + 1) * d;
                let other = p.get(place.clone()).unwrap_or(&zero);
                let dp = dp.get_mut(place).unwrap_or(&mut nowhere);
                // dx = ds · (of_other · y − of_self · x), and the same for y with its own part of itself.
                let (of_other, of_query, of_pool) = match score {
                    Score::Product(factor) => (T::narrow(factor), T::ZERO, T::ZERO),
                    Score::Cosine => {
                        let (x, y) = (norm(query), norm(other));
                        let product = sum_of([query, other], #[inline(always)] |[a, b]| a * b);
                        let smallest = T::narrow(1e-12);
                        // Below the smallest norm the divisor is a constant.
                        let own = |norm: T, rest: T| {
                            if norm > smallest { product / (norm * norm * norm * rest) } else { T::ZERO }
                        };
                        (T::ONE / (x * y), own(x, y), own(y, x))
                    }
                    Score::NegativeSquaredDistance => {
                        let two = T::ONE + T::ONE;
                        (two, two, two)
                    }
                    Score::NegativeDistance => {
                        let distance = sum_of([query, other], #[inline(always)] |[a, b]| (a - b) * (a - b)).sqrt();
                        let inverse = if distance > T::ZERO { T::ONE / distance } else { T::ZERO };
                        (inverse, inverse, inverse)
                    }
                };
                let (of_other, of_query, of_pool) = (g * of_other, g * of_query, g * of_pool);
                for ((dq, dp), (&x, &y)) in dq.iter_mut().zip(dp).zip(query.iter().zip(other)) {
                    *dq += of_other * y - of_query * x;
                    *dp += of_other * x - of_pool * y;
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::check;
    use crate::testing::kernels::{DTYPES, agree, output_and_gradient_bits, same_for_threads, variable};
    use candle_core::{DType, Device};

    const SCORES: [Score; 4] =
        [Score::Cosine, Score::Product(0.7), Score::NegativeSquaredDistance, Score::NegativeDistance];

    fn index(b: usize, n: usize, k: usize, m: usize) -> Tensor {
        let rows: Vec<u32> = (0..b * n * k).map(|i| (i * 7 % (m + 1)) as u32).collect();
        Tensor::from_vec(rows, (b, n, k), &Device::Cpu).unwrap()
    }

    #[test]
    fn equals_the_reference() {
        for (dtype, tolerance) in DTYPES {
            for (b, n, m, d, k) in [(1, 1, 1, 1, 1), (2, 5, 7, 3, 4), (3, 33, 40, 65, 9)] {
                let inputs = [variable((b, n, d), dtype, 1), variable((b, m, d), dtype, 2)];
                let index = index(b, n, k, m);
                for score in SCORES {
                    agree(
                        &format!("{score:?} {dtype:?} {n}"),
                        &inputs,
                        4.0 * tolerance,
                        || pair_scores(&inputs[0], &inputs[1], &index, score),
                        || pair_scores_reference(&inputs[0], &inputs[1], &index, score),
                    );
                }
            }
        }
    }

    #[test]
    fn gradients_are_exact() {
        let inputs = [variable((2, 4, 3), DType::F64, 3), variable((2, 5, 3), DType::F64, 4)];
        let index = index(2, 4, 3, 5);
        for score in SCORES {
            let f = || pair_scores(&inputs[0], &inputs[1], &index, score);
            check::gradients(&format!("{score:?}"), &inputs, f, 1e-7).unwrap();
        }
    }

    /// A token that meets itself has distance 0, where the root has no derivative.
    #[test]
    fn the_distance_of_a_token_to_itself_has_gradient_zero() {
        let x = variable((1, 3, 4), DType::F64, 5);
        let own = Tensor::new(&[[[0u32], [1], [2]]], &Device::Cpu).unwrap();
        for f in [pair_scores, pair_scores_reference] {
            let y = f(&x, &x, &own, Score::NegativeDistance).unwrap();
            let gradient = y.sum_all().unwrap().backward().unwrap().get(x.as_tensor()).unwrap().clone();
            check::compare("gradient", &gradient, &x.zeros_like().unwrap(), 0.0).unwrap();
        }
    }

    #[test]
    fn threads_change_nothing() {
        let inputs = [variable((5, 9, 6), DType::F32, 1), variable((5, 8, 6), DType::F32, 2)];
        let index = index(5, 9, 4, 8);
        same_for_threads("pair_scores", || {
            output_and_gradient_bits(&inputs, || pair_scores(&inputs[0], &inputs[1], &index, Score::Cosine))
        });
    }
}
