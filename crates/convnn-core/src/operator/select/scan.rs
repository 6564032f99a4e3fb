//! The loops behind [`select`](super::select()): scores a block at a time, never the N×M matrix.
#![allow(unsafe_code)]

use super::super::similarity::Metric;
use super::best::{Best, update};
use super::{CandidateRows, Selection, distinct};
use crate::kernel::float::Float;
use crate::kernel::matrix::{Matrix, product_into};
use crate::kernel::simd::{kernel, sum_of};
use rayon::prelude::*;
use std::borrow::Cow;

/// Queries of a task.
const QUERIES: usize = 64;
/// Most candidates of a block: with the queries of a task, 256 KiB of f32 scores, which stay in the second-level cache.
const CANDIDATES: usize = 1024;
/// A squared distance below this share of the query's squared length has lost a third of an f32's digits.
const NEAR: f64 = 1.0 / 256.0;

/// Selects for the queries (N, D) of one image from its pool (M, D) into `index` and `scores` (N, K).
pub(super) fn select_image<T: Float, M: Metric>(
    queries: &[T],
    pool: &[T],
    d: usize,
    selection: &Selection,
    index: &mut [u32],
    scores: &mut [T],
) {
    let k = selection.neighbors;
    let candidates = Block::<T>::new::<M>(pool, d, &selection.candidates);
    let compared = match std::ptr::eq(queries, pool) && candidates.sample.is_none() {
        true => Cow::Borrowed(&candidates.rows[..]),
        false => compared::<T, M>(queries, d),
    };
    let zeros = match &selection.candidates {
        CandidateRows::Padded(zeros) => &zeros[..],
        _ => &[],
    };
    let tasks = index.par_chunks_mut(QUERIES * k).zip(scores.par_chunks_mut(QUERIES * k));
    tasks.enumerate().for_each(|(task, (index, scores))| {
        let (first, count) = (task * QUERIES, index.len() / k);
        let own = selection.own.as_ref().map(|own| &own[first..][..count]);
        let mut best = Best::new(count, k - usize::from(own.is_some()));
        let rows = &compared[first * d..][..count * d];
        candidates.scan::<M>(rows, own, &mut best);
        let near = candidates.scan_near::<M>(rows, own, &mut best);
        if let Some(own) = own {
            own_scores::<T, M>(&queries[first * d..][..count * d], pool, d, own, scores, k);
        }
        for (row, (mut index, mut scores)) in index.chunks_mut(k).zip(scores.chunks_mut(k)).enumerate() {
            let own = own.map(|own| own[row]);
            if let Some(own) = own {
                index[0] = own;
                (index, scores) = (&mut index[1..], &mut scores[1..]);
            }
            let query = &rows[row * d..][..d];
            let zero = match near.get(row) {
                _ if zeros.is_empty() => T::NEG_INFINITY,
                Some(true) => pair_with_zeros::<T, M>(query),
                _ => candidates.zero_score::<M>(query),
            };
            let best = best.of_query(row, own, candidates.pool as u32, candidates.pool_rows());
            merge(best, zero, zeros, candidates.pool, index, scores);
        }
    });
}

/// Rows as they are compared: scaled to length 1, or as they are.
fn compared<T: Float, M: Metric>(rows: &[T], d: usize) -> Cow<'_, [T]> {
    if M::UNIT_ROWS { Cow::Owned(unit_rows(rows, d)) } else { Cow::Borrowed(rows) }
}

/// The candidates of one image, ready to be scored.
struct Block<T> {
    /// Rows of the pool; as a row number, the zero token.
    pool: usize,
    /// Pool row of each candidate, if candidates are a sample.
    sample: Option<Vec<u32>>,
    d: usize,
    /// (M, D)
    rows: Vec<T>,
    /// (D, M), if scores are summed term by term.
    columns: Option<Vec<T>>,
    /// ‖c‖² of each candidate, if the product form needs it.
    squares: Vec<T>,
}

