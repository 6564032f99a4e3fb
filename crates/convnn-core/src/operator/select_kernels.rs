//! The loops behind [`select`](crate::operator::select()): scores a block at a time, and a running list of the K best.
#![allow(unsafe_code)]

use crate::kernel::float::Float;
use crate::kernel::matrix::Matrix;
use crate::kernel::matrix::product_into;
use crate::kernel::simd::kernel;
use crate::operator::select::Selection;
use rayon::prelude::*;

/// Queries of a task.
const QUERIES: usize = 64;
/// Candidates of a block: with the queries of a task, 256 KiB of f32 scores, which stay in the second-level cache.
const CANDIDATES: usize = 1024;
/// Scores that are compared with the K-th best at once.
const CHUNK: usize = 32;
/// Up to this width scores are computed element by element; above it, by a matrix product.
const NARROW: usize = 8;

/// Similarity in the form in which its order is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metric {
    /// Product of unit vectors, clamped to [−1, 1].
    Cosine,
    /// Minus the squared distance.
    Euclidean,
    /// Product.
    Dot,
    /// Minus the largest difference.
    Chebyshev,
}

/// Selects for the queries (N, D) of one image from its pool (M, D) into `index` (N, K).
pub(super) fn select_image<T: Float>(
    metric: Metric,
    queries: &[T],
    pool: &[T],
    d: usize,
    selection: &Selection,
    index: &mut [u32],
) {
    let k = selection.neighbors;
    let same = std::ptr::eq(queries, pool);
    let candidates = Candidates::new(metric, pool, d, selection);
    let unit = (metric == Metric::Cosine && !(same && selection.candidates.is_none())).then(|| unit_rows(queries, d));
    let queries = match &unit {
        Some(unit) => unit,
        None if metric == Metric::Cosine => &candidates.rows,
        None => queries,
    };
    index.par_chunks_mut(QUERIES * k).enumerate().for_each(|(task, index)| {
        let first = task * QUERIES;
        let queries = &queries[first * d..][..index.len() / k * d];
        let own = selection.own.as_ref().map(|own| &own[first..][..index.len() / k]);
        let mut best = Best::new(index.len() / k, k - usize::from(own.is_some()));
        candidates.scan(queries, own, &mut best);
        for (row, index) in index.chunks_mut(k).enumerate() {
            let index = match own {
                None => index,
                Some(own) => {
                    index[0] = own[row];
                    &mut index[1..]
                }
            };
            let zero = candidates.zero_score(&queries[row * d..][..d]);
            merge(best.row(row), zero, &selection.zeros, candidates.pool, index);
        }
    });
}

/// The candidates of one image, ready to be scored.
struct Candidates<T> {
    metric: Metric,
    /// Rows of the pool; as a row number, the zero token.
    pool: usize,
    /// Pool row of each candidate, where it is not its place.
    places: Option<Vec<u32>>,
    count: usize,
    d: usize,
    /// (M, D), unit rows for the cosine.
    rows: Vec<T>,
    /// (D, M), where scores are computed element by element.
    columns: Option<Vec<T>>,
    /// ‖c‖² of each candidate, for the Euclidean product form.
    squares: Vec<T>,
}

impl<T: Float> Candidates<T> {
    fn new(metric: Metric, pool: &[T], d: usize, selection: &Selection) -> Self {
        let tokens = pool.len() / d.max(1);
        let gathered: Vec<T> = match &selection.candidates {
            None => pool.to_vec(),
            Some(places) => {
                let zero = vec![T::ZERO; d];
                let row = |&p: &u32| if p as usize == tokens { &zero[..] } else { &pool[p as usize * d..][..d] };
                places.iter().flat_map(row).copied().collect()
            }
        };
        let rows = if metric == Metric::Cosine { unit_rows(&gathered, d) } else { gathered };
        let count = rows.len() / d.max(1);
        let narrow = d <= NARROW || metric == Metric::Chebyshev;
        let columns = narrow.then(|| {
            let mut columns = vec![T::ZERO; rows.len()];
            for (i, row) in rows.chunks_exact(d.max(1)).enumerate() {
                row.iter().enumerate().for_each(|(c, &v)| columns[c * count + i] = v);
            }
            columns
        });
        let squares = if !narrow && metric == Metric::Euclidean { squares(&rows, d) } else { Vec::new() };
        Self { metric, pool: tokens, places: selection.candidates.clone(), count, d, rows, columns, squares }
    }

