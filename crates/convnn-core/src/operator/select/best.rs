//! The K best candidates of each query so far.

use crate::kernel::float::Float;
use crate::kernel::simd::{LANES as CHUNK, fold_lanes, kernel};
use crate::operator::similarity::Metric;

/// In place of a pool row: no candidate yet, or no row to exclude.
const NONE: u32 = u32::MAX;

/// The best candidates of the queries of a task: scores in falling order, among equals in the order of candidates.
pub(super) struct Best<T> {
    k: usize,
    scores: Vec<T>,
    /// Pool rows.
    rows: Vec<u32>,
}

impl<T: Float> Best<T> {
    pub(super) fn new(queries: usize, k: usize) -> Self {
        Self { k, scores: vec![T::NEG_INFINITY; queries * k], rows: vec![NONE; queries * k] }
    }

    pub(super) const fn k(&self) -> usize {
        self.k
    }

    /// The score of the second of a query, or of the only one.
    pub(super) fn second(&self, query: usize) -> T {
        self.scores[query * self.k + self.k.min(2) - 1]
    }

    /// Forgets the candidates of a query.
    pub(super) fn clear(&mut self, query: usize) {
        let row = query * self.k..(query + 1) * self.k;
        self.scores[row.clone()].fill(T::NEG_INFINITY);
        self.rows[row].fill(NONE);
    }

    /// Inserts a candidate whose score is higher than the last, and returns the new last score.
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

    /// The best of one query. If there are too few, because scores were NaN or −∞ or because the token itself is one of
    /// a sample of K − 1, the first of `candidates` that are not among them, and not `own`, fill up. A sample may hold the
    /// `zero` token several times; all of these have one score, so either all of them are among the best or none.
    pub(super) fn of_query(
        &mut self,
        query: usize,
        own: Option<u32>,
        zero: u32,
        candidates: impl Iterator<Item = u32>,
    ) -> (&[T], &[u32]) {
        let row = query * self.k..(query + 1) * self.k;
        let rows = &mut self.rows[row.clone()];
        if rows.last() == Some(&NONE) {
            let mut open = rows.iter().position(|&row| row == NONE).unwrap_or(rows.len());
            let zeros_are_in = rows[..open].contains(&zero);
            for candidate in candidates {
                if open == rows.len() {
                    break;
                }
                let is_in = if candidate == zero { zeros_are_in } else { rows[..open].contains(&candidate) };
                if Some(candidate) != own && !is_in {
                    rows[open] = candidate;
                    open += 1;
                }
            }
        }
        (&self.scores[row.clone()], &self.rows[row])
    }
}

kernel! {
    /// Takes the scores of `count` candidates from `first` on, for the queries from `query` on.
    ///
    /// `sample` holds the pool rows of these candidates if they are not `first`, `first` + 1, ….
    pub(super) fn update<const FMA: bool, T; M: Metric>(
        scores: &[T], count: usize, first: usize,
        sample: Option<&[u32]>, own: Option<&[u32]>, query: usize, best: &mut Best<T>,
    ) {
        for (i, scores) in scores.chunks_exact(count).enumerate() {
            let query = query + i;
            let own = own.map_or(NONE, |own| own[query]);
            let mut last = best.scores[(query + 1) * best.k - 1];
            let (chunks, rest) = scores.as_chunks::<CHUNK>();
            // Later blocks have the K-th best so far. A sample may hold a token more than once, and is small.
            if last == T::NEG_INFINITY && sample.is_none() && chunks.len() > 1 {
                let mut lanes = [T::NEG_INFINITY; CHUNK];
                for chunk in chunks {
                    lane_maxima(&mut lanes, chunk);
                }
                last = lower_bound::<T, M>(lanes, best.k, own != NONE);
            }
            let candidates = Rows { sample, first, own };
            for (i, chunk) in chunks.iter().enumerate() {
                update_chunk::<T, M>(chunk, i * CHUNK, &candidates, query, &mut last, best);
            }
            if !rest.is_empty() {
                let mut chunk = [T::NEG_INFINITY; CHUNK];
                chunk[..rest.len()].copy_from_slice(rest);
                update_chunk::<T, M>(&chunk, chunks.len() * CHUNK, &candidates, query, &mut last, best);
            }
        }
    }
}

/// Pool rows of the candidates of a block.
struct Rows<'a> {
    sample: Option<&'a [u32]>,
    first: usize,
    /// The pool row that is excluded.
    own: u32,
}

/// Inserts the scores of a chunk that are higher than `last`.
#[inline(always)]
fn update_chunk<T: Float, M: Metric>(
    chunk: &[T; CHUNK],
    start: usize,
    candidates: &Rows<'_>,
    query: usize,
    last: &mut T,
    best: &mut Best<T>,
) {
    if chunk.iter().fold(
        false,
        #[inline(always)]
        |any, score| any | (score > last),
    ) {
        insert_higher::<T, M>(chunk, start, candidates, query, last, best);
    }
}

/// Finds the higher scores without a branch for each, since which ones are higher cannot be predicted. Out of line, so
/// that the loop over the chunks keeps its registers.
#[inline(never)]
fn insert_higher<T: Float, M: Metric>(
    chunk: &[T; CHUNK],
    start: usize,
    candidates: &Rows<'_>,
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
        let place = start + l;
        let row = candidates.sample.map_or((candidates.first + place) as u32, |sample| sample[place]);
        let score = M::clamp(chunk[l]);
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
fn lane_maxima<T: Float>(lanes: &mut [T; CHUNK], chunk: &[T; CHUNK]) {
    for (lane, &score) in lanes.iter_mut().zip(chunk) {
        *lane = if score > *lane { score } else { *lane };
    }
}

/// A score that the last of the `k` best exceeds: just below the `k`-th largest lane, and one further where a lane may
/// be the token itself. Each lane is another candidate, so that at least `k` are as high.
///
/// With it, few scores are inserted that do not stay.
#[inline(always)]
fn lower_bound<T: Float, M: Metric>(mut lanes: [T; CHUNK], k: usize, own: bool) -> T {
    let rank = k + usize::from(own);
    if rank > CHUNK {
        return T::NEG_INFINITY;
    }
    let mut largest = T::NEG_INFINITY;
    for _ in 0..rank {
        largest = fold_lanes(
            lanes,
            #[inline(always)]
            |a, b| if a > b { a } else { b },
        );
        // Equal lanes go together, which only lowers the bound.
        for lane in &mut lanes {
            *lane = if *lane == largest { T::NEG_INFINITY } else { *lane };
        }
    }
    // Not above the score itself: rounding may have taken it below the least.
    let clamped = M::clamp(largest);
    (if largest < clamped { largest } else { clamped }).next_down()
}
