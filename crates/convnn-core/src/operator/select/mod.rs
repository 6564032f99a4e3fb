//! Selection: the K most similar candidates of each token, in falling order of similarity.
//!
//! The N×M matrix of similarities is never formed. A block of queries meets a block of candidates, and each query keeps
//! its K best so far; most scores are only compared with the K-th best. Memory is O(N·K). Selection has no gradient:
//! [`score`](super::score()) computes the scores of the chosen pairs again if they are needed.

mod best;
mod scan;

use super::similarity::{Metric, Pair, with_metric};
use super::{Neighbors, Similarity, widened};
use crate::error::{ensure_dtype, ensure_shape};
use crate::kernel::float::{Float, has_kernel, values, with_float};
use crate::{Error, Result};
use candle_core::{D, Device, Tensor};
use rayon::prelude::*;

/// What [`select`] looks for.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// What makes two tokens close. `Dot` and `Euclidean` are taken without their scale and root, which do not change
    /// the order.
    pub similarity: Similarity,
    /// K.
    pub neighbors: usize,
    /// Which rows of the pool may be chosen.
    pub candidates: CandidateRows,
    /// The pool row of each query itself (N), if each token is to be its own first neighbor. Every occurrence of it
    /// among the candidates is then excluded.
    pub own: Option<Vec<u32>>,
}

/// Which rows of the pool may be chosen, in the order in which equally similar ones are.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum CandidateRows {
    /// Every row of the pool.
    #[default]
    All,
    /// Every row of the pool, and zero tokens between them, each given by the number of pool rows before it, in rising
    /// order. Their features are all 0; the row number one past the pool means the zero token.
    Padded(Vec<u32>),
    /// These rows; one past the pool is the zero token. Another row counts once, however often it occurs.
    Sample(Vec<u32>),
}

impl Selection {
    /// Fails unless every query has K candidates in a pool of `pool` rows.
    ///
    /// K − 1 are enough if each token is its own first neighbor: a token that is itself among exactly K − 1 candidates
    /// takes the lowest other row of the pool as its last neighbor.
    ///
    /// # Errors
    /// [`Error::Option`] if K is 0, and [`Error::NeighborsExceedCandidates`]; both name `layer`.
    pub fn check(&self, layer: &str, pool: usize) -> Result<()> {
        let candidates = match &self.candidates {
            CandidateRows::All => pool,
            CandidateRows::Padded(zeros) => pool + zeros.len(),
            CandidateRows::Sample(rows) => {
                let rows = distinct(rows, pool);
                let zeros = rows.iter().filter(|&&row| row as usize == pool).count();
                (rows.len() + usize::from(self.own.is_some())).min(pool + zeros)
            }
        };
        if self.neighbors == 0 {
            return Err(Error::Option {
                layer: layer.to_owned(),
                option: "neighbors",
                found: "0".to_owned(),
                expected: "at least 1".to_owned(),
            });
        }
        if self.neighbors > candidates {
            return Err(Error::NeighborsExceedCandidates {
                layer: layer.to_owned(),
                neighbors: self.neighbors,
                candidates,
            });
        }
        Ok(())
    }
}

/// The rows of a sample without repetitions. The zero token may occur more than once, for several tokens of padding.
fn distinct(rows: &[u32], pool: usize) -> Vec<u32> {
    let mut seen = vec![false; pool];
    let is_new = |row: &u32| seen.get_mut(*row as usize).is_none_or(|seen| !std::mem::replace(seen, true));
    rows.iter().copied().filter(is_new).collect()
}

