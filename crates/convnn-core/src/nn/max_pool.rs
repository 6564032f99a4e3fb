//! Max pooling of 2×2 windows over tokens.
//!
//! The gradient of Candle's `max_pool2d` is scaled wrongly and shared among tied values.
#![allow(unsafe_code)]

use crate::kernel::float::Float;
use crate::kernel::op::{Backward, Gradient, Input, Op, apply1};
use crate::kernel::parallel::{TASK, fill_tasks};
use crate::kernel::simd::kernel;
use crate::{Grid, Result, error::ensure_shape};
use candle_core::{Shape, Tensor};
use candle_nn::Module;
use std::mem::MaybeUninit;

/// 2×2 max pooling of feature maps with stride 2: (B, C, H, W) to (B, C, ⌊H/2⌋, ⌊W/2⌋) by [`max_pool_2x2`].
#[derive(Clone, Copy, Debug, Default)]
pub struct MaxPool2d;

impl Module for MaxPool2d {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        ensure_shape(x.rank() == 4, "max_pool_2x2", "x", x, || "(B, C, H, W)".into())?;
        let (batch, channels, height, width) = x.dims4()?;
        let (y, half) = max_pool_2x2(&x.flatten_from(2)?.t()?, Grid::new(height, width))?;
        y.t()?.reshape((batch, channels, half.height, half.width))
    }
}

/// The largest value of each 2×2 window, with stride 2; an odd last row or column is ignored.
///
/// # Shapes
/// x is (B, N, C) on `grid`; the result is (B, N', C) on the returned grid of half the height and width.
///
/// # Gradient
/// Flows to the largest value of each window, among equal values to the first in token order. NaN counts as the
/// largest. The position is recomputed from x.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) unless x is (B, H·W, C) and both sides are at least 2;
/// [`Error::DType`](crate::Error::DType).
pub fn max_pool_2x2(x: &Tensor, grid: Grid) -> Result<(Tensor, Grid)> {
    let half = check_shapes(x, grid)?;
    if !x.device().is_cpu() {
        return max_pool_2x2_reference(x, grid);
    }
    Ok((apply1(MaxPoolOp { grid }, x)?, half))
}

/// [`max_pool_2x2`] in tensor operations. The result for windows with NaN is unspecified.
pub fn max_pool_2x2_reference(x: &Tensor, grid: Grid) -> Result<(Tensor, Grid)> {
    let half = check_shapes(x, grid)?;
    let (batch, _, channels) = x.dims3()?;
    let windows = x
        .reshape((batch, grid.height, grid.width, channels))?
        .narrow(1, 0, 2 * half.height)?
        .narrow(2, 0, 2 * half.width)?
        .reshape((batch, half.height, 2, half.width, 2 * channels))?; // two tokens of a row side by side
    let corner = |dy: usize, dx: usize| -> Result<Tensor> {
        let corner = windows.narrow(2, dy, 1)?.narrow(4, dx * channels, channels)?;
        Ok(corner.reshape((batch, half.tokens(), channels))?)
    };
    let mut best = corner(0, 0)?;
    for (dy, dx) in [(0, 1), (1, 0), (1, 1)] {
        let next = corner(dy, dx)?;
        best = next.gt(&best)?.where_cond(&next, &best)?;
    }
    Ok((best, half))
}

fn check_shapes(x: &Tensor, grid: Grid) -> Result<Grid> {
    let Grid { height, width } = grid;
    let fits = x.rank() == 3 && x.dims()[1] == grid.tokens() && height >= 2 && width >= 2;
    ensure_shape(fits, "max_pool_2x2", "x", x, || {
        format!("(B, N, C) with N = {height}·{width} and both sides at least 2")
    })?;
    Ok(Grid::new(height / 2, width / 2))
}

struct MaxPoolOp {
    grid: Grid,
}

impl MaxPoolOp {
    fn half(&self) -> Grid {
        Grid::new(self.grid.height / 2, self.grid.width / 2)
    }

    /// Elements of an image before and after pooling.
    fn sizes(&self, channels: usize) -> [usize; 2] {
        [self.grid.tokens() * channels, self.half().tokens() * channels]
    }

    /// Images in one task.
    fn images(&self, channels: usize) -> usize {
        (TASK / (self.grid.tokens() * channels).max(1)).max(1)
    }
}

