//! The loops behind [`aggregate`](crate::operator::aggregate()): neighbors gathered a tile at a time, one matrix product a tile.
#![allow(unsafe_code)]

use crate::kernel::float::Float;
use crate::kernel::matrix::{Matrix, product_into, transpose};
use crate::kernel::parallel::fill_groups;
use crate::kernel::simd::kernel;
use rayon::prelude::*;

/// Elements of a tile of gathered neighbors: 1 MiB of f32, most of a second-level cache.
const TILE: usize = 256 * 1024;
/// Least rows of a tile: the kernel is packed anew for each tile, which its rows must pay for.
const ROWS: usize = 128;
/// Fewest channels for which the weight gradient is a task a rank; below, it is split along the rows.
const WIDE: usize = 64;
/// Parts along the rows, of which the weight gradient of narrow values is summed.
const PARTS: usize = 16;
/// Groups of images at which the gradient of the values aims.
const GROUPS: usize = 8;

/// What is aggregated.
pub(super) struct Task<'a, T> {
    /// (B, M, C)
    pub(super) values: &'a [T],
    /// (B, N, K), or (N, K) where all images share it.
    pub(super) index: &'a [u32],
    /// ρ (B, N, K)
    pub(super) rho: Option<&'a [T]>,
    /// B, N, M, C, K
    pub(super) sizes: [usize; 5],
}

/// Gradients of [`depthwise`].
pub(super) struct DepthwiseGradients<T> {
    pub(super) values: Vec<T>,
    pub(super) weight: Vec<T>,
    pub(super) rho: Option<Vec<T>>,
}

impl<T: Float> Task<'_, T> {
    /// Rows of the index, of all images.
    fn rows(&self) -> usize {
        self.sizes[0] * self.sizes[1]
    }

    /// Rows of a tile whose rows hold `width` elements: by shape alone.
    fn tile_rows(&self, width: usize) -> usize {
        (TILE / width.max(1)).max(ROWS).min(self.rows().div_ceil(4).next_multiple_of(16)).max(1)
    }

    /// The values of the image that row `row` belongs to, and the neighbors of that row.
    fn neighbors(&self, row: usize) -> (&[T], &[u32]) {
        let [_, n, m, c, k] = self.sizes;
        let image = row / n;
        let place = if self.index.len() == n * k { row % n } else { row };
        (&self.values[image * m * c..][..m * c], &self.index[place * k..][..k])
    }

    /// Gathers ranks `first` to `first + count` of rows `start` on into `out` (rows, count, C), times ρ.
    fn gather(&self, start: usize, first: usize, count: usize, out: &mut [T]) {
        let [_, _, _, c, k] = self.sizes;
        for (i, out) in out.chunks_exact_mut((count * c).max(1)).enumerate() {
            let (values, index) = self.neighbors(start + i);
            for (&row, out) in index[first..first + count].iter().zip(out.chunks_exact_mut(c.max(1))) {
                match values.get(row as usize * c..(row as usize + 1) * c) {
                    Some(value) => out.copy_from_slice(value),
                    None => out.fill(T::ZERO),
                }
            }
            if let Some(rho) = self.rho {
                let rho = &rho[(start + i) * k + first..][..count];
                for (out, &rho) in out.chunks_exact_mut(c.max(1)).zip(rho) {
                    out.iter_mut().for_each(|v| *v *= rho);
                }
            }
        }
    }
}

/// `weight` (O, C, K) as (O, K, C), which is how gathered neighbors lie.
fn by_rank<T: Float>(weight: &[T], c: usize, k: usize) -> Vec<T> {
    let mut out = vec![T::ZERO; weight.len()];
    out.par_chunks_mut((c * k).max(1)).zip(weight.par_chunks((c * k).max(1))).for_each(|(out, weight)| {
        for (j, out) in out.chunks_exact_mut(c.max(1)).enumerate() {
            out.iter_mut().enumerate().for_each(|(i, v)| *v = weight[i * k + j]);
        }
    });
    out
}

/// A task with its own kernel; several of them side by side give the columns of one output.
pub(super) struct Branch<'a, T> {
    pub(super) task: Task<'a, T>,
    /// (O, C, K)
    pub(super) weight: &'a [T],
    /// O
    pub(super) outputs: usize,
}

