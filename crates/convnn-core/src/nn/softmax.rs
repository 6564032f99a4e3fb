//! Softmax over the last axis.
//!
//! Candle's `softmax_last_dim` gives its input no gradient, and its `softmax` takes five passes over memory.

use crate::Result;
use crate::kernel::float::{Float, cpu_values, has_kernel, values, with_float};
use crate::kernel::parallel::{map_tasks, task_of_rows};
use crate::kernel::simd::{LANES, kernel, sum_of};
use candle_core::{CpuStorage, CustomOp1, D, Layout, Shape, Tensor, WithDType, backend::BackendStorage};
use std::mem::MaybeUninit;

/// Rows whose exponentials are taken in one go, so that odd row lengths cost vector code only one remainder in eight.
const GROUP: usize = 8;

/// exp(x) / Σ exp(x) over the last axis, from x − max(x), so that nothing overflows.
///
/// # Shapes
/// x and the result are (…, M).
///
/// # Gradient
/// y · (dy − Σ y · dy), from the result y.
///
/// # Errors
/// Where x has no axes or Candle fails.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    x.dim(D::Minus1)?;
    if !has_kernel(x) {
        return softmax_reference(x);
    }
    Ok(x.contiguous()?.apply_op1(Softmax)?)
}

/// [`softmax`] in tensor operations.
///
/// # Errors
/// As [`softmax`].
pub fn softmax_reference(x: &Tensor) -> Result<Tensor> {
    let highest = x.max_keepdim(D::Minus1)?.detach();
    let e = x.broadcast_sub(&highest)?.exp()?;
    Ok(e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?)
}

struct Softmax;

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let width = layout.shape().dim(D::Minus1)?;
        with_float!(x.dtype(), T => {
            let x = cpu_values::<T>(x, layout)?;
            let map = |_, [x]: [&[T]; 1], y: &mut [MaybeUninit<T>]| softmax_rows(y.write_copy_of_slice(x), width);
            // SAFETY: the copy writes every element.
            let (y, _) = unsafe { map_tasks([x], task_of_rows(width), map) };
            Ok((T::to_cpu_storage_owned(y), layout.shape().clone()))
        })
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let width = x.dim(D::Minus1)?;
        let dy = dy.contiguous()?;
        let ((y_storage, y_layout), (dy_storage, dy_layout)) = (y.storage_and_layout(), dy.storage_and_layout());
        with_float!(y.dtype(), T => {
            let inputs = [values::<T>(&y_storage, y_layout)?, values(&dy_storage, dy_layout)?];
            let map = |_, [y, dy]: [&[T]; 2], dx: &mut [MaybeUninit<T>]| {
                softmax_gradient_rows(y, dx.write_copy_of_slice(dy), width);
            };
            // SAFETY: the copy writes every element.
            let (dx, _) = unsafe { map_tasks(inputs, task_of_rows(width), map) };
            Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
        })
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
        for (y, dy) in y.chunks_exact(width).zip(dy.chunks_exact_mut(width)) {
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
        check,
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
        check::gradients("softmax", std::slice::from_ref(&x), || softmax(&x), 1e-7).unwrap();
        let x = variable((300, 197), DType::F32, 4);
        same_for_threads("softmax", || output_and_gradient_bits(std::slice::from_ref(&x), || softmax(&x)));
    }

    #[test]
    fn empty_inputs() {
        for shape in [(0, 5), (5, 0)] {
            let x = Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
            assert_eq!(softmax(&x).unwrap().dims2().unwrap(), shape);
        }
        assert!(softmax(&Tensor::new(1f32, &Device::Cpu).unwrap()).is_err());
    }
}