impl<T: Float> Block<T> {
    fn new<M: Metric>(pool: &[T], d: usize, candidates: &CandidateRows) -> Self {
        let tokens = pool.len() / d;
        let sample = match candidates {
            CandidateRows::Sample(rows) => Some(distinct(rows, tokens)),
            CandidateRows::All | CandidateRows::Padded(_) => None,
        };
        let by_terms = d <= M::WIDEST_TERMS;
        let zero = vec![T::ZERO; d];
        let gathered: Cow<'_, [T]> = match &sample {
            None => Cow::Borrowed(pool),
            Some(rows) => {
                let row = |&p: &u32| if p as usize == tokens { &zero[..] } else { &pool[p as usize * d..][..d] };
                rows.iter().flat_map(row).copied().collect()
            }
        };
        let rows = compared::<T, M>(&gathered, d).into_owned();
        let count = rows.len() / d;
        let columns = by_terms.then(|| {
            let mut columns = vec![T::ZERO; rows.len()];
            for (i, row) in rows.chunks_exact(d).enumerate() {
                row.iter().enumerate().for_each(|(c, &v)| columns[c * count + i] = v);
            }
            columns
        });
        let squares = if !by_terms && M::SQUARES { squares(&rows, d) } else { Vec::new() };
        Self { pool: tokens, sample, d, rows, columns, squares }
    }

    /// Number of candidates, without the zero tokens between the rows.
    fn count(&self) -> usize {
        self.rows.len() / self.d
    }

    /// Pool row of each candidate, then every row of the pool.
    fn pool_rows(&self) -> impl Iterator<Item = u32> {
        let sample = (0..self.count()).map(|i| self.sample.as_ref().map_or(i as u32, |sample| sample[i]));
        sample.chain(0..self.pool as u32)
    }

    /// The score of the zero token, exactly that of a row of zeros in the pool.
    fn zero_score<M: Metric>(&self, query: &[T]) -> T {
        if self.columns.is_some() {
            return score_of_zeros::<T, M>(query);
        }
        let product = product_with_zeros(query);
        let square = if M::SQUARES { squares(query, self.d)[0] } else { T::ZERO };
        M::of_product(product, square, T::ZERO)
    }

    /// Scores all candidates for the queries (N, D).
    fn scan<M: Metric>(&self, queries: &[T], own: Option<&[u32]>, best: &mut Best<T>) {
        if best.k() == 0 {
            return;
        }
        // Scores that are summed term by term are compared while they are in the first-level cache.
        let (step, widest) = if self.columns.is_some() { (2, 2 * CANDIDATES) } else { (QUERIES, CANDIDATES) };
        // Blocks of one size: in a very narrow one `gemm` would sum in another order, and equal candidates would not tie.
        let all = self.count();
        let width = all.div_ceil(all.div_ceil(widest).max(1)).max(1);
        let query_squares = if self.squares.is_empty() { Vec::new() } else { squares(queries, self.d) };
        let mut scores = vec![T::ZERO; step * width];
        for first in (0..all).step_by(width) {
            let count = width.min(all - first);
            for (i, queries) in queries.chunks(step * self.d).enumerate() {
                let scores = &mut scores[..queries.len() / self.d * count];
                match &self.columns {
                    Some(columns) => match self.d {
                        2 => score_columns::<T, 2, M>(queries, columns, 2, first, count, scores),
                        3 => score_columns::<T, 3, M>(queries, columns, 3, first, count, scores),
                        d => score_columns::<T, 0, M>(queries, columns, d, first, count, scores),
                    },
                    None => self.score_products::<M>(queries, query_squares.get(i * step..), first, count, scores),
                }
                let sample = self.sample.as_ref().map(|sample| &sample[first..][..count]);
                update::<T, M>(scores, count, first, sample, own, i * step, best);
            }
        }
    }

    /// Scans again, term by term, for each query with two neighbors so near that ‖x‖² + ‖y‖² − 2x·y cancels. Returns
    /// which these are.
    ///
    /// One near neighbor alone, such as the token itself, is the first in any case. A candidate beyond twice the length
    /// of the query is not near, so the length of the query decides.
    fn scan_near<M: Metric>(&self, queries: &[T], own: Option<&[u32]>, best: &mut Best<T>) -> Vec<bool> {
        if self.squares.is_empty() || best.k() == 0 {
            return Vec::new();
        }
        let mut scores = Vec::new();
        let rows = queries.chunks_exact(self.d).zip(squares(queries, self.d)).enumerate();
        rows.map(|(row, (query, square))| {
            let is_near = best.second(row) > -T::narrow(NEAR) * square;
            if is_near {
                best.clear(row);
                scores.resize(self.count(), T::ZERO);
                score_pairs::<T, M>(query, &self.rows, &mut scores);
                update::<T, M>(&scores, self.count(), 0, self.sample.as_deref(), own, row, best);
            }
            is_near
        })
        .collect()
    }

    /// Scores (N, `count`) of the candidates from `first` on, by a matrix product.
    fn score_products<M: Metric>(
        &self,
        queries: &[T],
        query_squares: Option<&[T]>,
        first: usize,
        count: usize,
        scores: &mut [T],
    ) {
        let (d, n) = (self.d, queries.len() / self.d);
        let block = Matrix::new(&self.rows[first * d..][..count * d], count, d).transposed();
        assert_eq!(scores.len(), n * count);
        // SAFETY: `scores` has `n` rows of `count` elements.
        unsafe { product_into(Matrix::new(queries, n, d), block, None, scores.as_mut_ptr(), count) };
        if let (true, Some(squares)) = (M::SQUARES, query_squares) {
            of_products::<T, M>(scores, squares, &self.squares[first..][..count]);
        }
    }
}

