//! Selection: the K most similar candidates of each token, in falling order of similarity.
//!
//! The N×M matrix of similarities is never formed. A block of queries meets a block of candidates, and each query keeps
//! its K best so far; most scores are only compared with the K-th best. Memory is O(N·K). Selection has no gradient:
//! [`pair_scores`](crate::operator::score()) computes the scores of the chosen pairs again where one is needed.

use crate::error::ensure_shape;
use crate::kernel::float::Float;
use crate::kernel::float::has_kernel;
use crate::kernel::float::values;
use crate::kernel::float::with_float;
use crate::operator::select_kernels::{Metric, select_image};
use crate::{Error, Result, Similarity};
use candle_core::{D, Device, Tensor};
use rayon::prelude::*;

/// What [`select`] looks for.
///
/// Candidates are rows of the pool. The row number one past the pool means the zero token, whose features are all 0.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// What makes two tokens close. `Dot` and `Euclidean` are taken without their scale and root, which do not change
    /// the order.
    pub similarity: Similarity,
    /// K.
    pub neighbors: usize,
    /// The pool row of each query itself (N), where a token comes first among its own neighbors. It is then no
    /// candidate of its own.
    pub own: Option<Vec<u32>>,
    /// The candidates, in the order in which equal ones are chosen; `None`: every row of the pool.
    pub candidates: Option<Vec<u32>>,
    /// Zero tokens that are candidates beside every row of the pool, each by the number of pool rows before it, in
    /// rising order. Only with `candidates: None`.
    pub zeros: Vec<u32>,
}

impl Selection {
    /// Fails unless every query has K candidates.
    ///
    /// # Errors
    /// [`Error::NeighborsExceedCandidates`], naming `layer`.
    pub fn check(&self, layer: &str, pool: usize) -> Result<()> {
        let candidates = match &self.candidates {
            None => pool + self.zeros.len(),
            Some(rows) if self.own.is_none() => rows.len(),
            // A token that is struck from the candidates is struck as often as it stands there.
            Some(rows) => {
                let mut count = vec![0usize; pool + 1];
                rows.iter().for_each(|&row| count[row as usize] += 1);
                rows.len() + 1 - count[..pool].iter().max().map_or(1, |&most| most.max(1))
            }
        };
        if self.neighbors == 0 || self.neighbors > candidates {
            return Err(Error::NeighborsExceedCandidates {
                layer: layer.to_owned(),
                neighbors: self.neighbors,
                candidates,
            });
        }
        Ok(())
    }
}

/// The rows of the pool that are closest to each query, closest first; among equals the one that comes first.
///
/// # Shapes
/// - `queries`: (B, N, D)
/// - `pool`: (B, M, D)
/// - result: (B, N, K), u32; M stands for the zero token
///
/// # Errors
/// [`Error::NeighborsExceedCandidates`] where K is 0 or larger than the candidates, [`Error::Shape`].
pub fn select(queries: &Tensor, pool: &Tensor, selection: &Selection) -> Result<Tensor> {
    check(queries, pool, selection)?;
    if !has_kernel(queries) || queries.dtype() != pool.dtype() {
        return select_reference(queries, pool, selection);
    }
    let (b, n, d) = queries.dims3()?;
    let k = selection.neighbors;
    let m = pool.dim(1)?;
    let queries = queries.contiguous()?;
    let pool = pool.contiguous()?;
    let (q, q_layout) = queries.storage_and_layout();
    let (p, p_layout) = pool.storage_and_layout();
    let index = with_float!(queries.dtype(), T => {
        let (q, p) = (values::<T>(&q, q_layout)?, values::<T>(&p, p_layout)?);
        Ok(rows_of_images::<T>(q, p, [b, n, m, d], selection))
    })?;
    Ok(Tensor::from_vec(index, (b, n, k), &Device::Cpu)?)
}

fn rows_of_images<T: Float>(q: &[T], p: &[T], [b, n, m, d]: [usize; 4], selection: &Selection) -> Vec<u32> {
    let metric = match selection.similarity {
        Similarity::Cosine => Metric::Cosine,
        Similarity::Euclidean => Metric::Euclidean,
        Similarity::Dot => Metric::Dot,
        Similarity::Chebyshev => Metric::Chebyshev,
    };
    let k = selection.neighbors;
    let mut index = vec![0; b * n * k];
    index.par_chunks_mut(n * k).enumerate().for_each(|(image, index)| {
        let (q, p) = (&q[image * n * d..][..n * d], &p[image * m * d..][..m * d]);
        select_image(metric, q, p, d, selection, index);
    });
    index
}