    /// Shows all candidates to the queries (N, D).
    fn scan(&self, queries: &[T], own: Option<&[u32]>, best: &mut Best<T>) {
        if best.k == 0 {
            return;
        }
        // Scores computed element by element are compared while they are in the first-level cache.
        let step = if self.columns.is_some() { 4 } else { QUERIES };
        let query_squares = if self.squares.is_empty() { Vec::new() } else { squares(queries, self.d) };
        let mut scores = vec![T::ZERO; step * CANDIDATES.min(self.count)];
        for first in (0..self.count).step_by(CANDIDATES) {
            let count = CANDIDATES.min(self.count - first);
            for (i, queries) in queries.chunks(step * self.d).enumerate() {
                let scores = &mut scores[..queries.len() / self.d * count];
                match &self.columns {
                    Some(columns) => match self.d {
                        2 => score_columns::<T, 2>(self.metric, queries, columns, 2, first, count, scores),
                        3 => score_columns::<T, 3>(self.metric, queries, columns, 3, first, count, scores),
                        d => score_columns::<T, 0>(self.metric, queries, columns, d, first, count, scores),
                    },
                    None => self.score_products(queries, query_squares.get(i * step..), first, count, scores),
                }
                let places = self.places.as_ref().map(|places| &places[first..][..count]);
                let clamp = self.metric == Metric::Cosine;
                scan_scores(clamp, scores, count, first, places, own, i * step, best);
            }
        }
    }

    /// Scores (N, `count`) of the candidates from `first` on, by a matrix product.
    fn score_products(&self, queries: &[T], query_squares: Option<&[T]>, first: usize, count: usize, scores: &mut [T]) {
        let (d, n) = (self.d, queries.len() / self.d);
        let block = Matrix::new(&self.rows[first * d..][..count * d], count, d).transposed();
        assert_eq!(scores.len(), n * count);
        // SAFETY: `scores` has `n` rows of `count` elements.
        unsafe { product_into(Matrix::new(queries, n, d), block, None, scores.as_mut_ptr(), count) };
        if let (Metric::Euclidean, Some(squares)) = (self.metric, query_squares) {
            negative_distances(scores, squares, &self.squares[first..][..count]);
        }
    }

    /// The score of the zero token.
    fn zero_score(&self, query: &[T]) -> T {
        match self.metric {
            Metric::Cosine | Metric::Dot => T::ZERO,
            Metric::Euclidean => query.iter().fold(T::ZERO, |sum, &v| sum - v * v),
            Metric::Chebyshev => query.iter().fold(T::ZERO, |least, &v| lower(least, -distance(v, T::ZERO))),
        }
    }
}

#[inline(always)]
fn distance<T: Float>(a: T, b: T) -> T {
    if a > b { a - b } else { b - a }
}

#[inline(always)]
fn lower<T: Float>(a: T, b: T) -> T {
    if b < a { b } else { a }
}

kernel! {
    /// Scores (N, `count`) of candidates stored as columns, from `first` on, term by term; `D` 0 stands for any width.
    fn score_columns<const FMA: bool, T, const D: usize>(
        metric: Metric, queries: &[T], columns: &[T], d: usize, first: usize, count: usize, scores: &mut [T],
    ) {
        let d = if D > 0 { D } else { d };
        match metric {
            Metric::Cosine | Metric::Dot => {
                sum_terms::<T, D>(queries, columns, d, first, count, scores, #[inline(always)] |s, q, c| {
                    q.fma::<FMA>(c, s)
                });
            }
            Metric::Euclidean => {
                sum_terms::<T, D>(queries, columns, d, first, count, scores, #[inline(always)] |s, q, c| {
                    (c - q).fma::<FMA>(q - c, s)
                });
            }
            Metric::Chebyshev => {
                sum_terms::<T, D>(queries, columns, d, first, count, scores, #[inline(always)] |s, q, c| {
                    lower(s, -distance(q, c))
                });
            }
        }
    }
}

