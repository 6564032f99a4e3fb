//! Softmax over the last axis.
//!
//! Candle's `softmax_last_dim` has no gradient, and its `softmax` makes five passes over memory.
#![allow(unsafe_code)]

use crate::Result;
use crate::kernel::float::Float;
use crate::kernel::op::{Backward, Gradient, Input, Op, apply1};
use crate::kernel::parallel::{map_tasks, task_of_rows};
use crate::kernel::simd::{LANES, kernel, sum_of};
use candle_core::{D, Shape, Tensor};
use candle_nn::Module;
use std::mem::MaybeUninit;

/// [`softmax`] over the last axis as a module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Softmax;

impl Module for Softmax {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        Ok(softmax(x)?)
    }
}

/// Rows whose exponentials are computed in one go, so that odd row lengths cost vector code one remainder in eight rows.
const GROUP: usize = 8;

/// exp(x) / Σ exp(x) over the last axis, computed from x − max(x) so that nothing overflows.
///
/// # Shapes
/// x and the result are (…, M).
///
/// # Gradient
/// y · (dy − Σ y · dy), from the result y.
///
/// # Errors
/// If x is a scalar; [`Error::DType`](crate::Error::DType).
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    x.dim(D::Minus1)?;
    if x.device().is_cpu() { apply1(SoftmaxOp, x) } else { softmax_reference(x) }
}

/// [`softmax`] in tensor operations.
pub fn softmax_reference(x: &Tensor) -> Result<Tensor> {
    let highest = x.max_keepdim(D::Minus1)?.detach();
    let e = x.broadcast_sub(&highest)?.exp()?;
    Ok(e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?)
}

struct SoftmaxOp;

impl Op<1> for SoftmaxOp {
    const NAME: &'static str = "softmax";
    const INPUTS: [&'static str; 1] = ["x"];

    fn forward<T: Float>(&self, [x]: [Input<'_, T>; 1]) -> Result<(Vec<T>, Shape)> {
        let width = x.width();
        let map = |_, [x]: [&[T]; 1], y: &mut [MaybeUninit<T>]| softmax_rows(y.write_copy_of_slice(x), width);
        // SAFETY: the copy writes every element.
        let (y, _) = unsafe { map_tasks([x.values], task_of_rows(width), map) };
        Ok((y, Shape::from(x.dims)))
    }

    fn backward<T: Float>(&self, pass: Backward<'_, T, 1>) -> Result<[Gradient<T>; 1]> {
        let Backward { inputs: [x], output: y, gradient: dy, .. } = pass;
        let width = x.width();
        let map = |_, [y, dy]: [&[T]; 2], dx: &mut [MaybeUninit<T>]| {
            softmax_gradient_rows(y, dx.write_copy_of_slice(dy), width);
        };
        // SAFETY: the copy writes every element.
        let (dx, _) = unsafe { map_tasks([y, dy], task_of_rows(width), map) };
        Ok([Gradient::Values(dx)])
    }
}

/// The largest element; NaN is passed over.
#[inline(always)]
pub(super) fn largest<T: Float>(x: &[T]) -> T {
    let larger = |m: T, &v: &T| if v > m { v } else { m };
    if x.len() < LANES {
        return x.iter().fold(T::NEG_INFINITY, larger);
    }
    let mut lanes = [T::NEG_INFINITY; LANES];
    let (blocks, rest) = x.as_chunks::<LANES>();
    for block in blocks {
        for l in 0..LANES {
            lanes[l] = if block[l] > lanes[l] { block[l] } else { lanes[l] };
        }
    }
    for (lane, &v) in lanes.iter_mut().zip(rest) {
        *lane = if v > *lane { v } else { *lane };
    }
    lanes.iter().fold(T::NEG_INFINITY, larger)
}

kernel! {
    /// Puts its softmax in the place of each row.
    pub(super) fn softmax_rows<const FMA: bool, T>(x: &mut [T], width: usize) {
        for group in x.chunks_mut(GROUP * width.max(1)) {
            for x in group.chunks_exact_mut(width) {
                let highest = largest(x);
                for x in x {
                    *x -= highest;
                }
            }
            for x in &mut *group {
                *x = x.exp::<FMA>();
            }
            for x in group.chunks_exact_mut(width) {
                let scale = T::ONE / sum_of([x], |[x]| x);
                for x in x {
                    *x *= scale;
                }
            }
        }
    }
}

kernel! {
    /// From the results `y` and in the place of their gradients, those of the rows before the softmax.
    pub(super) fn softmax_gradient_rows<const FMA: bool, T>(y: &[T], dy: &mut [T], width: usize) {
        for (y, dy) in y.chunks_exact(width.max(1)).zip(dy.chunks_exact_mut(width.max(1))) {
            let dot = sum_of([y, dy], |[y, dy]| y * dy);
            for (dy, &y) in dy.iter_mut().zip(y) {
                *dy = y * (*dy - dot);
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
        testing::kernels::{DTYPES, agree, output_and_gradient_bits, same_for_threads, strided, variable},
    };
    use candle_core::{DType, Device, Var};

    #[test]
    fn equals_the_reference() {
        for (dtype, tolerance) in DTYPES {
            for shape in [(1, 1), (3, 17), (9, 31), (8, 32), (17, 33), (2, 1000), (167, 197), (3, 20_000)] {
                let x = variable(shape, dtype, 1);
                let x = Var::from_tensor(&(x.as_tensor() * 9.0).unwrap()).unwrap();
                agree("softmax", std::slice::from_ref(&x), tolerance, || softmax(&x), || softmax_reference(&x));
            }
            let x = variable((2, 3, 5, 33), dtype, 2);
            let kernel = || softmax(&strided(&x));
            agree("strided", std::slice::from_ref(&x), tolerance, kernel, || softmax_reference(&x));
        }
    }

    #[test]
    fn large_scores_and_nan() {
        let x = Tensor::new(&[[1e4f32, 1e4, -1e4], [f32::NAN, 0.0, 1.0], [f32::NEG_INFINITY, 0.0, 0.0]], &Device::Cpu);
        let y = softmax(&x.unwrap()).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(y[0], [0.5, 0.5, 0.0]);
        assert!(y[1].iter().all(|v| v.is_nan()));
        assert_eq!(y[2], [0.0, 0.5, 0.5]);
    }

    #[test]
    fn gradient_and_threads() {
        let x = variable((3, 7), DType::F64, 3);
        testing::gradients("softmax", std::slice::from_ref(&x), || softmax(&x), 1e-7).unwrap();
        let x = variable((300, 197), DType::F32, 4);
        same_for_threads("softmax", || output_and_gradient_bits(std::slice::from_ref(&x), || softmax(&x)));
    }

    #[test]
    fn empty_inputs() {
        for shape in [(0, 5), (5, 0)] {
            let x = variable(shape, DType::F32, 1);
            let y = softmax(&x).unwrap();
            assert_eq!(y.dims2().unwrap(), shape);
            assert_eq!(y.backward().unwrap().get(x.as_tensor()).unwrap().dims2().unwrap(), shape);
        }
        assert!(softmax(&Tensor::new(1f32, &Device::Cpu).unwrap()).is_err());
    }
}
