//! The similarity of each token to its chosen neighbors, with gradients to both sides.
//!
//! Selection itself has no gradient and forms no matrix; the scores of the K chosen pairs are computed again here, so
//! that modulation can be trained.

use super::similarity::{Metric, Pair, RootedEuclidean, with_metric};
use super::{Neighbors, Similarity};
use crate::Result;
use crate::error::{ensure_dtype, ensure_shape};
use crate::kernel::float::Float;
use crate::kernel::op::{Backward, Gradient, Input, Op, apply2};
use crate::kernel::parallel::fill_groups;
use crate::kernel::simd::kernel;
use candle_core::{Shape, Tensor};
use rayon::prelude::*;

/// The score of a pair of tokens, as modulation takes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    similarity: Similarity,
    rooted: bool,
    factor: f64,
}

impl Score {
    /// The score by which `similarity` selects, but for the clamp of the cosine: rounding past 1 must not stop a gradient.
    pub const fn new(similarity: Similarity) -> Self {
        Self { similarity, rooted: false, factor: 1.0 }
    }

    /// The score in `conv_nn_attention` with heads of width `d`: x·y/√d for the dot product, and −‖x−y‖ in place of its
    /// square, whose gradient is 0 if x = y.
    pub fn of_attention(similarity: Similarity, d: usize) -> Self {
        let factor = if similarity == Similarity::Dot { 1.0 / (d as f64).sqrt() } else { 1.0 };
        Self { similarity, rooted: similarity == Similarity::Euclidean, factor }
    }
}

/// Evaluates an expression with `P` standing for the [`Pair`] of a [`Score`].
macro_rules! with_pair {
    ($score:expr, $P:ident => $body:expr) => {
        if $score.rooted {
            type $P = RootedEuclidean;
            $body
        } else {
            with_metric!($score.similarity, $P => $body)
        }
    };
}

/// The scores of chosen pairs.
///
/// # Shapes
/// - `queries`: (B, N, D)
/// - `pool`: (B, M, D)
/// - `neighbors`: (B or 1, N, K) into M rows
/// - result: (B, N, K)
///
/// Gradients reach `queries` and `pool`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape), [`Error::DType`](crate::Error::DType), or neighbors of another pool.
pub fn score(queries: &Tensor, pool: &Tensor, neighbors: &Neighbors, score: Score) -> Result<Tensor> {
    check(queries, pool, neighbors)?;
    if !queries.device().is_cpu() {
        return score_reference(queries, pool, neighbors, score);
    }
    apply2(Scores { score, neighbors: neighbors.clone() }, queries, pool)
}

/// The score of a token with itself among all candidates, in `conv_nn_2d_attention`.
pub(crate) fn own_among_all(similarity: Similarity) -> f64 {
    with_metric!(similarity, M => M::OWN_AMONG_ALL)
}

/// The score of a token with itself where candidates are a sample, in `conv_nn_attention`.
pub(crate) fn own_in_sample(similarity: Similarity) -> f64 {
    with_metric!(similarity, M => M::OWN_IN_SAMPLE)
}

/// As [`score`], but each token that was made its own first neighbor has the score `own` there, a constant.
pub(crate) fn score_with_own(
    queries: &Tensor,
    pool: &Tensor,
    neighbors: &Neighbors,
    form: Score,
    own: f64,
) -> Result<Tensor> {
    if !neighbors.own_first() {
        return score(queries, pool, neighbors, form);
    }
    let (b, n, _) = queries.dims3()?;
    let own = Tensor::full(own, (b, n, 1), queries.device())?.to_dtype(queries.dtype())?;
    match neighbors.without_first()? {
        None => Ok(own),
        Some(others) => Ok(Tensor::cat(&[&own, &score(queries, pool, &others, form)?], 2)?),
    }
}

fn check(queries: &Tensor, pool: &Tensor, neighbors: &Neighbors) -> Result<()> {
    ensure_shape(queries.rank() == 3, "score", "queries", queries, || "(B, N, D)".into())?;
    let (b, n, d) = queries.dims3()?;
    ensure_shape(d > 0, "score", "queries", queries, || "at least one channel".into())?;
    let fits = pool.rank() == 3 && pool.dim(0)? == b && pool.dim(2)? == d;
    ensure_shape(fits, "score", "pool", pool, || format!("({b}, M, {d})"))?;
    ensure_dtype("score", &[("queries", queries), ("pool", pool)])?;
    neighbors.ensure_fits("score", b, n, pool.dim(1)?)
}

