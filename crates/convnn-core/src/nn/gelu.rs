//! Gaussian error linear unit, exact form: x · Φ(x) with Φ(x) = (1 + erf(x/√2)) / 2.
#![allow(unsafe_code)]

use crate::Result;
use crate::kernel::float::Float;
use crate::kernel::op::{Backward, Gradient, Input, Op, apply1};
use crate::kernel::parallel::{TASK, map_tasks};
use crate::kernel::simd::kernel;
use crate::nn::dropout::DropoutMask;
use candle_core::{Shape, Tensor};
use candle_nn::Module;
use std::{f64::consts::FRAC_1_SQRT_2, mem::MaybeUninit};

/// [`gelu`] as a module, without dropout.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gelu;

impl Module for Gelu {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        Ok(gelu(x, None)?)
    }
}

/// 1/√(2π).
const DENSITY_AT_0: f64 = 0.398_942_280_401_432_7;

/// x · Φ(x), where Φ is the distribution function of the standard normal distribution; with a mask, followed by dropout.
///
/// # Shapes
/// Any; the result has the shape of x.
///
/// # Gradient
/// Φ(x) + x · φ(x), where φ is the density, for elements that the mask keeps. Only x is kept for the backward pass.
///
/// # Errors
/// [`Error::DType`](crate::Error::DType).
pub fn gelu(x: &Tensor, mask: Option<DropoutMask>) -> Result<Tensor> {
    if x.device().is_cpu() { apply1(GeluOp { mask }, x) } else { gelu_reference(x, mask) }
}

/// [`gelu`] in tensor operations.
pub fn gelu_reference(x: &Tensor, mask: Option<DropoutMask>) -> Result<Tensor> {
    let y = (x * 0.5)?.mul(&((x * FRAC_1_SQRT_2)?.erf()? + 1.0)?)?;
    match mask {
        Some(mask) => mask.apply_reference(&y),
        None => Ok(y),
    }
}

struct GeluOp {
    mask: Option<DropoutMask>,
}

impl GeluOp {
    /// Applies dropout to the elements from number `start` on.
    fn drop_out<T: Float>(&self, start: usize, values: &mut [T]) {
        if let Some(mask) = self.mask {
            mask.apply(start, values);
        }
    }
}

impl Op<1> for GeluOp {
    const NAME: &'static str = "gelu";
    const INPUTS: [&'static str; 1] = ["x"];

    fn forward<T: Float>(&self, [x]: [Input<'_, T>; 1]) -> Result<(Vec<T>, Shape)> {
        let map = |start: usize, [x]: [&[T]; 1], y: &mut [MaybeUninit<T>]| {
            forward(x, y);
            // SAFETY: `forward` has written every element.
            self.drop_out(start, unsafe { y.assume_init_mut() });
        };
        // SAFETY: `forward` writes every element.
        let (y, _) = unsafe { map_tasks([x.values], TASK, map) };
        Ok((y, Shape::from(x.dims)))
    }

    fn backward<T: Float>(&self, pass: Backward<'_, T, 1>) -> Result<[Gradient<T>; 1]> {
        let Backward { inputs: [x], gradient: dy, .. } = pass;
        let map = |start: usize, [x, dy]: [&[T]; 2], dx: &mut [MaybeUninit<T>]| {
            backward(x, dy, dx);
            // SAFETY: `backward` has written every element.
            self.drop_out(start, unsafe { dx.assume_init_mut() });
        };
        // SAFETY: `backward` writes every element.
        let (dx, _) = unsafe { map_tasks([x.values, dy], TASK, map) };
        Ok([Gradient::Values(dx)])
    }
}

kernel! {
    fn forward<const FMA: bool, T>(x: &[T], y: &mut [MaybeUninit<T>]) {
        let (half, root) = (T::narrow(0.5), T::narrow(FRAC_1_SQRT_2));
        for (y, &x) in y.iter_mut().zip(x) {
            y.write(half * x * (T::ONE + (x * root).erf::<FMA>()));
        }
    }
}

kernel! {
    fn backward<const FMA: bool, T>(x: &[T], dy: &[T], dx: &mut [MaybeUninit<T>]) {
        let (half, root, density) = (T::narrow(0.5), T::narrow(FRAC_1_SQRT_2), T::narrow(DENSITY_AT_0));
        for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
            let phi = density * (-half * x * x).exp::<FMA>();
            let distribution = half.fma::<FMA>((x * root).erf::<FMA>(), half);
            dx.write(dy * x.fma::<FMA>(phi, distribution));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{
        Streams, testing,
        testing::kernels::{DTYPES, agree, output_and_gradient_bits, same_for_threads, strided, variable},
    };
    use candle_core::{DType, Device, Var};

    fn mask(p: f64) -> DropoutMask {
        DropoutMask::draw(p, &mut Streams::new(1).generator("dropout/0/test")).unwrap()
    }

    /// A variable whose values reach into both tails.
    fn wide(shape: (usize, usize), dtype: DType, seed: u64) -> Var {
        Var::from_tensor(&(variable(shape, dtype, seed).as_tensor() * 6.0).unwrap()).unwrap()
    }

    #[test]
    fn equals_the_reference() {
        for (dtype, tolerance) in DTYPES {
            for shape in [(1, 1), (3, 17), (1, TASK), (3, TASK / 2 + 5)] {
                let x = wide(shape, dtype, 1);
                let dropped = Some(mask(0.3));
                let kernel = || gelu(&x, dropped);
                agree("with dropout", std::slice::from_ref(&x), tolerance, kernel, || gelu_reference(&x, dropped));
                agree("gelu", std::slice::from_ref(&x), tolerance, || gelu(&x, None), || gelu_reference(&x, None));
            }
            let x = wide((5, 33), dtype, 2);
            agree(
                "strided",
                std::slice::from_ref(&x),
                tolerance,
                || gelu(&strided(&x), None),
                || gelu_reference(&x, None),
            );
        }
    }

    #[test]
    fn known_values_and_nan() {
        let x = Tensor::new(&[-1.0f32, 0.0, 1.0, 3.0, -40.0, f32::NAN], &Device::Cpu).unwrap();
        let y = gelu(&x, None).unwrap().to_vec1::<f32>().unwrap();
        // torch.nn.functional.gelu(torch.tensor([-1., 0., 1., 3., -40.], dtype=torch.float64))
        let expected = [-0.158_655_25, 0.0, 0.841_344_7, 2.995_950_3, 0.0];
        for (y, expected) in y.iter().zip(expected) {
            assert!((y - expected).abs() < 3e-7, "{y}, expected {expected}");
        }
        assert!(y[5].is_nan());
    }

    #[test]
    fn gradient_and_threads() {
        let x = wide((3, 11), DType::F64, 3);
        testing::gradients("gelu", std::slice::from_ref(&x), || gelu(&x, None), 1e-7).unwrap();
        let mask = Some(mask(0.3));
        testing::gradients("with dropout", std::slice::from_ref(&x), || gelu(&x, mask), 1e-7).unwrap();
        let x = wide((5, TASK / 2), DType::F32, 4);
        same_for_threads("gelu", || output_and_gradient_bits(std::slice::from_ref(&x), || gelu(&x, mask)));
    }
}
