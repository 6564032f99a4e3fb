//! Self-attention, softmax(Q Kᵀ / √d) V for each head, over all tokens or, as in KVT, over the K best of each.
//!
//! The scores exist only one block of rows at a time. The backward pass recomputes them, which is cheaper than keeping
//! them.
#![allow(unsafe_code)]

use crate::kernel::float::Float;
use crate::kernel::matrix::{Matrix, product_into, scaled_product_into};
use crate::kernel::op::{Backward, Gradient, Input, Op, apply1};
use crate::nn::dropout::DropoutMask;
use crate::nn::softmax::{softmax_gradient_rows, softmax_reference, softmax_rows};
use crate::{Error, Result, error::ensure_shape};
use candle_core::{D, Shape, Tensor};
use rayon::prelude::*;
use std::cmp::Ordering;

/// Tokens in a block of scores.
const ROWS: usize = 256;

/// Options of [`attention`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Number of heads, h.
    pub heads: usize,
    /// K: the softmax of each row covers only its K largest scores, among equal scores those of lower index; `None` for
    /// all.
    pub neighbors: Option<usize>,
    /// Dropout of the attention weights.
    pub dropout: Option<DropoutMask>,
}

/// Multi-head self-attention: dropout(softmax(Q Kᵀ / √d)) V for each head.
///
/// # Shapes
/// - `qkv`: (B, N, 3·h·d), the queries of all heads side by side, then the keys, then the values
/// - result: (B, N, h·d)
///
/// # Gradient
/// Flows to queries, keys and values through the selected scores; the selection has no gradient.
///
/// # Errors
/// [`Error::Shape`], [`Error::DType`], and [`Error::Option`] unless 1 ≤ K ≤ N.
pub fn attention(qkv: &Tensor, options: Attention) -> Result<Tensor> {
    options.check(qkv)?;
    if qkv.device().is_cpu() { apply1(options, qkv) } else { attention_reference(qkv, options) }
}

/// [`attention`] in tensor operations.
pub fn attention_reference(qkv: &Tensor, options: Attention) -> Result<Tensor> {
    let [b, n, h, d] = options.check(qkv)?;
    let parts = qkv.reshape((b, n, 3, h, d))?.permute((2, 0, 3, 1, 4))?; // (3, B, h, N, d)
    let part = |i: usize| parts.get(i)?.contiguous();
    let (q, k, v) = (part(0)?, part(1)?, part(2)?);
    let mut scores = (q.matmul(&k.t()?)? * scale(d))?; // (B, h, N, N)
    if let Some(neighbors) = options.neighbors {
        scores = (&scores + best_reference(&scores.detach(), neighbors)?)?;
    }
    let mut weights = softmax_reference(&scores)?;
    if let Some(mask) = options.dropout {
        weights = mask.apply_reference(&weights)?;
    }
    Ok(weights.matmul(&v)?.transpose(1, 2)?.reshape((b, n, h * d))?)
}

/// 0 for the K largest scores of each row and −∞ for the others, by sorting.
fn best_reference(scores: &Tensor, neighbors: usize) -> Result<Tensor> {
    // NaN has no place in an order, and Candle's sort may panic. It stays in the scores, so the softmax is NaN anyway.
    let lowest = Tensor::full(f32::NEG_INFINITY, scores.shape(), scores.device())?.to_dtype(scores.dtype())?;
    let scores = &scores.eq(scores)?.where_cond(scores, &lowest)?;
    let best = scores.contiguous()?.arg_sort_last_dim(false)?.narrow(D::Minus1, 0, neighbors)?.contiguous()?;
    let ones = Tensor::ones(best.shape(), scores.dtype(), scores.device())?;
    let kept = Tensor::zeros(scores.shape(), scores.dtype(), scores.device())?.scatter_add(&best, &ones, D::Minus1)?;
    Ok(kept.log()?)
}

fn scale(d: usize) -> f64 {
    1.0 / (d as f64).sqrt()
}

impl Attention {
    /// B, N, h, d
    fn check(&self, qkv: &Tensor) -> Result<[usize; 4]> {
        let h = self.heads;
        let fits = qkv.rank() == 3 && h > 0 && qkv.dims()[2].is_multiple_of(3 * h);
        ensure_shape(fits, "attention", "qkv", qkv, || format!("(B, N, 3·{h}·d)"))?;
        let (b, n, width) = qkv.dims3()?;
        if let Some(neighbors) = self.neighbors.filter(|k| !(1..=n).contains(k)) {
            return Err(Error::Option {
                layer: "attention".into(),
                option: "neighbors",
                found: neighbors.to_string(),
                expected: format!("1 to {n}, the number of tokens"),
            });
        }
        Ok([b, n, h, width / 3 / h])
    }