fn check(queries: &Tensor, pool: &Tensor, selection: &Selection) -> Result<()> {
    ensure_shape(queries.rank() == 3, "select", "queries", queries, || "(B, N, D)".into())?;
    let (b, n, d) = queries.dims3()?;
    let fits = pool.rank() == 3 && pool.dim(0)? == b && pool.dim(2)? == d;
    ensure_shape(fits, "select", "pool", pool, || format!("({b}, M, {d})"))?;
    let m = pool.dim(1)?;
    let option = |option, found: String, expected: String| {
        Err(Error::Option { layer: "select".into(), option, found, expected })
    };
    if let Some(own) = &selection.own
        && (own.len() != n || own.iter().any(|&row| row as usize >= m))
    {
        return option("own", format!("{} rows", own.len()), format!("{n} rows below {m}"));
    }
    if let Some(row) = selection.candidates.iter().flatten().find(|&&row| row as usize > m) {
        return option("candidates", format!("row {row}"), format!("rows of a pool of {m}"));
    }
    if selection.candidates.is_some() && !selection.zeros.is_empty() {
        return option("zeros", "given beside `candidates`".into(), "one of the two".into());
    }
    selection.check("select", m)
}

/// The plain form of [`select`]: the whole matrix of similarities, sorted row by row.
///
/// # Errors
/// As [`select`].
pub fn select_reference(queries: &Tensor, pool: &Tensor, selection: &Selection) -> Result<Tensor> {
    check(queries, pool, selection)?;
    let (b, n, d) = queries.dims3()?;
    let m = pool.dim(1)?;
    let device = queries.device();
    // The order of candidates is the order of ties: pool rows, and each zero token after as many of them as it says.
    let rows = selection.candidates.clone().unwrap_or_else(|| {
        let mut rows: Vec<(u32, u32)> = (0..m as u32).map(|row| (2 * row + 1, row)).collect();
        rows.extend(selection.zeros.iter().map(|&before| (2 * before, m as u32)));
        rows.sort_by_key(|&(place, _)| place);
        rows.into_iter().map(|(_, row)| row).collect()
    });
    let count = rows.len();
    let candidates = Tensor::from_vec(rows.clone(), count, device)?;
    let zero = Tensor::zeros((b, 1, d), pool.dtype(), device)?;
    let c = Tensor::cat(&[pool, &zero], 1)?.contiguous()?.index_select(&candidates, 1)?; // (B, R, D)
    let mut scores = similarities(queries, &c, selection.similarity)?; // (B, N, R)
    if let Some(own) = &selection.own {
        let own = Tensor::from_slice(own, (n, 1), device)?;
        let struck = own.broadcast_eq(&candidates.reshape((1, count))?)?.broadcast_as((b, n, count))?;
        let lowest = Tensor::full(f64::NEG_INFINITY, (b, n, count), device)?.to_dtype(scores.dtype())?;
        scores = struck.where_cond(&lowest, &scores)?;
    }
    let order = scores.contiguous()?.arg_sort_last_dim(false)?; // Candle sorts stably.
    let others = selection.neighbors - usize::from(selection.own.is_some());
    let order = order.narrow(D::Minus1, 0, others)?.contiguous()?;
    let chosen = candidates.index_select(&order.flatten_all()?, 0)?.reshape((b, n, others))?;
    match &selection.own {
        None => Ok(chosen),
        Some(own) => {
            let own = Tensor::from_slice(own, (1, n, 1), device)?.broadcast_as((b, n, 1))?;
            Ok(Tensor::cat(&[&own.contiguous()?, &chosen], 2)?)
        }
    }
}