kernel! {
    /// Scores (N, `count`) of candidates stored as columns, from `first` on, term by term; `D` 0 stands for any width.
    fn score_columns<const FMA: bool, T, const D: usize; M: Metric>(
        queries: &[T], columns: &[T], d: usize, first: usize, count: usize, scores: &mut [T],
    ) {
        let d = if D > 0 { D } else { d };
        let all = columns.len() / d;
        for (query, scores) in queries.chunks_exact(d).zip(scores.chunks_exact_mut(count)) {
            if D > 0 {
                let columns: [&[T]; D] = std::array::from_fn(|c| &columns[c * all + first..][..count]);
                for (j, score) in scores.iter_mut().enumerate() {
                    let mut sum = T::ZERO;
                    for (&q, column) in query.iter().zip(&columns) {
                        sum = M::term::<FMA, T>(sum, q, column[j]);
                    }
                    *score = sum;
                }
            } else {
                scores.fill(T::ZERO);
                for (c, &q) in query.iter().enumerate() {
                    for (score, &v) in scores.iter_mut().zip(&columns[c * all + first..][..count]) {
                        *score = M::term::<FMA, T>(*score, q, v);
                    }
                }
            }
        }
    }
}

kernel! {
    /// Products become scores.
    fn of_products<const FMA: bool, T; M: Metric>(scores: &mut [T], queries: &[T], candidates: &[T]) {
        for (row, &q) in scores.chunks_exact_mut(candidates.len()).zip(queries) {
            for (score, &c) in row.iter_mut().zip(candidates) {
                *score = M::of_product(*score, q, c);
            }
        }
    }
}

kernel! {
    /// The scores of tokens with themselves, or with what stands in their place, into the first of `k` columns.
    fn own_scores<const FMA: bool, T; M: Metric>(
        queries: &[T], pool: &[T], d: usize, own: &[u32], scores: &mut [T], k: usize,
    ) {
        for ((query, &own), scores) in queries.chunks_exact(d).zip(own).zip(scores.chunks_exact_mut(k)) {
            scores[0] = M::clamp(M::pair(query, &pool[own as usize * d..][..d], M::of_query(query)));
        }
    }
}

kernel! {
    /// The score of a row of zeros, as [`score_pairs`] has it.
    fn pair_with_zeros<const FMA: bool, T; M: Metric>(query: &[T]) -> T {
        M::pair(query, &vec![T::ZERO; query.len()], M::of_query(query))
    }
}

kernel! {
    /// The score of a row of zeros, term by term.
    fn score_of_zeros<const FMA: bool, T; M: Metric>(query: &[T]) -> T {
        query.iter().fold(T::ZERO, #[inline(always)] |score, &q| M::term::<FMA, T>(score, q, T::ZERO))
    }
}

kernel! {
    /// 0, or NaN if an element is not finite.
    fn product_with_zeros<const FMA: bool, T>(query: &[T]) -> T {
        sum_of([query], #[inline(always)] |[q]| q * T::ZERO)
    }
}

kernel! {
    /// Rows divided by their length, lengths no smaller than 1e-12.
    fn unit_rows<const FMA: bool, T>(rows: &[T], d: usize) -> Vec<T> {
        let smallest = T::narrow(1e-12);
        let mut unit = Vec::with_capacity(rows.len());
        for row in rows.chunks_exact(d) {
            let norm = sum_of([row], #[inline(always)] |[v]| v * v).sqrt();
            let norm = if norm < smallest { smallest } else { norm };
            // Not by the reciprocal, which would round twice and break ties.
            unit.extend(row.iter().map(#[inline(always)] |&v| v / norm));
        }
        unit
    }
}

kernel! {
    /// The scores of a query with `rows`, each pair by itself.
    fn score_pairs<const FMA: bool, T; M: Metric>(query: &[T], rows: &[T], scores: &mut [T]) {
        let of_query = M::of_query(query);
        for (row, score) in rows.chunks_exact(query.len()).zip(scores) {
            *score = M::pair(query, row, of_query);
        }
    }
}

kernel! {
    /// ‖row‖² of each row.
    fn squares<const FMA: bool, T>(rows: &[T], d: usize) -> Vec<T> {
        rows.chunks_exact(d).map(|row| sum_of([row], #[inline(always)] |[v]| v * v)).collect()
    }
}

/// Merges the best rows of the pool with zero tokens of one score: higher first, among equals the earlier place.
fn merge<T: Float>(
    (best_scores, rows): (&[T], &[u32]),
    zero: T,
    zeros: &[u32],
    zero_row: usize,
    index: &mut [u32],
    scores: &mut [T],
) {
    // A NaN is farther than everything, like the rows that fill up.
    let zero = if zero >= T::NEG_INFINITY { zero } else { T::NEG_INFINITY };
    let (mut i, mut z) = (0, 0);
    for (index, score) in index.iter_mut().zip(scores) {
        let pool_first = z == zeros.len()
            || (i < rows.len() && (best_scores[i] > zero || (best_scores[i] == zero && rows[i] < zeros[z])));
        (*index, *score) = if pool_first { (rows[i], best_scores[i]) } else { (zero_row as u32, zero) };
        if pool_first { i += 1 } else { z += 1 }
    }
}