    fn sizes(&self, dims: &[usize]) -> [usize; 4] {
        [dims[0], dims[1], self.heads, dims[2] / 3 / self.heads]
    }
}

/// One head of one image.
#[derive(Clone, Copy)]
struct Head<'a, T> {
    options: &'a Attention,
    /// Index of the head among those of all images.
    number: usize,
    /// (N, d) each.
    queries: Matrix<'a, T>,
    keys: Matrix<'a, T>,
    values: Matrix<'a, T>,
    n: usize,
    d: usize,
}

impl<'a, T: Float> Head<'a, T> {
    /// Head `head` of image `image`, whose queries, keys and values are `qkv` (N, 3·h·d).
    fn new(options: &'a Attention, qkv: &'a [T], [_, n, h, d]: [usize; 4], image: usize, head: usize) -> Self {
        let all = Matrix::new(qkv, n, 3 * h * d);
        let part = |i: usize| all.columns((i * h + head) * d, d);
        let number = image * h + head;
        Self { options, number, queries: part(0), keys: part(1), values: part(2), n, d }
    }

    /// Computes the weights (count, N) of `count` rows from `first` on, before dropout.
    fn weights(&self, first: usize, count: usize, weights: &mut Vec<T>, row: &mut Vec<T>) {
        weights.resize(count * self.n, T::ZERO);
        let (queries, scale) = (self.queries.rows(first, count), T::narrow(scale(self.d)));
        // SAFETY: `weights` has `count` rows of N elements.
        unsafe {
            scaled_product_into(queries, self.keys.transposed(), scale, false, weights.as_mut_ptr(), self.n);
        }
        if let Some(neighbors) = self.options.neighbors.filter(|&k| k < self.n) {
            weights.chunks_exact_mut(self.n).for_each(|scores| keep_best(scores, neighbors, row));
        }
        softmax_rows(weights, self.n);
    }

    /// Applies dropout to the weights of the rows from `first` on.
    fn drop_out(&self, first: usize, weights: &mut [T]) {
        if let Some(mask) = self.options.dropout {
            mask.apply((self.number * self.n + first) * self.n, weights);
        }
    }

    /// Writes the gradients of queries, keys and values into the image's `dqkv` (N, 3·h·d), given `dy` (N, d).
    fn gradients(&self, dy: Matrix<'_, T>, dqkv: &mut [T], head: usize, buffers: &mut Buffers<T>) {
        let (n, d, scale) = (self.n, self.d, T::narrow(scale(self.d)));
        let width = self.options.heads * d;
        let stride = 3 * width;
        let [dq, dk, dv] = [0, 1, 2].map(|i| i * width + head * d);
        let Buffers { weights, gradients, row } = buffers;
        for first in (0..n).step_by(ROWS) {
            let count = ROWS.min(n - first);
            let (dy, queries, add) = (dy.rows(first, count), self.queries.rows(first, count), first > 0);
            self.weights(first, count, weights, row);
            gradients.clear();
            gradients.extend_from_slice(weights);
            self.drop_out(first, gradients);
            let turned = Matrix::new(gradients, count, n).transposed();
            // SAFETY: each part of `dqkv` has N rows of d elements, `stride` apart.
            unsafe { scaled_product_into(turned, dy, T::ONE, add, dqkv.as_mut_ptr().add(dv), stride) };
            // SAFETY: `gradients` has `count` rows of N elements.
            unsafe { product_into(dy, self.values.transposed(), None, gradients.as_mut_ptr(), n) };
            self.drop_out(first, gradients);
            softmax_gradient_rows(weights, gradients, n);
            let scores = Matrix::new(gradients, count, n);
            // SAFETY: as above, from row `first` on for the queries.
            unsafe {
                let rows = dqkv.as_mut_ptr().add(first * stride + dq);
                scaled_product_into(scores, self.keys, scale, false, rows, stride);
                scaled_product_into(scores.transposed(), queries, scale, add, dqkv.as_mut_ptr().add(dk), stride);
            }
        }
    }
}

/// Working memory of a task.
#[derive(Default)]
struct Buffers<T> {
    weights: Vec<T>,
    gradients: Vec<T>,
    row: Vec<T>,
}