impl Op<1> for MaxPoolOp {
    const NAME: &'static str = "max_pool_2x2";
    const INPUTS: [&'static str; 1] = ["x"];

    fn forward<T: Float>(&self, [x]: [Input<'_, T>; 1]) -> Result<(Vec<T>, Shape)> {
        let (batch, channels) = (x.dims[0], x.dims[2]);
        let [input, output] = self.sizes(channels);
        let fill = |start: usize, y: &mut [MaybeUninit<T>]| {
            let first = start / output.max(1) * input;
            forward(&x.values[first..], y, self.grid, channels);
        };
        // SAFETY: `forward` writes every element.
        let (y, _) = unsafe { fill_tasks(batch * output, self.images(channels) * output, fill) };
        Ok((y, Shape::from((batch, self.half().tokens(), channels))))
    }

    fn backward<T: Float>(&self, pass: Backward<'_, T, 1>) -> Result<[Gradient<T>; 1]> {
        let Backward { inputs: [x], gradient: dy, .. } = pass;
        let channels = x.dims[2];
        let [input, output] = self.sizes(channels);
        let fill = |start: usize, dx: &mut [MaybeUninit<T>]| {
            let first = start / input.max(1) * output;
            backward(&x.values[start..], &dy[first..], dx, self.grid, channels);
        };
        // SAFETY: `backward` writes every element.
        let (dx, _) = unsafe { fill_tasks(x.values.len(), self.images(channels) * input, fill) };
        Ok([Gradient::Values(dx)])
    }
}

/// Whether `next` replaces `best`.
#[inline(always)]
fn exceeds<T: Float>(next: T, best: T) -> bool {
    // The second half is true of a NaN alone.
    #[allow(clippy::eq_op)]
    let nan = next != next;
    next > best || nan
}

kernel! {
    /// Pools as many whole images as `y` has room for.
    fn forward<const FMA: bool, T>(x: &[T], y: &mut [MaybeUninit<T>], grid: Grid, channels: usize) {
        let (half_height, half_width) = (grid.height / 2, grid.width / 2);
        let input = grid.height * grid.width * channels;
        let output = (half_height * half_width * channels).max(1);
        for (x, y) in x.chunks_exact(input.max(1)).zip(y.chunks_exact_mut(output)) {
            for (i, y) in y.chunks_exact_mut(channels).enumerate() {
                let upper = (2 * (i / half_width) * grid.width + 2 * (i % half_width)) * channels;
                let lower = upper + grid.width * channels;
                let (upper, lower) = (&x[upper..upper + 2 * channels], &x[lower..lower + 2 * channels]);
                let ((a, b), (c, d)) = (upper.split_at(channels), lower.split_at(channels));
                for ((((y, &a), &b), &c), &d) in y.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                    let best = if exceeds(b, a) { b } else { a };
                    let best = if exceeds(c, best) { c } else { best };
                    y.write(if exceeds(d, best) { d } else { best });
                }
            }
        }
    }
}

kernel! {
    /// Passes the gradient of one token of the output to the four tokens of its window.
    ///
    /// A kernel of its own, since only as arguments are the outputs known not to overlap, without which the loop would
    /// compile to scalar code.
    fn pass_to_largest<const FMA: bool, T>(
        a: &[T], b: &[T], c: &[T], d: &[T], dy: &[T],
        da: &mut [MaybeUninit<T>], db: &mut [MaybeUninit<T>], dc: &mut [MaybeUninit<T>], dd: &mut [MaybeUninit<T>],
    ) {
        let n = dy.len();
        let (a, b, c, d) = (&a[..n], &b[..n], &c[..n], &d[..n]);
        let (da, db, dc, dd) = (&mut da[..n], &mut db[..n], &mut dc[..n], &mut dd[..n]);
        for i in 0..n {
            let g = dy[i];
            let better = exceeds(b[i], a[i]);
            let best = if better { b[i] } else { a[i] };
            let (ga, gb) = if better { (T::ZERO, g) } else { (g, T::ZERO) };
            let better = exceeds(c[i], best);
            let best = if better { c[i] } else { best };
            let (ga, gb, gc) = if better { (T::ZERO, T::ZERO, g) } else { (ga, gb, T::ZERO) };
            let better = exceeds(d[i], best);
            da[i].write(if better { T::ZERO } else { ga });
            db[i].write(if better { T::ZERO } else { gb });
            dc[i].write(if better { T::ZERO } else { gc });
            dd[i].write(if better { g } else { T::ZERO });
        }
    }
}

kernel! {
    /// Passes the gradients of as many whole images as `dx` has room for.
    fn backward<const FMA: bool, T>(x: &[T], dy: &[T], dx: &mut [MaybeUninit<T>], grid: Grid, channels: usize) {
        let (half_height, half_width) = (grid.height / 2, grid.width / 2);
        let row = grid.width * channels;
        let input = (grid.height * row).max(1);
        let output = (half_height * half_width * channels).max(1);
        for ((x, dx), dy) in x.chunks_exact(input).zip(dx.chunks_exact_mut(input)).zip(dy.chunks_exact(output)) {
            for y in 0..half_height {
                let rows = 2 * y * row..(2 * y + 2) * row;
                let (x_upper, x_lower) = x[rows.clone()].split_at(row);
                let (dx_upper, dx_lower) = dx[rows].split_at_mut(row);
                let dy = &dy[y * half_width * channels..(y + 1) * half_width * channels];
                for column in 0..half_width {
                    let (left, right) = (2 * column * channels, (2 * column + 1) * channels);
                    let (a, b) = (&x_upper[left..][..channels], &x_upper[right..][..channels]);
                    let (c, d) = (&x_lower[left..][..channels], &x_lower[right..][..channels]);
                    let (da, db) = dx_upper[left..][..2 * channels].split_at_mut(channels);
                    let (dc, dd) = dx_lower[left..][..2 * channels].split_at_mut(channels);
                    let dy = &dy[column * channels..][..channels];
                    pass_to_largest(a, b, c, d, dy, da, db, dc, dd);
                }
                for v in dx_upper[2 * half_width * channels..].iter_mut() {
                    v.write(T::ZERO);
                }
                for v in dx_lower[2 * half_width * channels..].iter_mut() {
                    v.write(T::ZERO);
                }
            }
            for v in dx[2 * half_height * row..].iter_mut() {
                v.write(T::ZERO);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{
        testing,
        testing::kernels::{DTYPES, agree, output_and_gradient_bits, same_for_threads, variable},
    };
    use candle_core::{DType, Device, Var};

    fn pooled(x: &Tensor, grid: Grid) -> Result<Tensor> {
        Ok(max_pool_2x2(x, grid)?.0)
    }

    fn expected(x: &Tensor, grid: Grid) -> Result<Tensor> {
        Ok(max_pool_2x2_reference(x, grid)?.0)
    }

    #[test]
    fn equals_the_reference() {
        for (dtype, tolerance) in DTYPES {
            for (batch, height, width, channels) in
                [(1, 2, 2, 1), (3, 4, 6, 5), (2, 5, 7, 33), (40, 2, 2, 512), (3, 32, 32, 64), (2, 3, 2, 9000)]
            {
                let grid = Grid::new(height, width);
                let x = variable((batch, grid.tokens(), channels), dtype, 1);
                agree("max_pool", std::slice::from_ref(&x), tolerance, || pooled(&x, grid), || expected(&x, grid));
                // Few distinct values make ties in most windows.
                let coarse = (x.as_tensor() * 2.0).unwrap().round().unwrap();
                let x = Var::from_tensor(&coarse).unwrap();
                agree("ties", std::slice::from_ref(&x), tolerance, || pooled(&x, grid), || expected(&x, grid));
            }
            let grid = Grid::new(4, 6);
            let x = variable((2, 3, 24), dtype, 2);
            let turned = || x.transpose(1, 2).unwrap();
            let kernel = || pooled(&turned(), grid);
            agree("strided", std::slice::from_ref(&x), tolerance, kernel, || expected(&turned(), grid));
        }
    }

    #[test]
    fn the_first_of_equal_values_takes_the_gradient() {
        // Windows: all equal; the second and third; the fourth alone; a NaN second.
        let rows = [[1f32, 1.0, 0.0, 2.0, 1.0, 2.0, 3.0, f32::NAN], [1.0, 1.0, 2.0, 0.0, 0.0, 5.0, 9.0, 0.0]];
        let x = Var::from_tensor(&Tensor::new(&rows, &Device::Cpu).unwrap().reshape((1, 16, 1)).unwrap()).unwrap();
        let (y, grid) = max_pool_2x2(&x, Grid::new(2, 8)).unwrap();
        assert_eq!(grid, Grid::new(1, 4));
        let values = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values[..3], [1.0, 2.0, 5.0]);
        let grads = y.narrow(1, 0, 3).unwrap().sum_all().unwrap().backward().unwrap();
        let dx = grads.get(x.as_tensor()).unwrap().reshape((2, 8)).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(dx[0], [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(dx[1], [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
        assert!(values[3].is_nan());
    }

    #[test]
    fn empty_inputs_and_bad_shapes() {
        for (batch, channels) in [(0, 3), (2, 0)] {
            let x = variable((batch, 4, channels), DType::F32, 1);
            let y = pooled(&x, Grid::new(2, 2)).unwrap();
            assert_eq!(y.dims(), [batch, 1, channels]);
            assert_eq!(y.backward().unwrap().get(x.as_tensor()).unwrap().dims(), [batch, 4, channels]);
        }
        let x = variable((1, 6, 2), DType::F32, 1);
        for grid in [Grid::new(2, 2), Grid::new(6, 1)] {
            let line = max_pool_2x2(&x, grid).unwrap_err().to_string();
            assert!(line.contains("max_pool_2x2: `x` has shape [1, 6, 2]"), "{line}");
        }
    }

    #[test]
    fn gradient_and_threads() {
        let x = variable((2, 15, 3), DType::F64, 3);
        let f = || pooled(&x, Grid::new(3, 5));
        testing::gradients("max_pool", std::slice::from_ref(&x), f, 1e-7).unwrap();
        let x = variable((9, 64, 64), DType::F32, 4);
        let f = || pooled(&x, Grid::new(8, 8));
        same_for_threads("max_pool", || output_and_gradient_bits(std::slice::from_ref(&x), f));
    }
}