impl<T: Float> Branch<'_, T> {
    /// K·C
    fn width(&self) -> usize {
        self.task.sizes[3] * self.task.sizes[4]
    }

    /// The kernel as (O, K, C).
    fn by_rank(&self) -> Vec<T> {
        by_rank(self.weight, self.task.sizes[3], self.task.sizes[4])
    }

    /// The kernel as (K, C, O), which `gemm` takes as it lies; (O, K, C) transposed it would copy for each tile.
    fn by_rank_transposed(&self) -> Vec<T> {
        transpose(&self.by_rank(), self.outputs, self.width())
    }
}

/// Each branch with its first column.
fn columns<'a, T>(branches: &'a [Branch<'a, T>]) -> impl Iterator<Item = (usize, &'a Branch<'a, T>)> {
    branches.iter().scan(0, |next, branch| {
        let first = *next;
        *next += branch.outputs;
        Some((first, branch))
    })
}

/// y (B, N, O), the outputs of the branches side by side.
pub(super) fn standard<T: Float>(branches: &[Branch<'_, T>], bias: Option<&[T]>) -> Vec<T> {
    let weights: Vec<Vec<T>> = branches.iter().map(Branch::by_rank_transposed).collect();
    let outputs: usize = branches.iter().map(|branch| branch.outputs).sum();
    let all_rows = branches[0].task.rows();
    let rows = branches.iter().map(|branch| branch.task.tile_rows(branch.width())).min().unwrap_or(1);
    let mut out = vec![T::ZERO; all_rows * outputs];
    out.par_chunks_mut((rows * outputs).max(1)).enumerate().for_each_init(Vec::new, |tile, (i, out)| {
        let count = out.len() / outputs.max(1);
        for ((first, branch), weight) in columns(branches).zip(&weights) {
            let width = branch.width();
            tile.resize(count * width, T::ZERO);
            branch.task.gather(i * rows, 0, branch.task.sizes[4], tile);
            let weight = Matrix::new(weight, width, branch.outputs);
            let bias = bias.map(|bias| &bias[first..first + branch.outputs]);
            let tile = Matrix::new(tile, count, width);
            // SAFETY: `out` has `count` rows of `outputs` elements, of which the branch has those from `first` on.
            unsafe { product_into(tile, weight, bias, out.as_mut_ptr().add(first), outputs) };
        }
    });
    out
}

/// A group of images is one task: tiles of du = dy·W, each added to the rows it came from.
///
/// The gradients of the values, and of the modulation where the only branch has one.
pub(super) fn standard_input_gradients<T: Float>(branches: &[Branch<'_, T>], grad: &[T]) -> (Vec<T>, Option<Vec<T>>) {
    let weights: Vec<Vec<T>> = branches.iter().map(Branch::by_rank).collect();
    let outputs: usize = branches.iter().map(|branch| branch.outputs).sum();
    let task = &branches[0].task;
    let [b, n, m, c, k] = task.sizes;
    let images = (task.rows() / GROUPS).clamp(ROWS, 1024).div_ceil(n.max(1)).min(b.max(1));
    let mut values = vec![T::ZERO; b * m * c];
    let mut modulation = task.rho.map(|rho| vec![T::ZERO; rho.len()]).unwrap_or_default();
    let rho_width = if task.rho.is_some() { n * k } else { 0 };
    fill_groups([(&mut values, images * m * c), (&mut modulation, images * rho_width)], |group, [dv, drho]| {
        let (first, count) = (group * images * n, dv.len() / (m * c).max(1) * n);
        let mut tile = Vec::new();
        for ((column, branch), weight) in columns(branches).zip(&weights) {
            let width = branch.width();
            let rows = branch.task.tile_rows(width).min(count).max(1);
            for start in (0..count).step_by(rows) {
                let rows = rows.min(count - start);
                tile.resize(rows * width, T::ZERO);
                let dy = Matrix::new(&grad[(first + start) * outputs..][..rows * outputs], rows, outputs);
                let dy = dy.columns(column, branch.outputs);
                let weight = Matrix::new(weight, branch.outputs, width);
                // SAFETY: `tile` has `rows` rows of `width` elements.
                unsafe { product_into(dy, weight, None, tile.as_mut_ptr(), width) };
                let drho = drho.get_mut(start * k..(start + rows) * k);
                scatter(&branch.task, first, start, &tile, dv, drho);
            }
        }
    });
    (values, task.rho.map(|_| modulation))
}

/// Adds du (rows, K, C) of the rows from `first + start` on to the gradients of a group that begins at row `first`.
fn scatter<T: Float>(
    task: &Task<'_, T>,
    first: usize,
    start: usize,
    du: &[T],
    dv: &mut [T],
    mut drho: Option<&mut [T]>,
) {
    let [_, n, m, c, k] = task.sizes;
    for (i, du) in du.chunks_exact((k * c).max(1)).enumerate() {
        let row = first + start + i;
        let (values, index) = task.neighbors(row);
        let dv = &mut dv[(start + i) / n * m * c..][..m * c];
        for (j, (&neighbor, du)) in index.iter().zip(du.chunks_exact(c.max(1))).enumerate() {
            let place = neighbor as usize * c..(neighbor as usize + 1) * c;
            let Some(dv) = dv.get_mut(place.clone()) else { continue };
            match (task.rho, drho.as_deref_mut()) {
                (Some(rho), Some(drho)) => {
                    let rho = rho[row * k + j];
                    drho[i * k + j] = add_scaled_and_dot(dv, du, rho, &values[place]);
                }
                _ => dv.iter_mut().zip(du).for_each(|(dv, &du)| *dv += du),
            }
        }
    }
}

kernel! {
    /// a += scale · b, and Σ b·c.
    fn add_scaled_and_dot<const FMA: bool, T>(a: &mut [T], b: &[T], scale: T, c: &[T]) -> T {
        for (a, &b) in a.iter_mut().zip(b) {
            *a = scale.fma::<FMA>(b, *a);
        }
        crate::kernel::simd::sum_of([b, c], #[inline(always)] |[b, c]| b * c)
    }
}

/// dW (O, C, K) of one branch, whose outputs are the columns of `grad` (B·N, `columns`) from `first` on.
///
/// A task for each rank, or, where values are narrow, for each part of the rows, summed in their order.
pub(super) fn standard_weight_gradient<T: Float>(
    task: &Task<'_, T>,
    grad: &[T],
    columns: usize,
    first: usize,
    outputs: usize,
) -> Vec<T> {
    let [_, _, _, c, k] = task.sizes;
    let rows = task.rows();
    let (ranks, parts) = if c >= WIDE { (1, 1) } else { (k, PARTS) };
    let part_rows = rows.div_ceil(parts).max(1);
    let parts = rows.div_ceil(part_rows);
    let width = ranks * c;
    let tile_rows = (TILE / width.max(1)).clamp(ROWS, part_rows.max(ROWS));
    let tasks: Vec<(usize, usize)> =
        (0..k / ranks.max(1)).flat_map(|j| (0..parts).map(move |part| (j * ranks, part))).collect();
    // (O, ranks, C) of each task, in order.
    let products: Vec<Vec<T>> = tasks
        .par_iter()
        .map_init(Vec::new, |tile, &(rank, part)| {
            let mut sum = vec![T::ZERO; width * outputs];
            let mut other = Vec::new();
            let end = rows.min((part + 1) * part_rows);
            for (i, start) in (part * part_rows..end).step_by(tile_rows).enumerate() {
                let count = tile_rows.min(end - start);
                tile.resize(count * width, T::ZERO);
                task.gather(start, rank, ranks, tile);
                let dy = Matrix::new(&grad[start * columns..][..count * columns], count, columns);
                let dy = dy.columns(first, outputs).transposed();
                let into = if i == 0 { &mut sum } else { &mut other };
                into.resize(width * outputs, T::ZERO);
                // SAFETY: `into` has `outputs` rows of `width` elements.
                unsafe { product_into(dy, Matrix::new(tile, count, width), None, into.as_mut_ptr(), width) };
                if i > 0 {
                    sum.iter_mut().zip(&other).for_each(|(s, &v)| *s += v);
                }
            }
            sum
        })
        .collect();
    let mut weight = vec![T::ZERO; outputs * c * k];
    weight.par_chunks_mut((c * k).max(1)).enumerate().for_each(|(o, out)| {
        for (j, products) in products.chunks(parts.max(1)).enumerate() {
            for product in products {
                for (rank, row) in product[o * width..][..width].chunks_exact(c).enumerate() {
                    row.iter().enumerate().for_each(|(i, &v)| out[i * k + j * ranks + rank] += v);
                }
            }
        }
    });
    weight
}

/// y (B, N, C) with `weight` (C, 1, K).
pub(super) fn depthwise<T: Float>(task: &Task<'_, T>, weight: &[T], bias: Option<&[T]>) -> Vec<T> {
    let [_, _, _, c, k] = task.sizes;
    let weight = by_rank(weight, c, k);
    let mut out = vec![T::ZERO; task.rows() * c];
    let rows = (TILE / 16 / c.max(1)).max(1);
    out.par_chunks_mut((rows * c).max(1))
        .enumerate()
        .for_each(|(i, out)| depthwise_rows(task, &weight, bias, i * rows, out));
    out
}

kernel! {
    fn depthwise_rows<const FMA: bool, T>(
        task: &Task<'_, T>, weight: &[T], bias: Option<&[T]>, start: usize, out: &mut [T],
    ) {
        let [_, _, _, c, k] = task.sizes;
        for (i, out) in out.chunks_exact_mut(c).enumerate() {
            if let Some(bias) = bias {
                out.copy_from_slice(bias);
            }
            let row = start + i;
            let (values, index) = task.neighbors(row);
            for (j, (&neighbor, weight)) in index.iter().zip(weight.chunks_exact(c)).enumerate() {
                let Some(value) = values.get(neighbor as usize * c..(neighbor as usize + 1) * c) else { continue };
                let rho = task.rho.map_or(T::ONE, |rho| rho[row * k + j]);
                for ((out, &weight), &value) in out.iter_mut().zip(weight).zip(value) {
                    *out = (rho * weight).fma::<FMA>(value, *out);
                }
            }
        }
    }
}

/// Gradients of [`depthwise`]. A group of images is one task; their weight gradients are summed in order.
pub(super) fn depthwise_gradients<T: Float>(task: &Task<'_, T>, weight: &[T], grad: &[T]) -> DepthwiseGradients<T> {
    let [b, n, m, c, k] = task.sizes;
    if c == 0 {
        let rho = task.rho.map(|rho| vec![T::ZERO; rho.len()]);
        return DepthwiseGradients { values: Vec::new(), weight: Vec::new(), rho };
    }
    let weight = by_rank(weight, c, k);
    let images = b.div_ceil(2 * PARTS).max(1);
    let groups = b.div_ceil(images);
    let mut values = vec![T::ZERO; b * m * c];
    let mut modulation = task.rho.map(|rho| vec![T::ZERO; rho.len()]).unwrap_or_default();
    let rho_width = if task.rho.is_some() { n * k } else { 0 };
    let mut weights = vec![T::ZERO; groups * k * c];
    fill_groups(
        [(&mut values, images * m * c), (&mut modulation, images * rho_width), (&mut weights, k * c)],
        |group, [dv, drho, dw]| {
            let first = group * images * n;
            let rows = dv.len() / (m * c).max(1) * n;
            depthwise_group(task, &weight, &grad[first * c..][..rows * c], first, dv, drho, dw);
        },
    );
    let mut sum = vec![T::ZERO; c * k];
    for dw in weights.chunks_exact((k * c).max(1)) {
        for (j, dw) in dw.chunks_exact(c).enumerate() {
            dw.iter().enumerate().for_each(|(i, &v)| sum[i * k + j] += v);
        }
    }
    DepthwiseGradients { values, weight: sum, rho: task.rho.map(|_| modulation) }
}

kernel! {
    /// Gradients of the rows of a group that begins at row `first`; `dv`, `drho`, `dw` (K, C) are those of the group.
    fn depthwise_group<const FMA: bool, T>(
        task: &Task<'_, T>, weight: &[T], grad: &[T], first: usize, dv: &mut [T], drho: &mut [T], dw: &mut [T],
    ) {
        let [_, n, m, c, k] = task.sizes;
        for (i, dy) in grad.chunks_exact(c).enumerate() {
            let row = first + i;
            let (values, index) = task.neighbors(row);
            let dv = &mut dv[i / n * m * c..][..m * c];
            let ranks = weight.chunks_exact(c).zip(dw.chunks_exact_mut(c));
            for (j, (&neighbor, (weight, dw))) in index.iter().zip(ranks).enumerate() {
                let place = neighbor as usize * c..(neighbor as usize + 1) * c;
                let Some(value) = values.get(place.clone()) else { continue };
                let rho = task.rho.map_or(T::ONE, |rho| rho[row * k + j]);
                let dv = &mut dv[place];
                for (((dv, &weight), (dw, &value)), &dy) in dv.iter_mut().zip(weight).zip(dw.iter_mut().zip(value)).zip(dy) {
                    *dv = (rho * weight).fma::<FMA>(dy, *dv);
                    *dw = (rho * value).fma::<FMA>(dy, *dw);
                }
                if task.rho.is_some() {
                    drho[i * k + j] =
                        crate::kernel::simd::sum_of([weight, value, dy], #[inline(always)] |[w, v, dy]| w * v * dy);
                }
            }
        }
    }
}
