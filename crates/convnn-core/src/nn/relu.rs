//! Rectified linear unit, with gradient 0 at 0.
//!
//! Candle's has gradient 1 there, so that a ReLU after a layer that gives exact zeros departs from PyTorch's.

use crate::Result;
use crate::kernel::float::{cpu_values, has_kernel, values, with_float};
use crate::kernel::parallel::{TASK, map_tasks};
use crate::kernel::simd::kernel;
use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor, WithDType, backend::BackendStorage};
use std::mem::MaybeUninit;

/// max(x, 0); a NaN stays one.
///
/// # Shapes
/// x and the result have any shape.
///
/// # Gradient
/// 1 where x > 0, else 0.
///
/// # Errors
/// Where Candle fails.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    if !has_kernel(x) {
        return relu_reference(x);
    }
    Ok(x.contiguous()?.apply_op1(Relu)?)
}

/// [`relu`] in tensor operations.
///
/// # Errors
/// Where Candle fails.
pub fn relu_reference(x: &Tensor) -> Result<Tensor> {
    Ok(x.le(0.0)?.where_cond(&x.zeros_like()?, x)?)
}

struct Relu;

impl CustomOp1 for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        with_float!(x.dtype(), T => {
            // SAFETY: `forward` writes every element.
            let (y, _) = unsafe { map_tasks([cpu_values::<T>(x, layout)?], TASK, |_, [x], y| forward(x, y)) };
            Ok((T::to_cpu_storage_owned(y), layout.shape().clone()))
        })
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let dy = dy.contiguous()?;
        let ((x_storage, x_layout), (dy_storage, dy_layout)) = (x.storage_and_layout(), dy.storage_and_layout());
        with_float!(x.dtype(), T => {
            let inputs = [values::<T>(&x_storage, x_layout)?, values(&dy_storage, dy_layout)?];
            // SAFETY: `backward` writes every element.
            let (dx, _) = unsafe { map_tasks(inputs, TASK, |_, [x, dy], dx| backward(x, dy, dx)) };
            Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
        })
    }
}

kernel! {
    fn forward<const FMA: bool, T>(x: &[T], y: &mut [MaybeUninit<T>]) {
        for (y, &x) in y.iter_mut().zip(x) {
            y.write(if x <= T::ZERO { T::ZERO } else { x });
        }
    }
}

kernel! {
    fn backward<const FMA: bool, T>(x: &[T], dy: &[T], dx: &mut [MaybeUninit<T>]) {
        for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
            dx.write(if x <= T::ZERO { T::ZERO } else { dy });
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
            for shape in [(1, 1), (3, 17), (1, TASK), (2, TASK - 1), (3, TASK + 5)] {
                let x = variable(shape, dtype, 1);
                agree("relu", std::slice::from_ref(&x), tolerance, || relu(&x), || relu_reference(&x));
            }
            let x = variable((5, 33), dtype, 2);
            agree("strided", std::slice::from_ref(&x), tolerance, || relu(&strided(&x)), || relu_reference(&x));
        }
    }

    #[test]
    fn gradient_is_zero_at_zero_and_nan_stays() {
        let x = Var::from_slice(&[-1.0f32, 0.0, -0.0, 2.0, f32::NAN], 5, &Device::Cpu).unwrap();
        for f in [relu, relu_reference] {
            let y = f(&x).unwrap();
            let values = y.to_vec1::<f32>().unwrap();
            assert_eq!(values[..4], [0.0, 0.0, 0.0, 2.0]);
            assert!(values[4].is_nan());
            let grads = y.sum_all().unwrap().backward().unwrap();
            assert_eq!(grads.get(x.as_tensor()).unwrap().to_vec1::<f32>().unwrap(), [0.0, 0.0, 0.0, 1.0, 1.0]);
        }
    }

    #[test]
    fn gradient_and_threads() {
        let x = variable((3, 7), DType::F64, 3);
        check::gradients("relu", std::slice::from_ref(&x), || relu(&x), 1e-7).unwrap();
        let x = variable((5, TASK / 2), DType::F32, 4);
        same_for_threads("relu", || output_and_gradient_bits(std::slice::from_ref(&x), || relu(&x)));
    }
}
