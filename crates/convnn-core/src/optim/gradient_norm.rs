//! The norm of all gradients together, for clipping.

use crate::Result;
use crate::kernel::float::{Float, has_kernel, values, with_float};
use crate::kernel::parallel::{TASK, reduce_tasks};
use crate::kernel::simd::{LANES, kernel, sum_lanes};
use candle_core::{DType, Tensor};

/// √(Σ g²) over all elements of all gradients, accumulated in f64 in the order given.
///
/// Gradients may have any shape; the norm of no gradients is 0. The result has the same bits for any number of threads.
pub fn gradient_norm(gradients: &[&Tensor]) -> Result<f64> {
    let mut sum = 0.0;
    for gradient in gradients {
        sum += if has_kernel(gradient) { squares(gradient)? } else { squares_reference(gradient)? };
    }
    Ok(sum.sqrt())
}

/// [`gradient_norm`] in tensor operations.
pub fn gradient_norm_reference(gradients: &[&Tensor]) -> Result<f64> {
    let sums: Vec<f64> = gradients.iter().map(|g| squares_reference(g)).collect::<Result<_>>()?;
    Ok(sums.iter().sum::<f64>().sqrt())
}

fn squares_reference(gradient: &Tensor) -> Result<f64> {
    Ok(gradient.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?)
}

fn squares(gradient: &Tensor) -> Result<f64> {
    let gradient = gradient.contiguous()?;
    let (storage, layout) = gradient.storage_and_layout();
    let parts = with_float!(gradient.dtype(), T => {
        candle_core::Result::Ok(reduce_tasks([values::<T>(&storage, layout)?], TASK, |[g]| sum_of_squares(g)))
    })?;
    Ok(parts.iter().sum())
}

kernel! {
    fn sum_of_squares<const FMA: bool, T>(x: &[T]) -> f64 {
        let mut lanes = [0f64; LANES];
        let (blocks, rest) = x.as_chunks::<LANES>();
        for block in blocks {
            for l in 0..LANES {
                let v = block[l].widen();
                lanes[l] = v.fma::<FMA>(v, lanes[l]);
            }
        }
        for (lane, v) in lanes.iter_mut().zip(rest) {
            *lane += v.widen() * v.widen();
        }
        sum_lanes(lanes)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::kernels::{DTYPES, same_for_threads, strided, variable};
    use candle_core::Device;

    #[test]
    fn equals_the_reference() {
        for (dtype, _) in DTYPES {
            let gradients = [1, 31, 33, TASK, 2 * TASK + 7].map(|n| variable(n, dtype, n as u64).into_inner());
            let gradients: Vec<&Tensor> = gradients.iter().collect();
            let (found, expected) = (gradient_norm(&gradients).unwrap(), gradient_norm_reference(&gradients).unwrap());
            assert!((found / expected - 1.0).abs() < 1e-12, "{found}, expected {expected}");
            assert!(found > 1.0);
        }
    }

    #[test]
    fn small_cases() {
        let tensor = |v: &[f32]| Tensor::new(v, &Device::Cpu).unwrap();
        assert_eq!(gradient_norm(&[]).unwrap(), 0.0);
        assert_eq!(gradient_norm(&[&tensor(&[3.0]), &tensor(&[0.0, -4.0])]).unwrap(), 5.0);
        assert!(gradient_norm(&[&tensor(&[1.0, f32::NAN])]).unwrap().is_nan());
        // Squares of these overflow f32.
        assert_eq!(gradient_norm(&[&tensor(&[3e30, -4e30])]).unwrap() as f32, 5e30);
        let x = variable((7, 9), DType::F32, 1);
        let (plain, turned) = (gradient_norm(&[&x]).unwrap(), gradient_norm(&[&strided(&x)]).unwrap());
        assert_eq!(plain, turned);
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let x = variable((5, TASK / 2 + 1), DType::F32, 1);
        same_for_threads("gradient_norm", || vec![gradient_norm(&[&x]).unwrap().to_bits()]);
    }
}