#[inline(always)]
fn sum_terms<T: Float, const D: usize>(
    queries: &[T],
    columns: &[T],
    d: usize,
    first: usize,
    count: usize,
    scores: &mut [T],
    term: impl Fn(T, T, T) -> T,
) {
    let all = columns.len() / d;
    for (query, scores) in queries.chunks_exact(d).zip(scores.chunks_exact_mut(count)) {
        if D > 0 {
            let columns: [&[T]; D] = std::array::from_fn(|c| &columns[c * all + first..][..count]);
            for (j, score) in scores.iter_mut().enumerate() {
                let mut sum = T::ZERO;
                for (&q, column) in query.iter().zip(&columns) {
                    sum = term(sum, q, column[j]);
                }
                *score = sum;
            }
        } else {
            scores.fill(T::ZERO);
            for (c, &q) in query.iter().enumerate() {
                for (score, &v) in scores.iter_mut().zip(&columns[c * all + first..][..count]) {
                    *score = term(*score, q, v);
                }
            }
        }
    }
}

/// The best candidates of each query of a task: scores in falling order, among equals in the order of candidates.
struct Best<T> {
    k: usize,
    scores: Vec<T>,
    /// Pool rows.
    rows: Vec<u32>,
}

impl<T: Float> Best<T> {
    fn new(queries: usize, k: usize) -> Self {
        Self { k, scores: vec![T::NEG_INFINITY; queries * k], rows: vec![0; queries * k] }
    }

    fn row(&self, query: usize) -> (&[T], &[u32]) {
        let row = query * self.k..(query + 1) * self.k;
        (&self.scores[row.clone()], &self.rows[row])
    }

    /// Takes in a candidate whose score is higher than the last, and returns the new last score.
    #[inline(always)]
    fn insert(&mut self, query: usize, score: T, pool_row: u32) -> T {
        let scores = &mut self.scores[query * self.k..][..self.k];
        let rows = &mut self.rows[query * self.k..][..self.k];
        let mut place = scores.len() - 1;
        while place > 0 && scores[place - 1] < score {
            scores[place] = scores[place - 1];
            rows[place] = rows[place - 1];
            place -= 1;
        }
        scores[place] = score;
        rows[place] = pool_row;
        scores[scores.len() - 1]
    }
}

/// No pool row: nothing is struck.
const NOBODY: u32 = u32::MAX;

kernel! {
    /// Shows scores (N, `count`) of the candidates from `base` on to the queries from `query` on.
    fn scan_scores<const FMA: bool, T>(
        clamp: bool, scores: &[T], count: usize, base: usize,
        places: Option<&[u32]>, own: Option<&[u32]>, query: usize, best: &mut Best<T>,
    ) {
        for (i, scores) in scores.chunks_exact(count).enumerate() {
            let query = query + i;
            let own = own.map_or(NOBODY, |own| own[query]);
            let mut last = best.scores[(query + 1) * best.k - 1];
            let (chunks, rest) = scores.as_chunks::<CHUNK>();
            // A sample may hold a token more than once, and is small.
            if places.is_none() && chunks.len() > 1 {
                let mut lanes = [T::NEG_INFINITY; CHUNK];
                for chunk in chunks {
                    raise(&mut lanes, chunk);
                }
                let bound = bound(lanes, best.k, own != NOBODY, clamp);
                last = if bound > last { bound } else { last };
            }
            let candidates = Numbers { places, base, own };
            for (i, chunk) in chunks.iter().enumerate() {
                offer(chunk, i * CHUNK, &candidates, clamp, query, &mut last, best);
            }
            if !rest.is_empty() {
                let mut chunk = [T::NEG_INFINITY; CHUNK];
                chunk[..rest.len()].copy_from_slice(rest);
                offer(&chunk, chunks.len() * CHUNK, &candidates, clamp, query, &mut last, best);
            }
        }
    }
}

/// Pool rows of the candidates of a block.
struct Numbers<'a> {
    places: Option<&'a [u32]>,
    base: usize,
    /// The pool row that is struck.
    own: u32,
}

/// Takes in the scores of a chunk that are higher than `last`.
#[inline(always)]
fn offer<T: Float>(
    chunk: &[T; CHUNK],
    first: usize,
    candidates: &Numbers<'_>,
    clamp: bool,
    query: usize,
    last: &mut T,
    best: &mut Best<T>,
) {
    if chunk.iter().fold(
        false,
        #[inline(always)]
        |any, score| any | (score > last),
    ) {
        take(chunk, first, candidates, clamp, query, last, best);
    }
}

