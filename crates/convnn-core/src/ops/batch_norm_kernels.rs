//! The loops of batch normalisation over rows of C channels.

use super::{batch_norm::Activation, float::Float, simd::kernel};
use std::mem::MaybeUninit;

/// Channels whose sums are kept in registers while the rows pass by.
const BLOCK: usize = 16;

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
        let mut start = 0;
        while start + BLOCK <= width {
            let (mut s, mut q) = ([0f64; BLOCK], [0f64; BLOCK]);
            let block = start..start + BLOCK;
            let origin = &origin[block.clone()];
            for row in x.chunks_exact(width) {
                let row = &row[block.clone()];
                for l in 0..BLOCK {
                    let d = row[l].widen() - origin[l].widen();
                    s[l] += d;
                    q[l] = d.fma::<FMA>(d, q[l]);
                }
            }
            first[block.clone()].copy_from_slice(&s);
            second[block].copy_from_slice(&q);
            start += BLOCK;
        }
        for row in x.chunks_exact(width) {
            for c in start..width {
                let d = row[c].widen() - origin[c].widen();
                first[c] += d;
                second[c] = d.fma::<FMA>(d, second[c]);
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
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
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
        let mut start = 0;
        while start + BLOCK <= width {
            let block = start..start + BLOCK;
            let (mut s, mut q) = ([0f64; BLOCK], [0f64; BLOCK]);
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
            g_sum[block.clone()].copy_from_slice(&s);
            gx_sum[block].copy_from_slice(&q);
            start += BLOCK;
        }
        for (x, dy) in x.chunks_exact(width).zip(dy.chunks_exact(width)) {
            for c in start..width {
                let centered = x[c] - channels.mean[c];
                let g = before::<FMA, T>(centered, channels.scale[c], channels.shift[c], floor, dy[c]);
                g_sum[c] += g.widen();
                gx_sum[c] += (g * centered).widen();
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
        let rows = x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width));
        for ((x, dy), dx) in rows {
            for c in 0..width {
                let centered = x[c] - mean[c];
                let g = before::<FMA, T>(centered, scale[c], shift[c], floor, dy[c]);
                dx[c].write(scale[c] * (g - of_g[c] - centered * of_x[c]));
            }
        }
    }
}