/// Replaces all but the `k` largest scores by −∞. A row with NaN is left as it is, so that its softmax is NaN.
fn keep_best<T: Float>(scores: &mut [T], k: usize, row: &mut Vec<T>) {
    if scores.iter().any(|score| score.partial_cmp(score).is_none()) {
        return;
    }
    let order = |a: &T, b: &T| a.partial_cmp(b).unwrap_or(Ordering::Equal);
    row.clear();
    row.extend_from_slice(scores);
    let (_, &mut least, _) = row.select_nth_unstable_by(k - 1, |a, b| order(b, a));
    let mut equal = k - scores.iter().filter(|&&score| score > least).count();
    for score in scores {
        if *score < least || (*score == least && equal == 0) {
            *score = T::NEG_INFINITY;
        } else if *score == least {
            equal -= 1;
        }
    }
}

impl Op<1> for Attention {
    const NAME: &'static str = "attention";
    const INPUTS: [&'static str; 1] = ["qkv"];

    fn forward<T: Float>(&self, [qkv]: [Input<'_, T>; 1]) -> Result<(Vec<T>, Shape)> {
        let sizes = self.sizes(qkv.dims);
        let [b, n, h, d] = sizes;
        let mut out = vec![T::ZERO; b * n * h * d];
        let images = out.par_chunks_mut((n * h * d).max(1)).zip(qkv.values.par_chunks((3 * n * h * d).max(1)));
        images.enumerate().for_each(|(image, (out, qkv))| {
            let blocks = out.par_chunks_mut(ROWS * h * d).enumerate();
            blocks.for_each_init(Buffers::default, |Buffers { weights, row, .. }, (block, out)| {
                let (first, count) = (block * ROWS, out.len() / (h * d));
                for i in 0..h {
                    let head = Head::new(self, qkv, sizes, image, i);
                    head.weights(first, count, weights, row);
                    head.drop_out(first, weights);
                    // SAFETY: `out` has `count` rows of h·d elements, of which the head owns d from i·d on.
                    unsafe {
                        let out = out.as_mut_ptr().add(i * d);
                        product_into(Matrix::new(weights, count, n), head.values, None, out, h * d);
                    }
                }
            });
        });
        Ok((out, Shape::from((b, n, h * d))))
    }

    /// With P = softmax(S), S = QKᵀ/√d, and P̃ = dropout(P): dV = P̃ᵀ dy; dP = dropout(dy Vᵀ); dS = P∘(dP − Σ P∘dP);
    /// dQ = dS K/√d; dK = dSᵀ Q/√d.
    fn backward<T: Float>(&self, pass: Backward<'_, T, 1>) -> Result<[Gradient<T>; 1]> {
        let Backward { inputs: [qkv], gradient: dy, .. } = pass;
        let sizes = self.sizes(qkv.dims);
        let [_, n, h, d] = sizes;
        let mut dqkv = vec![T::ZERO; qkv.values.len()];
        let size = (n * h * d).max(1);
        let images = dqkv.par_chunks_mut(3 * size).zip(qkv.values.par_chunks(3 * size)).zip(dy.par_chunks(size));
        images.enumerate().for_each_init(Buffers::default, |buffers, (image, ((dqkv, x), dy))| {
            for i in 0..h {
                let dy = Matrix::new(dy, n, h * d).columns(i * d, d);
                Head::new(self, x, sizes, image, i).gradients(dy, dqkv, i, buffers);
            }
        });
        Ok([Gradient::Values(dqkv)])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{
        Streams, testing,
        testing::kernels::{DTYPES, agree, output_and_gradient_bits, same_for_threads, strided, variable},
    };
    use candle_core::{DType, Device, Var};

    fn mask(p: f64) -> DropoutMask {
        DropoutMask::draw(p, &mut Streams::new(1).generator("dropout/0/test")).unwrap()
    }

    fn each(dtype: DType, f: impl Fn(&str, &Var, Attention)) {
        for [b, n, heads, d] in [[1, 1, 1, 1], [3, 7, 2, 5], [2, 33, 3, 8], [1, ROWS, 1, 4], [2, ROWS + 37, 2, 3]] {
            let qkv = variable((b, n, 3 * heads * d), dtype, 1);
            for neighbors in [None, Some(1), Some(n.div_ceil(2)), Some(n)] {
                for dropout in [None, Some(mask(0.3))] {
                    let label = format!("{dtype:?} {b},{n},{heads},{d} {neighbors:?} {dropout:?}");
                    f(&label, &qkv, Attention { heads, neighbors, dropout });
                }
            }
        }
    }

    #[test]
    fn equals_the_reference() {
        for (dtype, tolerance) in DTYPES {
            each(dtype, |label, qkv, options| {
                let inputs = std::slice::from_ref(qkv);
                let (kernel, reference) = (|| attention(qkv, options), || attention_reference(qkv, options));
                agree(label, inputs, 10.0 * tolerance, kernel, reference);
                agree(label, inputs, 10.0 * tolerance, || attention(&strided(qkv), options), reference);
            });
        }
    }

    #[test]
    fn gradients_are_exact() {
        let qkv = variable((2, 5, 12), DType::F64, 2);
        for neighbors in [None, Some(2)] {
            for dropout in [None, Some(mask(0.3))] {
                let options = Attention { heads: 2, neighbors, dropout };
                testing::gradients("attention", std::slice::from_ref(&qkv), || attention(&qkv, options), 1e-7).unwrap();
            }
        }
    }

    #[test]
    fn threads_change_nothing() {
        each(DType::F32, |label, qkv, options| {
            let f = || attention(qkv, options);
            same_for_threads(label, || output_and_gradient_bits(std::slice::from_ref(qkv), f));
        });
    }

    #[test]
    fn among_equal_scores_the_lower_index_is_kept() {
        let inf = f32::NEG_INFINITY;
        let kept = |mut scores: Vec<f32>, k| {
            keep_best(&mut scores, k, &mut Vec::new());
            scores
        };
        assert_eq!(kept(vec![1., 3., 3., -0., 0.], 1), [inf, 3., inf, inf, inf]);
        assert_eq!(kept(vec![1., 3., 3., -0., 0.], 4), [1., 3., 3., -0., inf]);
        assert_eq!(kept(vec![5.; 4], 2), [5., 5., inf, inf]);
        assert_eq!(kept(vec![inf, 2., inf, 1.], 3), [inf, 2., inf, 1.]);
    }

    /// x86 produces NaN with the sign bit set, which an order by bits would put last and so drop.
    #[test]
    fn nan_is_not_dropped() {
        let qkv = Tensor::from_vec(vec![-f32::NAN, 1.0, 1.0, 1.0, 1.0, 1.0], (1, 2, 3), &Device::Cpu).unwrap();
        let y = attention(&qkv, Attention { heads: 1, neighbors: Some(1), dropout: None }).unwrap();
        let y = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(y[0].is_nan() && y[1] == 1.0, "{y:?}");
    }

    #[test]
    fn bad_input_is_named() {
        let qkv = variable((1, 4, 6), DType::F32, 1);
        let options = Attention { heads: 4, neighbors: None, dropout: None };
        let line = attention(&qkv, options).unwrap_err().to_string();
        assert!(line.contains("attention: `qkv` has shape [1, 4, 6]; expected (B, N, 3·4·d)"), "{line}");
        for neighbors in [0, 5] {
            let options = Attention { heads: 1, neighbors: Some(neighbors), dropout: None };
            let line = attention(&qkv, options).unwrap_err().to_string();
            assert!(line.contains("neighbors") && line.contains("1 to 4, the number of tokens"), "{line}");
        }
    }

    #[test]
    fn empty_inputs() {
        for (b, n, width) in [(0, 4, 6), (2, 0, 6), (2, 4, 0)] {
            let qkv = variable((b, n, width), DType::F32, 1);
            let y = attention(&qkv, Attention { heads: 2, neighbors: None, dropout: None }).unwrap();
            assert_eq!(y.dims(), [b, n, width / 3]);
            assert_eq!(y.backward().unwrap().get(qkv.as_tensor()).unwrap().dims(), [b, n, width]);
        }
    }

    #[test]
    fn nan_reaches_the_result_of_the_reference() {
        let n = 50;
        let mut values = variable((n, 3), DType::F32, 1).flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.iter_mut().skip(1).step_by(3).filter(|key| key.abs() < 0.3).for_each(|key| *key = f32::NAN);
        let qkv = Tensor::from_vec(values, (1, n, 3), &Device::Cpu).unwrap();
        let options = Attention { heads: 1, neighbors: Some(20), dropout: None };
        for f in [attention, attention_reference] {
            let y = f(&qkv, options).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(y.iter().all(|y| y.is_nan()));
        }
    }
}