/// The whole matrix of similarities: `a` (B, N, D) and `b` (B, M, D) give (B, N, M).
pub(crate) fn similarities(a: &Tensor, b: &Tensor, similarity: Similarity) -> Result<Tensor> {
    let (a, b) = (a.detach(), b.detach());
    let product = |a: &Tensor, b: &Tensor| a.contiguous()?.matmul(&b.t()?.contiguous()?);
    Ok(match similarity {
        Similarity::Dot => product(&a, &b)?,
        Similarity::Cosine => {
            let unit = |t: &Tensor| t.broadcast_div(&t.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(1e-12)?);
            product(&unit(&a)?, &unit(&b)?)?.clamp(-1.0, 1.0)?
        }
        Similarity::Euclidean => {
            let difference = a.unsqueeze(2)?.broadcast_sub(&b.unsqueeze(1)?)?;
            difference.sqr()?.sum(D::Minus1)?.neg()?
        }
        Similarity::Chebyshev => {
            let difference = a.unsqueeze(2)?.broadcast_sub(&b.unsqueeze(1)?)?;
            difference.abs()?.max(D::Minus1)?.neg()?
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::kernels::{same_for_threads, variable};
    use candle_core::DType;

    const ALL: [Similarity; 4] = [Similarity::Cosine, Similarity::Euclidean, Similarity::Dot, Similarity::Chebyshev];

    /// Numbers on a coarse lattice, so that products and differences are exact and ties abound.
    fn lattice(shape: (usize, usize, usize), dtype: DType, seed: u64) -> Tensor {
        let x = variable(shape, DType::F64, seed);
        ((x.as_tensor() * 2.0).unwrap().round().unwrap() * 0.5).unwrap().to_dtype(dtype).unwrap()
    }

    #[track_caller]
    fn equal(label: &str, queries: &Tensor, pool: &Tensor, selection: &Selection) {
        let found = select(queries, pool, selection).unwrap().flatten_all().unwrap().to_vec1::<u32>().unwrap();
        let expected = select_reference(queries, pool, selection).unwrap();
        let expected = expected.flatten_all().unwrap().to_vec1::<u32>().unwrap();
        if let Some(i) = (0..found.len()).find(|&i| found[i] != expected[i]) {
            let k = selection.neighbors;
            let row = i / k * k..i / k * k + k;
            panic!("{label}: row {}: {:?}, expected {:?}", i / k, &found[row.clone()], &expected[row]);
        }
    }

    /// Kernel and reference choose the same rows where ties are exact, over sizes around every block boundary.
    #[test]
    fn equals_the_reference_with_ties() {
        for dtype in [DType::F32, DType::F64] {
            for similarity in [Similarity::Euclidean, Similarity::Dot, Similarity::Chebyshev] {
                for (n, d) in [(1, 3), (31, 1), (33, 2), (64, 3), (65, 9), (100, 16), (129, 4), (600, 12)] {
                    if similarity == Similarity::Chebyshev && d > 8 {
                        continue;
                    }
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

    /// Zero tokens lie between rows: tokens equal to them come in the order of their places.
    #[test]
    fn zero_tokens_are_merged_in_their_places() {
        for similarity in ALL {
            let mut x = lattice((2, 12, 3), DType::F32, 5).to_vec3::<f32>().unwrap();
            x[0][4] = vec![0.0; 3];
            x[1][7] = vec![0.0; 3];
            let x = Tensor::new(x, &Device::Cpu).unwrap();
            for zeros in [vec![0, 0, 3, 7, 12], vec![5], vec![0; 20]] {
                for neighbors in [1, 4, 9, 12 + zeros.len()] {
                    let own = Some((0..12).collect());
                    let selection = Selection { similarity, neighbors, own, candidates: None, zeros: zeros.clone() };
                    if similarity == Similarity::Cosine && neighbors > 1 {
                        // Rounding may order equal directions otherwise; the places of zero tokens are what counts.
                        let zero = |t: Tensor| t.eq(12u32).unwrap().flatten_all().unwrap().to_vec1::<u8>().unwrap();
                        let found = select(&x, &x, &selection).unwrap();
                        let expected = select_reference(&x, &x, &selection).unwrap();
                        assert_eq!(zero(found), zero(expected));
                    } else {
                        equal(&format!("{similarity:?} {zeros:?} k={neighbors}"), &x, &x, &selection);
                    }
                }
            }
        }
    }

    #[test]
    fn a_sample_of_candidates() {
        let x = lattice((2, 50, 5), DType::F32, 6);
        // 50 is the zero token; 7 stands there twice.
        let candidates = Some(vec![3, 7, 7, 20, 31, 49, 50, 50]);
        for similarity in [Similarity::Euclidean, Similarity::Dot, Similarity::Chebyshev] {
            for neighbors in [1, 2, 6, 7] {
                let own = Some((0..50).collect());
                let selection = Selection { similarity, neighbors, own, candidates: candidates.clone(), zeros: vec![] };
                equal(&format!("{similarity:?} k={neighbors}"), &x, &x, &selection);
                equal("nothing forced", &x, &x, &Selection { own: None, ..selection });
            }
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
        assert_eq!(refused(Selection { neighbors: 0, ..Default::default() }), (0, 6));
        assert_eq!(
            refused(Selection { neighbors: 9, zeros: vec![0, 1], own: own.clone(), ..Default::default() }),
            (9, 8)
        );
        let candidates = Some(vec![0, 2, 2]);
        assert_eq!(refused(Selection { neighbors: 3, candidates, own, ..Default::default() }), (3, 2));
    }

    #[test]
    fn strided_inputs_and_threads_change_nothing() {
        let x = variable((3, 8, 200), DType::F32, 8).t().unwrap();
        let own = Some((0..200).collect());
        let selection = Selection { neighbors: 9, own, ..Default::default() };
        let expected = select(&x.contiguous().unwrap(), &x.contiguous().unwrap(), &selection).unwrap();
        same_for_threads("select", || {
            let found = select(&x, &x, &selection).unwrap().flatten_all().unwrap().to_vec1::<u32>().unwrap();
            assert_eq!(found, expected.flatten_all().unwrap().to_vec1::<u32>().unwrap());
            found.into_iter().map(u64::from).collect()
        });
    }
}
