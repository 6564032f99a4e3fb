//! The loops of batch normalisation over rows of C channels.

use crate::kernel::float::Float;
use crate::kernel::simd::kernel;
use crate::nn::batch_norm::Activation;
use std::mem::MaybeUninit;

/// Channels whose sums are kept in registers while a few rows pass by.
const BLOCK: usize = 16;
/// Rows that pass by: so few that the processor fetches each of them ahead.
const ROWS: usize = 8;

/// y = (x − mean) · scale + shift per channel, then the activation.
pub(super) struct Channels<T> {
    pub(super) mean: Vec<T>,
    pub(super) scale: Vec<T>,
    pub(super) shift: Vec<T>,
    pub(super) activation: Activation,
}

impl<T: Float> Channels<T> {
    /// What a value before the activation must exceed for its gradient to pass.
    #[inline(always)]
    fn floor(&self) -> T {
        match self.activation {
            Activation::None => T::NEG_INFINITY,
            Activation::Relu => T::ZERO,
        }
    }
}

kernel! {
    /// Adds, per channel, the sums of x − origin and of its square.
    pub(super) fn add_moments<const FMA: bool, T>(x: &[T], origin: &[T], first: &mut [f64], second: &mut [f64]) {
        let width = origin.len();
        for rows in x.chunks((ROWS * width).max(1)) {
            let (first, rest_first) = first.as_chunks_mut::<BLOCK>();
            let (second, rest_second) = second.as_chunks_mut::<BLOCK>();
            let (origins, rest_origin) = origin.as_chunks::<BLOCK>();
            for (b, ((first, second), origin)) in first.iter_mut().zip(second).zip(origins).enumerate() {
                let (mut s, mut q) = (*first, *second);
                for row in rows.chunks_exact(width) {
                    let row = &row[b * BLOCK..][..BLOCK];
                    for l in 0..BLOCK {
                        let d = row[l].widen() - origin[l].widen();
                        s[l] += d;
                        q[l] = d.fma::<FMA>(d, q[l]);
                    }
                }
                (*first, *second) = (s, q);
            }
            for row in rows.chunks_exact(width) {
                let row = &row[width / BLOCK * BLOCK..];
                for (((s, q), x), o) in rest_first.iter_mut().zip(rest_second.iter_mut()).zip(row).zip(rest_origin) {
                    let d = x.widen() - o.widen();
                    *s += d;
                    *q = d.fma::<FMA>(d, *q);
                }
            }
        }
    }
}

kernel! {
    /// Writes the normalised, scaled and activated rows.
    pub(super) fn apply<const FMA: bool, T>(x: &[T], channels: &Channels<T>, y: &mut [MaybeUninit<T>]) {
        let width = channels.mean.len();
        let (mean, scale, shift) = (&channels.mean[..width], &channels.scale[..width], &channels.shift[..width]);
        let relu = channels.activation == Activation::Relu;
        for (x, y) in x.chunks_exact(width.max(1)).zip(y.chunks_exact_mut(width.max(1))) {
            if relu {
                for c in 0..width {
                    let v = (x[c] - mean[c]).fma::<FMA>(scale[c], shift[c]);
                    y[c].write(if v <= T::ZERO { T::ZERO } else { v });
                }
            } else {
                for c in 0..width {
                    y[c].write((x[c] - mean[c]).fma::<FMA>(scale[c], shift[c]));
                }
            }
        }
    }
}

/// The gradient before the activation.
#[inline(always)]
fn before<const FMA: bool, T: Float>(centered: T, scale: T, shift: T, floor: T, dy: T) -> T {
    if centered.fma::<FMA>(scale, shift) <= floor { T::ZERO } else { dy }
}

kernel! {
    /// Adds, per channel, the sums of g and of g · (x − mean), g the gradient before the activation.
    pub(super) fn add_sums<const FMA: bool, T>(
        x: &[T], dy: &[T], channels: &Channels<T>, g_sum: &mut [f64], gx_sum: &mut [f64],
    ) {
        let width = channels.mean.len();
        let floor = channels.floor();
        let block = (ROWS * width).max(1);
        for (x, dy) in x.chunks(block).zip(dy.chunks(block)) {
            let (g_blocks, g_rest) = g_sum.as_chunks_mut::<BLOCK>();
            let (gx_blocks, gx_rest) = gx_sum.as_chunks_mut::<BLOCK>();
            for (b, (g_sum, gx_sum)) in g_blocks.iter_mut().zip(gx_blocks).enumerate() {
                let (mut s, mut q) = (*g_sum, *gx_sum);
                let block = b * BLOCK..(b + 1) * BLOCK;
                let (mean, scale, shift) =
                    (&channels.mean[block.clone()], &channels.scale[block.clone()], &channels.shift[block.clone()]);
                for (x, dy) in x.chunks_exact(width).zip(dy.chunks_exact(width)) {
                    let (x, dy) = (&x[block.clone()], &dy[block.clone()]);
                    for l in 0..BLOCK {
                        let centered = x[l] - mean[l];
                        let g = before::<FMA, T>(centered, scale[l], shift[l], floor, dy[l]);
                        s[l] += g.widen();
                        q[l] += (g * centered).widen();
                    }
                }
                (*g_sum, *gx_sum) = (s, q);
            }
            let start = width / BLOCK * BLOCK;
            for (x, dy) in x.chunks_exact(width).zip(dy.chunks_exact(width)) {
                for c in start..width {
                    let centered = x[c] - channels.mean[c];
                    let g = before::<FMA, T>(centered, channels.scale[c], channels.shift[c], floor, dy[c]);
                    g_rest[c - start] += g.widen();
                    gx_rest[c - start] += (g * centered).widen();
                }
            }
        }
    }
}

kernel! {
    /// Writes scale · (g − of_g − (x − mean) · of_x), g the gradient before the activation.
    pub(super) fn backward<const FMA: bool, T>(
        x: &[T], dy: &[T], channels: &Channels<T>, of_g: &[T], of_x: &[T], dx: &mut [MaybeUninit<T>],
    ) {
        let width = channels.mean.len();
        let (mean, scale, shift) = (&channels.mean[..width], &channels.scale[..width], &channels.shift[..width]);
        let (of_g, of_x, floor) = (&of_g[..width], &of_x[..width], channels.floor());
        let row = width.max(1);
        let rows = x.chunks_exact(row).zip(dy.chunks_exact(row)).zip(dx.chunks_exact_mut(row));
        for ((x, dy), dx) in rows {
            for c in 0..width {
                let centered = x[c] - mean[c];
                let g = before::<FMA, T>(centered, scale[c], shift[c], floor, dy[c]);
                dx[c].write(scale[c] * (g - of_g[c] - centered * of_x[c]));
            }
        }
    }
}