/// The plain form of [`score`], in tensor operations.
pub fn score_reference(queries: &Tensor, pool: &Tensor, neighbors: &Neighbors, score: Score) -> Result<Tensor> {
    check(queries, pool, neighbors)?;
    let chosen = neighbors.gather_reference(pool)?; // (B, N, K, D)
    let queries = queries.unsqueeze(2)?; // (B, N, 1, D)
    Ok((with_pair!(score, P => P::chosen_pairs(&queries, &chosen))? * score.factor)?)
}

struct Scores {
    score: Score,
    neighbors: Neighbors,
}

impl Op<2> for Scores {
    const NAME: &'static str = "score";
    const INPUTS: [&'static str; 2] = ["queries", "pool"];

    fn forward<T: Float>(&self, [q, p]: [Input<'_, T>; 2]) -> Result<(Vec<T>, Shape)> {
        let ([b, n, d], m, k) = (sizes(q.dims), p.dims[1], self.neighbors.count());
        let (index, factor) = (self.neighbors.values()?, T::narrow(self.score.factor));
        let mut out = vec![T::ZERO; b * n * k];
        out.par_chunks_mut((n * k).max(1)).enumerate().for_each(|(i, out)| {
            let (q, p) = (&q.values[i * n * d..][..n * d], &p.values[i * m * d..][..m * d]);
            with_pair!(self.score, P => scores::<T, P>(q, p, image(&index, i, n * k), d, k, factor, out));
        });
        Ok((out, Shape::from((b, n, k))))
    }

    fn backward<T: Float>(&self, pass: Backward<'_, T, 2>) -> Result<[Gradient<T>; 2]> {
        let [q, p] = pass.inputs;
        let ([b, n, d], m, k) = (sizes(q.dims), p.dims[1], self.neighbors.count());
        let (index, factor) = (self.neighbors.values()?, T::narrow(self.score.factor));
        let (mut dq, mut dp) = (vec![T::ZERO; b * n * d], vec![T::ZERO; b * m * d]);
        fill_groups([(&mut dq, n * d), (&mut dp, m * d)], |i, [dq, dp]| {
            let (q, p) = (&q.values[i * n * d..][..n * d], &p.values[i * m * d..][..m * d]);
            let (g, index) = (&pass.gradient[i * n * k..][..n * k], image(&index, i, n * k));
            with_pair!(self.score, P => score_gradients::<T, P>(q, p, index, g, d, k, factor, dq, dp));
        });
        Ok([Gradient::Values(dq), Gradient::Values(dp)])
    }
}

/// B, N, D
fn sizes(dims: &[usize]) -> [usize; 3] {
    [dims[0], dims[1], dims[2]]
}

/// The index of one image, which may be that of all.
fn image(index: &[u32], image: usize, size: usize) -> &[u32] {
    if index.len() == size { index } else { &index[image * size..][..size] }
}

kernel! {
    /// Scores (N, K) of one image.
    fn scores<const FMA: bool, T; P: Pair>(
        q: &[T], p: &[T], index: &[u32], d: usize, k: usize, factor: T, out: &mut [T],
    ) {
        let zero = vec![T::ZERO; d];
        for ((query, index), out) in q.chunks_exact(d).zip(index.chunks_exact(k)).zip(out.chunks_exact_mut(k)) {
            let of_query = P::of_query(query);
            for (&row, out) in index.iter().zip(out) {
                let other = p.get(row as usize * d..(row as usize + 1) * d).unwrap_or(&zero);
                *out = P::pair(query, other, of_query) * factor;
            }
        }
    }
}

kernel! {
    /// Gradients of the queries (N, D) and the pool (M, D) of one image; both start at 0.
    fn score_gradients<const FMA: bool, T; P: Pair>(
        q: &[T], p: &[T], index: &[u32], grad: &[T], d: usize, k: usize, factor: T, dq: &mut [T], dp: &mut [T],
    ) {
        let zero = vec![T::ZERO; d];
        let mut nowhere = vec![T::ZERO; d];
        let queries = q.chunks_exact(d).zip(dq.chunks_exact_mut(d));
        for ((query, dq), (index, grad)) in queries.zip(index.chunks_exact(k).zip(grad.chunks_exact(k))) {
            for (&row, &g) in index.iter().zip(grad) {
                let place = row as usize * d..(row as usize + 1) * d;
                let other = p.get(place.clone()).unwrap_or(&zero);
                let dp = dp.get_mut(place).unwrap_or(&mut nowhere);
                P::pair_gradient(query, other, g * factor, dq, dp);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing;
    use crate::testing::kernels::{DTYPES, agree, output_and_gradient_bits, same_for_threads, variable};
    use candle_core::{DType, Device};

    fn all() -> Vec<Score> {
        let mut scores: Vec<Score> = Similarity::ALL.into_iter().map(Score::new).collect();
        scores.extend(Similarity::ALL.into_iter().map(|similarity| Score::of_attention(similarity, 2)));
        scores
    }

    fn neighbors(b: usize, n: usize, k: usize, m: usize) -> Neighbors {
        let rows: Vec<u32> = (0..b * n * k).map(|i| (i * 7 % (m + 1)) as u32).collect();
        Neighbors::new(&Tensor::from_vec(rows, (b, n, k), &Device::Cpu).unwrap(), m).unwrap()
    }

    #[test]
    fn equals_the_reference() {
        for (dtype, tolerance) in DTYPES {
            for (b, n, m, d, k) in [(1, 1, 1, 1, 1), (2, 5, 7, 3, 4), (3, 33, 40, 65, 9)] {
                let inputs = [variable((b, n, d), dtype, 1), variable((b, m, d), dtype, 2)];
                for (neighbors, form) in [neighbors(b, n, k, m), neighbors(1, n, k, m)].iter().zip([all(), all()]) {
                    for form in form {
                        agree(
                            &format!("{form:?} {dtype:?} {n}"),
                            &inputs,
                            4.0 * tolerance,
                            || score(&inputs[0], &inputs[1], neighbors, form),
                            || score_reference(&inputs[0], &inputs[1], &shared(neighbors, b), form),
                        );
                    }
                }
            }
        }
    }

    /// The neighbors of each image, if all share one index.
    fn shared(neighbors: &Neighbors, b: usize) -> Neighbors {
        let (_, n, k) = neighbors.index().dims3().unwrap();
        Neighbors::new(&neighbors.index().broadcast_as((b, n, k)).unwrap(), neighbors.rows()).unwrap()
    }

    #[test]
    fn gradients_are_exact() {
        let inputs = [variable((2, 4, 3), DType::F64, 3), variable((2, 5, 3), DType::F64, 4)];
        let neighbors = neighbors(2, 4, 3, 5);
        for form in all() {
            let f = || score(&inputs[0], &inputs[1], &neighbors, form);
            testing::gradients(&format!("{form:?}"), &inputs, f, 1e-7).unwrap();
        }
    }

    /// Norms whose third power under- or overflows in f32.
    #[test]
    fn cosine_gradients_of_extreme_norms() {
        let neighbors = neighbors(1, 2, 2, 2);
        for scale in [2e-12, 5e-12, 1.0, 1e10, 1e15] {
            let gradients = |dtype: DType| {
                let scaled = |seed| (variable((1, 2, 3), DType::F64, seed).as_tensor() * scale).unwrap();
                let [q, p] =
                    [1, 2].map(|seed| candle_core::Var::from_tensor(&scaled(seed).to_dtype(dtype).unwrap()).unwrap());
                let y = score(&q, &p, &neighbors, Score::new(Similarity::Cosine)).unwrap();
                let grads = y.narrow(2, 0, 1).unwrap().sum_all().unwrap().backward().unwrap();
                [q, p].map(|var| (grads.get(var.as_tensor()).unwrap().to_dtype(DType::F64).unwrap() * scale).unwrap())
            };
            for (found, expected) in gradients(DType::F32).iter().zip(&gradients(DType::F64)) {
                testing::compare(&format!("norms of {scale:e}"), found, expected, 1e-4).unwrap();
            }
        }
    }

    /// A token that meets itself has distance 0, where the root and the absolute value have no derivative.
    #[test]
    fn the_distance_of_a_token_to_itself_has_gradient_zero() {
        let x = variable((1, 3, 4), DType::F64, 5);
        let own = Neighbors::new(&Tensor::new(&[[[0u32], [1], [2]]], &Device::Cpu).unwrap(), 3).unwrap();
        for form in [Score::of_attention(Similarity::Euclidean, 4), Score::new(Similarity::Manhattan)] {
            for f in [score, score_reference] {
                let y = f(&x, &x, &own, form).unwrap();
                let gradient = y.sum_all().unwrap().backward().unwrap().get(x.as_tensor()).unwrap().clone();
                testing::compare("gradient", &gradient, &x.zeros_like().unwrap(), 0.0).unwrap();
            }
        }
    }

    #[test]
    fn threads_change_nothing() {
        let inputs = [variable((5, 9, 6), DType::F32, 1), variable((5, 8, 6), DType::F32, 2)];
        let neighbors = neighbors(5, 9, 4, 8);
        for form in all() {
            same_for_threads("score", || {
                output_and_gradient_bits(&inputs, || score(&inputs[0], &inputs[1], &neighbors, form))
            });
        }
    }
}