#[inline(never)]
fn take<T: Float>(
    chunk: &[T; CHUNK],
    first: usize,
    candidates: &Numbers<'_>,
    clamp: bool,
    query: usize,
    last: &mut T,
    best: &mut Best<T>,
) {
    let mut higher = 0u32;
    for (l, score) in chunk.iter().enumerate() {
        higher |= u32::from(score > last) << l;
    }
    while higher != 0 {
        let l = higher.trailing_zeros() as usize;
        higher &= higher - 1;
        let place = first + l;
        let row = candidates.places.map_or((candidates.base + place) as u32, |places| places[place]);
        let score = if clamp && chunk[l] > T::ONE { T::ONE } else { chunk[l] };
        if row != candidates.own && score > *last {
            let least = best.insert(query, score, row);
            if least > *last {
                *last = least;
            }
        }
    }
}

/// The largest score of each lane, over all chunks so far.
#[inline(always)]
fn raise<T: Float>(lanes: &mut [T; CHUNK], chunk: &[T; CHUNK]) {
    for (lane, &score) in lanes.iter_mut().zip(chunk) {
        *lane = if score > *lane { score } else { *lane };
    }
}

/// A score that the last of the `k` best exceeds: just below the `k`-th largest lane, and one further where a lane may
/// be the token itself. Each lane is a candidate of its own, so that at least `k` are as high.
///
/// With it, few scores are taken in that do not stay.
#[inline(always)]
fn bound<T: Float>(mut lanes: [T; CHUNK], k: usize, own: bool, clamp: bool) -> T {
    let rank = k + usize::from(own);
    if rank > CHUNK {
        return T::NEG_INFINITY;
    }
    let mut largest = T::NEG_INFINITY;
    for _ in 0..rank {
        largest = lanes.iter().fold(
            T::NEG_INFINITY,
            #[inline(always)]
            |largest, &lane| if lane > largest { lane } else { largest },
        );
        // Equal lanes go together, which only lowers the bound.
        for lane in &mut lanes {
            *lane = if *lane == largest { T::NEG_INFINITY } else { *lane };
        }
    }
    let largest = if clamp && largest > T::ONE { T::ONE } else { largest };
    largest.next_down()
}

kernel! {
    /// Products become minus squared distances, at most 0.
    fn negative_distances<const FMA: bool, T>(scores: &mut [T], queries: &[T], candidates: &[T]) {
        for (row, &q) in scores.chunks_exact_mut(candidates.len()).zip(queries) {
            for (s, &c) in row.iter_mut().zip(candidates) {
                let distance = (q + c) - (*s + *s);
                *s = if distance > T::ZERO { -distance } else { T::ZERO };
            }
        }
    }
}

kernel! {
    /// Rows scaled to length 1, lengths no smaller than 1e-12.
    fn unit_rows<const FMA: bool, T>(rows: &[T], d: usize) -> Vec<T> {
        let smallest = T::narrow(1e-12);
        let mut unit = rows.to_vec();
        for row in unit.chunks_exact_mut(d.max(1)) {
            let norm = crate::kernel::simd::sum_of([row], #[inline(always)] |[v]| v * v).sqrt();
            let scale = T::ONE / if norm > smallest { norm } else { smallest };
            row.iter_mut().for_each(|v| *v *= scale);
        }
        unit
    }
}

kernel! {
    /// ‖row‖² of each row.
    fn squares<const FMA: bool, T>(rows: &[T], d: usize) -> Vec<T> {
        rows.chunks_exact(d).map(|row| crate::kernel::simd::sum_of([row], #[inline(always)] |[v]| v * v)).collect()
    }
}

/// Merges the best rows of the pool with zero tokens of one score: higher first, among equals the earlier place.
fn merge<T: Float>((scores, rows): (&[T], &[u32]), zero: T, zeros: &[u32], zero_row: usize, index: &mut [u32]) {
    let (mut i, mut z) = (0, 0);
    for out in index {
        let pool_first =
            z == zeros.len() || (i < scores.len() && (scores[i] > zero || (scores[i] == zero && rows[i] < zeros[z])));
        *out = if pool_first { rows[i] } else { zero_row as u32 };
        if pool_first { i += 1 } else { z += 1 }
    }
}