/// The rows of the pool that are closest to each query, closest first; among equals the one that comes first. With them
/// come the scores by which they were chosen ([`Neighbors::scores`]).
///
/// A pair with a NaN is the farthest of all. No row is chosen twice.
///
/// # Shapes
/// - `queries`: (B, N, D), or (N, D) for a batch of one
/// - `pool`: (B, M, D), or (M, D)
/// - result: (B, N, K) into M rows
///
/// f16 and bf16 are widened to f32. Not differentiable.
///
/// ```
/// # fn main() -> convnn_core::Result<()> {
/// use candle_core::{Device, Tensor};
/// use convnn_core::{Similarity, operator::{Selection, select}};
/// // Which two of five words are closest to each of two queries?
/// let words = Tensor::new(&[[1f32, 0.0], [0.9, 0.1], [0.0, 1.0], [-1.0, 0.0], [0.5, 0.5]], &Device::Cpu)?;
/// let queries = Tensor::new(&[[1f32, 0.05], [0.1, 1.0]], &Device::Cpu)?;
/// let selection = Selection { similarity: Similarity::Cosine, neighbors: 2, ..Default::default() };
/// let found = select(&queries, &words, &selection)?;
/// assert_eq!(found.index().to_vec3::<u32>()?, [[[0, 1], [2, 4]]]);
/// assert!(found.scores().is_some());
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Error::NeighborsExceedCandidates`], [`Error::Option`] if K is 0 or a row is not one of the pool, [`Error::Shape`],
/// [`Error::DType`].
pub fn select(queries: &Tensor, pool: &Tensor, selection: &Selection) -> Result<Neighbors> {
    let (queries, pool) = (batched(queries)?, batched(pool)?);
    check(&queries, &pool, selection)?;
    let (queries, pool) = (widened(&queries)?, widened(&pool)?);
    if !has_kernel(&queries) {
        return select_reference(&queries, &pool, selection);
    }
    let (b, n, d) = queries.dims3()?;
    let (k, m) = (selection.neighbors, pool.dim(1)?);
    let (queries, pool) = (queries.contiguous()?, pool.contiguous()?);
    let (q, q_layout) = queries.storage_and_layout();
    let (p, p_layout) = pool.storage_and_layout();
    let mut index = vec![0; b * n * k];
    let sizes = [n, m, d];
    let scores = with_float!(queries.dtype(), T => {
        let (q, p) = (values::<T>(&q, q_layout)?, values::<T>(&p, p_layout)?);
        let mut scores = vec![T::ZERO; b * n * k];
        with_metric!(selection.similarity, M => select_images::<T, M>(q, p, sizes, selection, &mut index, &mut scores));
        Tensor::from_vec(scores, (b, n, k), &Device::Cpu)
    })?;
    let neighbors = Neighbors::trusted(Tensor::from_vec(index, (b, n, k), &Device::Cpu)?, m);
    Ok(neighbors.with_scores(scores, selection.own.is_some()))
}

fn select_images<T: Float, M: Metric>(
    q: &[T],
    p: &[T],
    [n, m, d]: [usize; 3],
    selection: &Selection,
    index: &mut [u32],
    scores: &mut [T],
) {
    let size = (n * selection.neighbors).max(1);
    let images = index.par_chunks_mut(size).zip(scores.par_chunks_mut(size));
    images.enumerate().for_each(|(image, (index, scores))| {
        let (q, p) = (&q[image * n * d..][..n * d], &p[image * m * d..][..m * d]);
        scan::select_image::<T, M>(q, p, d, selection, index, scores);
    });
}

/// (N, D) as a batch of one.
fn batched(x: &Tensor) -> Result<Tensor> {
    Ok(if x.rank() == 2 { x.unsqueeze(0)? } else { x.clone() })
}

fn check(queries: &Tensor, pool: &Tensor, selection: &Selection) -> Result<()> {
    ensure_shape(queries.rank() == 3, "select", "queries", queries, || "(B, N, D) or (N, D)".into())?;
    let (b, n, d) = queries.dims3()?;
    ensure_shape(d > 0, "select", "queries", queries, || "at least one channel".into())?;
    let fits = pool.rank() == 3 && pool.dim(0)? == b && pool.dim(2)? == d;
    ensure_shape(fits, "select", "pool", pool, || format!("({b}, M, {d})"))?;
    ensure_dtype("select", &[("queries", queries), ("pool", pool)])?;
    let m = pool.dim(1)?;
    let option = |option, found: String, expected: String| {
        Err(Error::Option { layer: "select".into(), option, found, expected })
    };
    if let Some(own) = &selection.own
        && (own.len() != n || own.iter().any(|&row| row as usize >= m))
    {
        return option("own", format!("{} rows", own.len()), format!("{n} rows below {m}"));
    }
    match &selection.candidates {
        CandidateRows::Sample(rows) => {
            if let Some(row) = rows.iter().find(|&&row| row as usize > m) {
                return option("candidates", format!("row {row}"), format!("rows of a pool of {m}"));
            }
        }
        CandidateRows::Padded(zeros) => {
            if !zeros.is_sorted() || zeros.last().is_some_and(|&before| before as usize > m) {
                return option("candidates", "zero tokens out of order".into(), format!("rising places from 0 to {m}"));
            }
        }
        CandidateRows::All => {}
    }
    selection.check("select", m)
}

/// The plain form of [`select`]: the whole matrix of similarities, sorted row by row.
///
/// # Errors
/// As [`select`].
pub fn select_reference(queries: &Tensor, pool: &Tensor, selection: &Selection) -> Result<Neighbors> {
    let (queries, pool) = (batched(queries)?, batched(pool)?);
    check(&queries, &pool, selection)?;
    let (queries, pool) = (widened(&queries)?, widened(&pool)?);
    let (b, n, d) = queries.dims3()?;
    let m = pool.dim(1)?;
    let device = queries.device();
    let (queries, pool) = (queries.detach(), pool.detach());
    let candidates = in_order(&selection.candidates, m);
    let count = candidates.len();
    let rows = Tensor::from_slice(&candidates, count, device)?;
    let zero = Tensor::zeros((b, 1, d), pool.dtype(), device)?;
    let pool = Tensor::cat(&[&pool, &zero], 1)?.contiguous()?;
    let similarity = |pool: &Tensor| with_metric!(selection.similarity, M => M::all_pairs(&queries, pool));
    let scores = similarity(&pool.index_select(&rows, 1)?)?; // (B, N, R)
    let own_scores = match &selection.own {
        None => Vec::new(),
        Some(own) => {
            let own = Tensor::from_slice(own, n, device)?;
            let own = pool.index_select(&own, 1)?.unsqueeze(2)?; // (B, N, 1, D)
            let queries = queries.unsqueeze(2)?;
            let scores = with_metric!(selection.similarity, M => M::chosen_pairs(&queries, &own))?;
            scores.flatten_all()?.to_dtype(candle_core::DType::F64)?.to_vec1::<f64>()?
        }
    };
    let scores = scores.flatten_to(D::Minus2)?.to_dtype(candle_core::DType::F64)?.to_vec2::<f64>()?;
    let (mut index, mut chosen) = (Vec::new(), Vec::new());
    for (query, scores) in scores.iter().enumerate() {
        let own = selection.own.as_ref().map(|own| own[query % n]);
        let mut order: Vec<usize> = (0..count).filter(|&i| Some(candidates[i]) != own).collect();
        // Stable, and a NaN is farther than everything.
        order.sort_by(|&a, &b| {
            // −0 is 0.
            let key = |i: usize| if scores[i].is_nan() { f64::NEG_INFINITY } else { scores[i] + 0.0 };
            key(b).total_cmp(&key(a))
        });
        let mut row: Vec<(u32, f64)> = order.into_iter().map(|i| (candidates[i], scores[i])).collect();
        if let Some(own) = own {
            row.insert(0, (own, own_scores[query]));
        }
        if row.len() < selection.neighbors {
            let fill: Vec<u32> = (0..m as u32).filter(|i| row.iter().all(|(row, _)| row != i)).collect();
            row.extend(fill.into_iter().map(|i| (i, f64::NEG_INFINITY)));
        }
        row.truncate(selection.neighbors);
        index.extend(row.iter().map(|(row, _)| *row));
        chosen.extend(row.iter().map(|(_, score)| if score.is_nan() { f64::NEG_INFINITY } else { *score }));
    }
    let shape = (b, n, selection.neighbors);
    let index = Tensor::from_vec(index, shape, device)?;
    let chosen = Tensor::from_vec(chosen, shape, &Device::Cpu)?.to_dtype(queries.dtype())?.to_device(device)?;
    Ok(Neighbors::trusted(index, m).with_scores(chosen, selection.own.is_some()))
}

/// The candidates as a list of rows, in the order of ties: zero tokens between the rows of a pool of `m`.
fn in_order(candidates: &CandidateRows, m: usize) -> Vec<u32> {
    match candidates {
        CandidateRows::Sample(rows) => distinct(rows, m),
        CandidateRows::All => (0..m as u32).collect(),
        CandidateRows::Padded(zeros) => {
            let mut rows: Vec<(u32, u32)> = (0..m as u32).map(|row| (2 * row + 1, row)).collect();
            rows.extend(zeros.iter().map(|&before| (2 * before, m as u32)));
            rows.sort_by_key(|&(place, _)| place);
            rows.into_iter().map(|(_, row)| row).collect()
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::compare;
    use crate::testing::kernels::{same_for_threads, variable};
    use candle_core::DType;

    /// Numbers on a coarse lattice, so that products and differences are exact and ties abound.
    fn lattice(shape: (usize, usize, usize), dtype: DType, seed: u64) -> Tensor {
        let x = variable(shape, DType::F64, seed);
        ((x.as_tensor() * 2.0).unwrap().round().unwrap() * 0.5).unwrap().to_dtype(dtype).unwrap()
    }

    fn rows(neighbors: &Neighbors) -> Vec<u32> {
        neighbors.values().unwrap()
    }

    #[track_caller]
    fn equal(label: &str, queries: &Tensor, pool: &Tensor, selection: &Selection) {
        let found = select(queries, pool, selection).unwrap();
        let expected = select_reference(queries, pool, selection).unwrap();
        let (index, expected_index) = (rows(&found), rows(&expected));
        if let Some(i) = (0..index.len()).find(|&i| index[i] != expected_index[i]) {
            let k = selection.neighbors;
            let row = i / k * k..i / k * k + k;
            panic!("{label}: row {}: {:?}, expected {:?}", i / k, &index[row.clone()], &expected_index[row]);
        }
        // Rows that fill up have no score.
        let finite = |neighbors: &Neighbors| neighbors.scores().unwrap().maximum(-1e6).unwrap();
        compare(label, &finite(&found), &finite(&expected), 1e-5).unwrap();
    }

    /// Kernel and reference choose the same rows where ties are exact, over sizes around every block boundary.
    #[test]
    fn equals_the_reference_with_ties() {
        for dtype in [DType::F32, DType::F64] {
            for similarity in Similarity::ALL.into_iter().filter(|&one| one != Similarity::Cosine) {
                for (n, d) in [(1, 3), (31, 1), (33, 2), (64, 3), (65, 9), (100, 16), (129, 4), (600, 12)] {
                    let x = lattice((2, n, d), dtype, (n + d) as u64);
                    for k in [1, 2, 9, n].into_iter().filter(|&k| k <= n && k <= 100) {
                        let own = Some((0..n as u32).collect());
                        let selection = Selection { similarity, neighbors: k, own, ..Default::default() };
                        equal(&format!("{dtype:?} {similarity:?} n={n} d={d} k={k}"), &x, &x, &selection);
                        equal("nothing forced", &x, &x, &Selection { own: None, ..selection });
                    }
                }
            }
        }
    }

    #[test]
    fn equals_the_reference_for_cosine() {
        for (n, m, d) in [(7, 40, 3), (70, 130, 24), (5, 1100, 8), (65, 1030, 40)] {
            let queries = variable((2, n, d), DType::F64, 3).as_tensor().clone();
            let pool = variable((2, m, d), DType::F64, 4).as_tensor().clone();
            let selection = Selection { neighbors: 9.min(m), ..Default::default() };
            equal(&format!("{n} {m} {d}"), &queries, &pool, &selection);
        }
    }

    /// Zero tokens lie between rows: tokens equal to them come in the order of their places, at every width.
    #[test]
    fn zero_tokens_are_merged_in_their_places() {
        for similarity in Similarity::ALL {
            // At larger widths rounding orders the cosines of equal directions.
            for d in if similarity == Similarity::Cosine { vec![3] } else { vec![3, 20] } {
                let mut x = lattice((2, 12, d), DType::F32, 5).to_vec3::<f32>().unwrap();
                x[0][4] = vec![0.0; d];
                x[1][7] = vec![0.0; d];
                let x = Tensor::new(x, &Device::Cpu).unwrap();
                for zeros in [vec![0, 0, 3, 7, 12], vec![5], vec![0; 20]] {
                    for neighbors in [1, 4, 9, 12 + zeros.len()] {
                        let own = Some((0..12).collect());
                        let candidates = CandidateRows::Padded(zeros.clone());
                        let selection = Selection { similarity, neighbors, own, candidates };
                        if similarity == Similarity::Cosine && neighbors > 1 {
                            // Rounding may order equal directions otherwise; what counts is where zero tokens are.
                            let zero =
                                |found: Neighbors| rows(&found).into_iter().map(|row| row == 12).collect::<Vec<_>>();
                            let found = select(&x, &x, &selection).unwrap();
                            assert_eq!(zero(found), zero(select_reference(&x, &x, &selection).unwrap()));
                        } else {
                            equal(&format!("{similarity:?} d={d} {zeros:?} k={neighbors}"), &x, &x, &selection);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_sample_of_candidates() {
        let x = lattice((2, 50, 5), DType::F32, 6);
        // 50 is the zero token, of two tokens of padding; 7 counts once.
        let sample = vec![3, 7, 7, 20, 31, 49, 50, 50];
        for similarity in [Similarity::Euclidean, Similarity::Dot, Similarity::Manhattan] {
            for neighbors in [1, 2, 6, 7] {
                let own = Some((0..50).collect());
                let candidates = CandidateRows::Sample(sample.clone());
                let selection = Selection { similarity, neighbors, own, candidates };
                equal(&format!("{similarity:?} k={neighbors}"), &x, &x, &selection);
                equal("nothing forced", &x, &x, &Selection { own: None, ..selection });
            }
        }
    }

    /// K − 1 candidates are enough where each token comes first: one that is among them takes the lowest other token.
    #[test]
    fn one_candidate_less_is_enough() {
        let x = lattice((1, 6, 3), DType::F32, 7);
        let candidates = CandidateRows::Sample(vec![2, 4]);
        let selection = Selection { neighbors: 3, candidates, own: Some((0..6).collect()), ..Default::default() };
        equal("k = 3", &x, &x, &Selection { similarity: Similarity::Euclidean, ..selection.clone() });
        for (token, row) in rows(&select(&x, &x, &selection).unwrap()).chunks(3).enumerate() {
            assert_eq!(row[0] as usize, token);
            let mut others = row[1..].to_vec();
            others.sort_unstable();
            let expected = match token {
                2 => [0, 4],
                4 => [0, 2],
                _ => [2, 4],
            };
            assert_eq!(others, expected, "token {token}");
        }
    }

    #[test]
    fn too_many_neighbors_are_refused() {
        let x = lattice((1, 6, 3), DType::F32, 7);
        let refused = |selection: Selection| match select(&x, &x, &selection) {
            Err(Error::NeighborsExceedCandidates { neighbors, candidates, .. }) => (neighbors, candidates),
            other => panic!("{other:?}"),
        };
        let own = Some((0..6).collect::<Vec<u32>>());
        assert_eq!(refused(Selection { neighbors: 7, ..Default::default() }), (7, 6));
        let candidates = CandidateRows::Padded(vec![0, 1]);
        assert_eq!(refused(Selection { neighbors: 9, candidates, own: own.clone(), ..Default::default() }), (9, 8));
        let candidates = CandidateRows::Sample(vec![0, 2, 2]);
        assert_eq!(
            refused(Selection { neighbors: 4, candidates: candidates.clone(), own, ..Default::default() }),
            (4, 3)
        );
        assert_eq!(refused(Selection { neighbors: 3, candidates, own: None, ..Default::default() }), (3, 2));
    }

    /// A pair with a NaN is the farthest of all, infinite distances included, and no row comes twice.
    #[test]
    fn nan_is_farthest() {
        for similarity in Similarity::ALL {
            for d in [3, 20] {
                let mut values = lattice((1, 40, d), DType::F32, 8).to_vec3::<f32>().unwrap();
                values[0][5][d - 1] = f32::NAN;
                values[0][17] = vec![f32::NAN; d];
                let x = Tensor::new(values, &Device::Cpu).unwrap();
                for own in [None, Some((0..40).collect::<Vec<u32>>())] {
                    let selection = Selection { similarity, neighbors: 40, own: own.clone(), ..Default::default() };
                    let found = select(&x, &x, &selection).unwrap();
                    for (token, row) in rows(&found).chunks(40).enumerate() {
                        let mut sorted = row.to_vec();
                        sorted.sort_unstable();
                        assert_eq!(sorted, (0..40).collect::<Vec<u32>>(), "{similarity:?} token {token}");
                        if token != 5 && token != 17 {
                            assert_eq!(row[38..], [5, 17], "{similarity:?} d={d} token {token}: {row:?}");
                        } else {
                            let rest: Vec<u32> = (0..40).filter(|&i| own.is_none() || i != token as u32).collect();
                            assert_eq!(row[40 - rest.len()..], rest, "{similarity:?} token {token}");
                        }
                    }
                    let candidates = CandidateRows::Padded(vec![0, 7, 40]);
                    let padded = Selection { candidates, ..selection };
                    if similarity != Similarity::Cosine {
                        let (found, expected) = (select(&x, &x, &padded), select_reference(&x, &x, &padded));
                        assert_eq!(rows(&found.unwrap()), rows(&expected.unwrap()), "{similarity:?} d={d}");
                    }
                }
            }
        }
    }

    /// A token of NaN is as far from the zero tokens of a sample as from all others; they fill up, as often as they were
    /// drawn.
    #[test]
    fn samples_fill_up_with_zero_tokens() {
        let mut values = lattice((1, 4, 3), DType::F32, 8).to_vec3::<f32>().unwrap();
        values[0][2][1] = f32::NAN;
        let x = Tensor::new(values, &Device::Cpu).unwrap();
        for similarity in [Similarity::Dot, Similarity::Euclidean] {
            let sample = [&[4; 5][..], &[0, 1, 4, 2, 3], &[4; 6]].concat();
            let candidates = CandidateRows::Sample(sample);
            let selection = Selection { similarity, neighbors: 9, candidates, own: Some(vec![0, 1, 2, 3]) };
            let (found, expected) = (select(&x, &x, &selection), select_reference(&x, &x, &selection));
            assert_eq!(rows(&found.unwrap()), rows(&expected.unwrap()), "{similarity:?}");
        }
    }

    /// Squared distances must not cancel where the mean is large against the spread.
    #[test]
    fn distances_far_from_zero() {
        let (n, d, k) = (48, 16, 8);
        for ratio in [100.0, 300.0, 1_000.0, 3_000.0, 10_000.0] {
            let x = (variable((4, n, d), DType::F64, 11).as_tensor() + ratio).unwrap().to_dtype(DType::F32).unwrap();
            let selection = Selection { similarity: Similarity::Euclidean, neighbors: k, ..Default::default() };
            // Alone, after padding, and after an outlier.
            for first in [None, Some(0.0), Some(3.0 * ratio)] {
                let others = |value: f64| Tensor::full(value as f32, (4, 12, d), &Device::Cpu).unwrap();
                let pool = first.map_or(x.clone(), |value| Tensor::cat(&[&others(value), &x], 1).unwrap());
                let found = rows(&select(&x, &pool, &selection).unwrap());
                // The same numbers, compared in f64.
                let [x, pool] = [&x, &pool].map(|x| x.to_dtype(DType::F64).unwrap());
                let expected = rows(&select_reference(&x, &pool, &selection).unwrap());
                let pairs = found.chunks(k).zip(expected.chunks(k));
                let right: usize = pairs.map(|(a, b)| a.iter().filter(|row| b.contains(row)).count()).sum();
                let all = found.len();
                assert!(right as f64 >= 0.999 * all as f64, "μ/σ = {ratio}, {first:?}: {right} of {all}");
            }
        }
    }

    /// Two clusters on opposite sides of 0: their mean is near 0, and ‖x‖² + ‖y‖² − 2x·y would cancel within each.
    #[test]
    fn distances_within_clusters_far_apart() {
        let (n, d, k) = (96, 16, 8);
        let spread = variable((2, n, d), DType::F64, 21);
        for distance in [30.0, 300.0, 3_000.0] {
            let sides: Vec<f64> = (0..n).map(|i| if i % 2 == 0 { distance } else { -distance }).collect();
            let sides = Tensor::from_vec(sides, (1, n, 1), &Device::Cpu).unwrap();
            let x = spread.broadcast_add(&sides).unwrap().to_dtype(DType::F32).unwrap();
            let tokens: Vec<u32> = (0..n as u32).collect();
            let lists = [CandidateRows::All, CandidateRows::Sample(tokens.clone()), CandidateRows::Padded(vec![0, 50])];
            for (candidates, own) in
                lists.into_iter().flat_map(|list| [(list.clone(), None), (list, Some(tokens.clone()))])
            {
                let selection = Selection { similarity: Similarity::Euclidean, neighbors: k, candidates, own };
                let found = rows(&select(&x, &x, &selection).unwrap());
                let wide = x.to_dtype(DType::F64).unwrap();
                assert_eq!(
                    found,
                    rows(&select_reference(&wide, &wide, &selection).unwrap()),
                    "{distance} {selection:?}"
                );
            }
        }
    }

    /// Rounding takes the cosine of opposite directions below −1, where all of them tie.
    #[test]
    fn opposite_directions_tie() {
        for d in [3, 64] {
            let direction = variable((1, 1, d), DType::F32, 22);
            let lengths: Vec<f32> = (0..96).map(|i| -0.5 - i as f32 * 0.37).collect();
            let pool = direction.broadcast_mul(&Tensor::from_vec(lengths, (1, 96, 1), &Device::Cpu).unwrap()).unwrap();
            let order =
                |neighbors| rows(&select(&direction, &pool, &Selection { neighbors, ..Selection::default() }).unwrap());
            assert_eq!(order(9), order(96)[..9], "d = {d}");
        }
    }

    /// 41 · (1/41) is 0.99999994 in f32: a reciprocal would put token 1 before token 0 and break the tie of 1 and 2.
    #[test]
    fn equal_directions_tie() {
        let x = Tensor::new(&[[[41f32], [1.0], [1.0]]], &Device::Cpu).unwrap();
        let selection = Selection { neighbors: 2, own: Some(vec![0, 1, 2]), ..Default::default() };
        assert_eq!(rows(&select(&x, &x, &selection).unwrap()), [0, 1, 1, 0, 2, 0]);
    }

    /// The last block of candidates would have as few as 1 to 4 rows, which `gemm` sums in another order.
    #[test]
    fn equal_tokens_tie_across_blocks() {
        for n in 1025..=1028 {
            let mut values = variable((1, n, 64), DType::F32, 12).to_vec3::<f32>().unwrap();
            values[0][n - 1] = values[0][0].clone();
            let x = Tensor::new(values, &Device::Cpu).unwrap();
            for similarity in [Similarity::Dot, Similarity::Cosine, Similarity::Euclidean] {
                let selection = Selection { similarity, neighbors: n, ..Default::default() };
                let found = select(&x, &x, &selection).unwrap();
                let scores = found.scores().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
                for (row, scores) in rows(&found).chunks(n).zip(scores.chunks(n)) {
                    let place = |token: usize| row.iter().position(|&row| row as usize == token).unwrap();
                    let (first, last) = (place(0), place(n - 1));
                    assert!(first < last && scores[first] == scores[last], "{similarity:?} N = {n}");
                }
            }
        }
    }

    #[test]
    fn strided_inputs_and_threads_change_nothing() {
        let x = variable((3, 8, 200), DType::F32, 8).t().unwrap();
        let own = Some((0..200).collect());
        let selection = Selection { neighbors: 9, own, ..Default::default() };
        let expected = select(&x.contiguous().unwrap(), &x.contiguous().unwrap(), &selection).unwrap();
        same_for_threads("select", || {
            let found = rows(&select(&x, &x, &selection).unwrap());
            assert_eq!(found, rows(&expected));
            found.into_iter().map(u64::from).collect()
        });
    }

    #[test]
    fn half_types_are_widened_and_whole_numbers_refused() {
        let x = lattice((2, 40, 12), DType::F32, 9);
        let selection = Selection { similarity: Similarity::Euclidean, neighbors: 5, ..Default::default() };
        let expected = rows(&select(&x, &x, &selection).unwrap());
        for dtype in [DType::F16, DType::BF16] {
            let half = x.to_dtype(dtype).unwrap();
            assert_eq!(rows(&select(&half, &half, &selection).unwrap()), expected);
        }
        let bytes = x.to_dtype(DType::U8).unwrap();
        let line = select(&bytes, &bytes, &selection).unwrap_err().to_string();
        assert_eq!(line, "select: `queries` has dtype U8; expected a floating-point type; convert with `to_dtype`");
        let line = select(&x, &x.to_dtype(DType::F64).unwrap(), &selection).unwrap_err().to_string();
        assert_eq!(line, "select: `pool` has dtype F64; expected F32, the dtype of `queries`");
    }

    #[test]
    fn empty_inputs() {
        let selection = Selection { neighbors: 2, ..Default::default() };
        let pool = lattice((2, 5, 3), DType::F32, 1);
        let none = Tensor::zeros((2, 0, 3), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(select(&none, &pool, &selection).unwrap().index().dims(), [2, 0, 2]);
        assert!(select(&pool, &none, &selection).is_err());
        let empty = Tensor::zeros((2, 5, 0), DType::F32, &Device::Cpu).unwrap();
        assert!(select(&empty, &empty, &selection).unwrap_err().to_string().contains("at least one channel"));
    }
}
