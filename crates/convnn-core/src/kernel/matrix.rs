//! Matrix products over fixed tiles. Each tile is one single-threaded call of `gemm`, so that the bits of the result do
//! not depend on the number of threads.

use crate::kernel::float::Float;
use crate::kernel::parallel::{TASK, fill_tasks, reduce_tasks, task_of_rows};
use crate::kernel::simd::kernel;
use gemm::Parallelism;
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Fewest rows or columns of the output in a tile.
const SMALLEST_TILE: usize = 128;
/// Most rows or columns of the output in a tile.
const LARGEST_TILE: usize = 512;
/// Elements of the output in a tile of rows: half of an L2 cache of 1 MiB, so that a bias written first is still cached
/// when the product is added to it.
const ROOM: usize = 128 * 1024;
/// Rows and columns that are transposed together.
const BLOCK: usize = 16;
/// Terms of the inner product in a task, if the inner product is split.
const DEPTH: usize = 512;
/// The inner product is split if it has at least this many terms for each row or column of the output: the output of a
/// weight gradient is small, and tiles of it would leave threads idle.
const DEEP: usize = 4;

/// A view of a matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T: Float> Matrix<'a, T> {
    /// The matrix (rows, columns) whose rows are stored one after another in `data`.
    pub(crate) fn new(data: &'a [T], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns, "a matrix of {rows} rows and {columns} columns");
        Self { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// The transposed view.
    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// `count` rows from `start`.
    pub(crate) fn rows(self, start: usize, count: usize) -> Self {
        assert!(start + count <= self.rows);
        let data = if count == 0 { &[] } else { &self.data[start * self.row_stride..] };
        Self { data, rows: count, ..self }
    }

    /// `count` columns from `start`.
    pub(crate) fn columns(self, start: usize, count: usize) -> Self {
        self.transposed().rows(start, count).transposed()
    }

    /// The elements, if they are stored column by column without gaps.
    fn stored_transposed(self) -> Option<&'a [T]> {
        let stored = self.row_stride == 1 && self.column_stride == self.rows && self.columns > 1;
        stored.then(|| &self.data[..self.rows * self.columns])
    }

    /// Index of the last element in `data`, plus one.
    fn extent(self) -> usize {
        if self.rows == 0 || self.columns == 0 {
            return 0;
        }
        (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride + 1
    }
}

/// lhs · rhs in row-major order, with `bias` added to each row.
pub(crate) fn product<T: Float>(lhs: Matrix<'_, T>, rhs: Matrix<'_, T>, bias: Option<&[T]>) -> Vec<T> {
    assert_eq!(lhs.columns, rhs.rows, "matching inner dimensions");
    let (rows, columns, depth) = (lhs.rows, rhs.columns, lhs.columns);
    if bias.is_none() && depth >= DEEP * rows.max(columns) && depth > DEPTH {
        return deep_product(lhs, rhs);
    }
    let by_rows = rows >= columns;
    let straight = match rhs.stored_transposed() {
        // `gemm` would copy it into this order for every tile.
        Some(stored) if by_rows && rows > SMALLEST_TILE => transpose(stored, columns, depth),
        _ => Vec::new(),
    };
    let rhs = if straight.is_empty() { rhs } else { Matrix::new(&straight, depth, columns) };
    let (length, tile) = match by_rows {
        true => (rows, tile_of(rows, 16).min((ROOM / columns.max(1)).next_multiple_of(32)).max(SMALLEST_TILE)),
        false => (columns, tile_of(columns, 8)),
    };
    let mut out: Vec<T> = Vec::with_capacity(rows * columns);
    let start = Output(out.as_mut_ptr());
    let fill = |i: usize| {
        let start = &start;
        let (first, count) = (i * tile, tile.min(length - i * tile));
        // SAFETY: tiles are disjoint parts of the `rows * columns` elements of `out`, which outlives this call, and
        // nothing else refers to them.
        unsafe {
            if by_rows {
                product_into(lhs.rows(first, count), rhs, bias, start.0.add(first * columns), columns);
            } else {
                let (rhs, bias) = (rhs.columns(first, count), bias.map(|b| &b[first..first + count]));
                if rhs.row_stride < rhs.column_stride {
                    turned_product_into(lhs, rhs, bias, start.0.add(first), columns);
                } else {
                    product_into(lhs, rhs, bias, start.0.add(first), columns);
                }
            }
        }
    };
    let tiles = length.div_ceil(tile);
    if tiles <= 1 {
        (0..tiles).for_each(fill);
    } else {
        (0..tiles).into_par_iter().for_each(fill);
    }
    // SAFETY: the tiles cover all rows and columns, and the whole of each is written.
    unsafe { out.set_len(rows * columns) };
    out
}

/// Rows or columns in one tile: an even share of `tiles`, within bounds.
fn tile_of(length: usize, tiles: usize) -> usize {
    length.div_ceil(tiles).next_multiple_of(32).clamp(SMALLEST_TILE, LARGEST_TILE)
}

/// [`product_into`] through the transposed product: a few rows times a large matrix that is stored transposed. `gemm`
/// would copy that matrix into another order, which costs as much as multiplying it by 128 rows.
///
/// # Safety
/// As for [`product_into`].
unsafe fn turned_product_into<T: Float>(
    lhs: Matrix<'_, T>,
    rhs: Matrix<'_, T>,
    bias: Option<&[T]>,
    out: *mut T,
    stride: usize,
) {
    let (rows, columns) = (lhs.rows, rhs.columns);
    let mut turned: Vec<T> = Vec::with_capacity(rows * columns);
    // SAFETY: `turned` has room for `columns * rows` elements, all of which `product_into` writes.
    unsafe {
        product_into(rhs.transposed(), lhs.transposed(), None, turned.as_mut_ptr(), rows);
        turned.set_len(rows * columns);
    }
    for row in 0..rows {
        for column in 0..columns {
            let shift = bias.map_or(T::ZERO, |bias| bias[column]);
            // SAFETY: the rows at `out` are valid for writes of `columns` elements, as the caller promises.
            unsafe { out.add(row * stride + column).write(turned[column * rows + row] + shift) };
        }
    }
}

/// A product with a long inner dimension: split along it, with the parts added in order.
fn deep_product<T: Float>(lhs: Matrix<'_, T>, rhs: Matrix<'_, T>) -> Vec<T> {
    let (rows, columns, depth) = (lhs.rows, rhs.columns, lhs.columns);
    let len = rows * columns;
    let parts: Vec<Vec<T>> = (0..depth.div_ceil(DEPTH))
        .into_par_iter()
        .map(|i| {
            let (first, count) = (i * DEPTH, DEPTH.min(depth - i * DEPTH));
            let mut part = Vec::with_capacity(len);
            // SAFETY: `part` has room for `rows * columns` elements, all of which `product_into` writes.
            unsafe {
                product_into(lhs.columns(first, count), rhs.rows(first, count), None, part.as_mut_ptr(), columns);
                part.set_len(len);
            }
            part
        })
        .collect();
    let add = |start: usize, out: &mut [MaybeUninit<T>]| {
        let end = start + out.len();
        let sum = out.write_copy_of_slice(&parts[0][start..end]);
        for part in &parts[1..] {
            for (s, &p) in sum.iter_mut().zip(&part[start..end]) {
                *s += p;
            }
        }
    };
    // SAFETY: the copy in `add` writes every element.
    unsafe { fill_tasks(len, TASK, add).0 }
}

/// The matrix (rows, columns) in `data`, transposed: (columns, rows).
pub(crate) fn transpose<T: Float>(data: &[T], rows: usize, columns: usize) -> Vec<T> {
    assert_eq!(data.len(), rows * columns, "a matrix of {rows} rows and {columns} columns");
    let task = (TASK / rows.max(1)).max(1).next_multiple_of(BLOCK) * rows;
    let turn = |start: usize, out: &mut [MaybeUninit<T>]| {
        let first = start / rows.max(1);
        // Blocks stay in the L1 cache.
        for (i, out) in out.chunks_mut((BLOCK * rows).max(1)).enumerate() {
            let first = first + i * BLOCK;
            for top in (0..rows).step_by(BLOCK) {
                for (column, out) in out.chunks_exact_mut(rows).enumerate() {
                    for (row, out) in (top..).zip(&mut out[top..rows.min(top + BLOCK)]) {
                        out.write(data[row * columns + first + column]);
                    }
                }
            }
        }
    };
    // SAFETY: `turn` writes every row of each of its columns.
    unsafe { fill_tasks(data.len(), task.max(1), turn).0 }
}

/// The sum of each column of rows of `columns` elements; the sums of tasks are added in order.
pub(crate) fn column_sums<T: Float>(x: &[T], columns: usize) -> Vec<T> {
    let mut totals = vec![0.0; columns];
    if columns == 0 {
        return Vec::new();
    }
    let parts = reduce_tasks([x], task_of_rows(columns), |[x]| {
        let mut sums = vec![T::ZERO; columns];
        add_rows(x, &mut sums);
        sums
    });
    for part in parts {
        for (total, sum) in totals.iter_mut().zip(part) {
            *total += sum.widen();
        }
    }
    totals.into_iter().map(T::narrow).collect()
}

kernel! {
    /// Adds each row to `sums`.
    fn add_rows<const FMA: bool, T>(x: &[T], sums: &mut [T]) {
        for row in x.chunks_exact(sums.len()) {
            for (sum, &x) in sums.iter_mut().zip(row) {
                *sum += x;
            }
        }
    }
}

/// A pointer shared by tasks.
struct Output<T>(*mut T);

// SAFETY: `product` makes its tasks write to disjoint elements.
unsafe impl<T: Send> Sync for Output<T> {}

/// Writes lhs · rhs (+ bias) to the rows that start at `out`, `stride` elements apart, on this thread.
///
/// # Safety
/// The rows at `out` must be valid for writes, and nothing else may refer to them.
pub(crate) unsafe fn product_into<T: Float>(
    lhs: Matrix<'_, T>,
    rhs: Matrix<'_, T>,
    bias: Option<&[T]>,
    out: *mut T,
    stride: usize,
) {
    let (rows, columns) = (lhs.rows, rhs.columns);
    if let Some(bias) = bias {
        assert_eq!(bias.len(), columns);
        for row in 0..rows {
            // SAFETY: the row is valid for writes of `columns` elements, as the caller promises.
            unsafe { std::ptr::copy_nonoverlapping(bias.as_ptr(), out.add(row * stride), columns) };
        }
    }
    // SAFETY: as the caller promises; with a bias, the rows have been written.
    unsafe { scaled_product_into(lhs, rhs, T::ONE, bias.is_some(), out, stride) };
}

/// Writes scale · lhs · rhs to the rows that start at `out`, `stride` elements apart, or adds it to them, on this thread.
///
/// # Safety
/// As for [`product_into`]; to `add`, the rows must be initialized.
pub(crate) unsafe fn scaled_product_into<T: Float>(
    lhs: Matrix<'_, T>,
    rhs: Matrix<'_, T>,
    scale: T,
    add: bool,
    out: *mut T,
    stride: usize,
) {
    let (rows, columns, depth) = (lhs.rows, rhs.columns, lhs.columns);
    assert!(depth == rhs.rows && lhs.extent() <= lhs.data.len() && rhs.extent() <= rhs.data.len());
    if depth == 0 && !add {
        // `gemm` need not write sums without terms.
        for i in 0..rows * columns {
            // SAFETY: the element is valid for writes, as the caller promises.
            unsafe { out.add(i / columns * stride + i % columns).write(T::ZERO) };
        }
        return;
    }
    // SAFETY: the operands stay within their data, as asserted; the output is the caller's promise. It is read only if
    // the product is added to it.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            depth,
            out,
            1,
            stride as isize,
            add,
            lhs.data.as_ptr(),
            lhs.column_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.column_stride as isize,
            rhs.row_stride as isize,
            T::ONE,
            scale,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::kernels::same_for_threads;

    fn numbers(len: usize, seed: usize) -> Vec<f64> {
        (0..len).map(|i| (((i + 1) * (seed + 7)) as f64 * 0.618_033_988_749_895).fract() - 0.5).collect()
    }

    #[test]
    fn products_equal_the_sum_of_products() {
        for (rows, columns, depth) in [
            (1, 1, 1),
            (3, 5, 7),
            (128, 3, 2),
            (129, 4, 3),
            (3, 1100, 4),
            (1100, 3, 4),
            (257, 31, 9),
            (2, 513, 5),
            (17, 6, 1025),
            (5, 5, 512),
            (1, 300, 64),
            (300, 1, 64),
            (0, 4, 3),
            (4, 0, 3),
        ] {
            let (a, b, bias) = (numbers(rows * depth, 1), numbers(depth * columns, 2), numbers(columns, 3));
            // The right operand is stored transposed in the second round.
            for stored_transposed in [false, true] {
                for bias in [None, Some(&bias[..])] {
                    let transposed: Vec<f64> =
                        (0..columns * depth).map(|i| b[(i % depth) * columns + i / depth]).collect();
                    let rhs = if stored_transposed {
                        Matrix::new(&transposed, columns, depth).transposed()
                    } else {
                        Matrix::new(&b, depth, columns)
                    };
                    let found = product(Matrix::new(&a, rows, depth), rhs, bias);
                    for (i, y) in found.iter().enumerate() {
                        let (r, c) = (i / columns, i % columns);
                        let expected = (0..depth).map(|d| a[r * depth + d] * b[d * columns + c]).sum::<f64>()
                            + bias.map_or(0.0, |b| b[c]);
                        assert!((y - expected).abs() < 1e-10, "{rows}x{columns}x{depth} at {i}: {y}, {expected}");
                    }
                    assert_eq!(found.len(), rows * columns);
                }
            }
        }
    }

    #[test]
    fn transposing_moves_every_element() {
        for (rows, columns) in [(1, 1), (3, 5), (16, 16), (17, 33), (1100, 40), (40, 1100), (20_000, 3), (0, 4), (4, 0)]
        {
            let data = numbers(rows * columns, 1);
            let found = transpose(&data, rows, columns);
            let expected: Vec<f64> = (0..rows * columns).map(|i| data[i % rows * columns + i / rows]).collect();
            assert!(found == expected, "{rows}x{columns}");
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        for (rows, columns, depth) in [(700, 90, 33), (90, 700, 33), (64, 48, 3000)] {
            let a: Vec<f32> = numbers(rows * depth, 1).iter().map(|&v| v as f32).collect();
            let b: Vec<f32> = numbers(depth * columns, 2).iter().map(|&v| v as f32).collect();
            same_for_threads("product", || {
                product(Matrix::new(&a, rows, depth), Matrix::new(&b, depth, columns), None)
                    .iter()
                    .map(|v| v.to_bits().into())
                    .collect()
            });
        }
    }
}
