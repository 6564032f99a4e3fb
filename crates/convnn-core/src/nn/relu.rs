//! Rectified linear unit, with gradient 0 at 0.
//!
//! Candle's has gradient 1 there, unlike PyTorch's.
#![allow(unsafe_code)]

use crate::Result;
use crate::kernel::float::Float;
use crate::kernel::op::{Backward, Gradient, Input, Op, apply1};
use crate::kernel::parallel::{TASK, map_tasks};
use crate::kernel::simd::kernel;
use candle_core::{Shape, Tensor};
use candle_nn::Module;
use std::mem::MaybeUninit;

/// [`relu`] as a module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Relu;

impl Module for Relu {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        Ok(relu(x)?)
    }
}

/// max(x, 0); NaN stays NaN.
///
/// # Shapes
/// Any; the result has the shape of x.
///
/// # Gradient
/// 1 if x > 0, otherwise 0.
///
/// # Errors
/// [`Error::DType`](crate::Error::DType).
pub fn relu(x: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() { apply1(ReluOp, x) } else { relu_reference(x) }
}

/// [`relu`] in tensor operations.
pub fn relu_reference(x: &Tensor) -> Result<Tensor> {
    Ok(x.le(0.0)?.where_cond(&x.zeros_like()?, x)?)
}

struct ReluOp;

impl Op<1> for ReluOp {
    const NAME: &'static str = "relu";
    const INPUTS: [&'static str; 1] = ["x"];

    fn forward<T: Float>(&self, [x]: [Input<'_, T>; 1]) -> Result<(Vec<T>, Shape)> {
        // SAFETY: `forward` writes every element.
        let (y, _) = unsafe { map_tasks([x.values], TASK, |_, [x], y| forward(x, y)) };
        Ok((y, Shape::from(x.dims)))
    }

    fn backward<T: Float>(&self, pass: Backward<'_, T, 1>) -> Result<[Gradient<T>; 1]> {
        let Backward { inputs: [x], gradient: dy, .. } = pass;
        // SAFETY: `backward` writes every element.
        let (dx, _) = unsafe { map_tasks([x.values, dy], TASK, |_, [x, dy], dx| backward(x, dy, dx)) };
        Ok([Gradient::Values(dx)])
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
        testing,
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
        testing::gradients("relu", std::slice::from_ref(&x), || relu(&x), 1e-7).unwrap();
        let x = variable((5, TASK / 2), DType::F32, 4);
        same_for_threads("relu", || output_and_gradient_bits(std::slice::from_ref(&x), || relu(&x)));
    }
}
