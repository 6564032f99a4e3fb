//! Layer normalization over the last axis.
//!
//! Candle's `LayerNorm` has no gradient for its input or its parameters.
#![allow(unsafe_code)]

use crate::kernel::float::Float;
use crate::kernel::op::{Backward, Gradient, Input, Op, apply3};
use crate::kernel::parallel::{map_tasks, task_of_rows};
use crate::kernel::simd::{kernel, sum_of, sums_of};
use crate::{Result, error::ensure_shape};
use candle_core::{D, Shape, Tensor};
use candle_nn::{Module, VarBuilder, init};
use std::mem::MaybeUninit;

/// Layer normalization of the last axis: (…, D) to (…, D) by [`layer_norm`].
///
/// Parameters: `weight` (D), initially 1, and `bias` (D), initially 0.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    /// A layer over D = `width`.
    ///
    /// # Errors
    /// If `vb` holds tensors of other shapes.
    pub fn new(width: usize, vb: VarBuilder<'_>) -> Result<Self> {
        let weight = vb.get_with_hints(width, "weight", init::ONE)?;
        Ok(Self { weight, bias: vb.get_with_hints(width, "bias", init::ZERO)? })
    }
}

impl Module for LayerNorm {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        Ok(layer_norm(x, &self.weight, &self.bias)?)
    }
}

/// Added to the variance.
const EPSILON: f64 = 1e-5;

/// (x − mean) / √(variance + 1e-5) · weight + bias, with the mean and the biased variance over the last axis.
///
/// # Shapes
/// x and the result are (…, D); weight and bias are (D).
///
/// # Gradient
/// Flows to x, weight and bias. Mean and variance are recomputed from x.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) and [`Error::DType`](crate::Error::DType).
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    check_shapes(x, weight, bias)?;
    if x.device().is_cpu() { apply3(LayerNormOp, x, weight, bias) } else { layer_norm_reference(x, weight, bias) }
}

/// [`layer_norm`] in tensor operations.
pub fn layer_norm_reference(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    check_shapes(x, weight, bias)?;
    let centered = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let deviation = (centered.sqr()?.mean_keepdim(D::Minus1)? + EPSILON)?.sqrt()?;
    Ok(centered.broadcast_div(&deviation)?.broadcast_mul(weight)?.broadcast_add(bias)?)
}

fn check_shapes(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<()> {
    let width = x.dim(D::Minus1)?;
    for (name, parameter) in [("weight", weight), ("bias", bias)] {
        ensure_shape(parameter.dims() == [width], "layer_norm", name, parameter, || format!("({width})"))?;
    }
    Ok(())
}

struct LayerNormOp;

impl Op<3> for LayerNormOp {
    const NAME: &'static str = "layer_norm";
    const INPUTS: [&'static str; 3] = ["x", "weight", "bias"];

    fn forward<T: Float>(&self, [x, weight, bias]: [Input<'_, T>; 3]) -> Result<(Vec<T>, Shape)> {
        let (weight, bias) = (weight.values, bias.values);
        // SAFETY: `forward` writes every element.
        let (y, _) =
            unsafe { map_tasks([x.values], task_of_rows(weight.len()), |_, [x], y| forward(x, weight, bias, y)) };
        Ok((y, Shape::from(x.dims)))
    }

    /// With x̂ = (x − mean) / σ and g = dy · weight: dx = (g − mean(g) − x̂ · mean(g · x̂)) / σ,
    /// dweight = Σ dy · x̂ and dbias = Σ dy over the rows.
    fn backward<T: Float>(&self, pass: Backward<'_, T, 3>) -> Result<[Gradient<T>; 3]> {
        let Backward { inputs: [x, weight, _], gradient: dy, .. } = pass;
        let scale = weight.values;
        let width = scale.len();
        // SAFETY: `backward` writes every element of dx.
        let (dx, sums) = unsafe {
            map_tasks([x.values, dy], task_of_rows(width), |_, [x, dy], dx| {
                let mut sums = vec![T::ZERO; 2 * width];
                let (dweight, dbias) = sums.split_at_mut(width);
                backward(x, scale, dy, dx, dweight, dbias);
                sums
            })
        };
        let mut totals = vec![0f64; 2 * width];
        for sums in sums {
            for (total, sum) in totals.iter_mut().zip(sums) {
                *total += sum.widen();
            }
        }
        let parameter = |totals: &[f64]| Gradient::Values(totals.iter().map(|&v| T::narrow(v)).collect());
        Ok([Gradient::Values(dx), parameter(&totals[..width]), parameter(&totals[width..])])
    }
}

/// Mean and 1/√(variance + ε) of a row.
#[inline(always)]
fn moments<T: Float>(x: &[T]) -> (T, T) {
    let count = T::narrow(x.len() as f64);
    let mean = sum_of([x], |[x]| x) / count;
    let variance = sum_of([x], |[x]| (x - mean) * (x - mean)) / count;
    (mean, T::ONE / (variance + T::narrow(EPSILON)).sqrt())
}

kernel! {
    fn forward<const FMA: bool, T>(x: &[T], weight: &[T], bias: &[T], y: &mut [MaybeUninit<T>]) {
        let width = weight.len();
        for (x, y) in x.chunks_exact(width.max(1)).zip(y.chunks_exact_mut(width.max(1))) {
            let (mean, inverse) = moments(x);
            for (((y, &x), &weight), &bias) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                y.write(((x - mean) * inverse).fma::<FMA>(weight, bias));
            }
        }
    }
}

kernel! {
    fn backward<const FMA: bool, T>(
        x: &[T], weight: &[T], dy: &[T], dx: &mut [MaybeUninit<T>], dweight: &mut [T], dbias: &mut [T],
    ) {
        let width = weight.len();
        let count = T::narrow(width as f64);
        let row = width.max(1);
        let rows = x.chunks_exact(row).zip(dy.chunks_exact(row)).zip(dx.chunks_exact_mut(row));
        for ((x, dy), dx) in rows {
            let (mean, inverse) = moments(x);
            for (((dweight, dbias), &x), &dy) in dweight.iter_mut().zip(dbias.iter_mut()).zip(x).zip(dy) {
                *dweight = dy.fma::<FMA>((x - mean) * inverse, *dweight);
                *dbias += dy;
            }
            let [sum_g, sum_gx] = sums_of([dy, weight, x], |[dy, weight, x]| {
                let g = dy * weight;
                [g, g * (x - mean)]
            });
            // dx = inverse · g − (x − mean) · of_x − constant
            let (of_x, constant) = (sum_gx * inverse * inverse * inverse / count, sum_g * inverse / count);
            for (((dx, &x), &dy), &weight) in dx.iter_mut().zip(x).zip(dy).zip(weight) {
                dx.write((dy * inverse).fma::<FMA>(weight, -(x - mean).fma::<FMA>(of_x, constant)));
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

    fn inputs(rows: usize, width: usize, dtype: DType) -> [Var; 3] {
        let weight = (variable(width, dtype, 2).as_tensor() + 1.5).unwrap();
        [variable((rows, width), dtype, 1), Var::from_tensor(&weight).unwrap(), variable(width, dtype, 3)]
    }

    #[test]
    fn equals_the_reference() {
        for (dtype, tolerance) in DTYPES {
            for (rows, width) in [(1, 2), (3, 17), (8, 32), (17, 33), (171, 192), (22, 768), (3, 20_000)] {
                let vars = inputs(rows, width, dtype);
                let [x, w, b] = &vars;
                // Sums over many rows carry more rounding than one element does.
                let tolerance = 4.0 * tolerance;
                agree("layer_norm", &vars, tolerance, || layer_norm(x, w, b), || layer_norm_reference(x, w, b));
            }
            let vars = inputs(6, 33, dtype);
            let [x, w, b] = &vars;
            let kernel = || layer_norm(&strided(x), w, b);
            agree("strided", &vars, tolerance, kernel, || layer_norm_reference(x, w, b));
        }
    }

    #[test]
    fn a_large_mean_does_not_drown_the_variance() {
        let x = (variable((4, 192), DType::F64, 1).as_tensor() + 1000.0).unwrap().to_dtype(DType::F32).unwrap();
        let parameters = [1f64, 0.0].map(|v| Tensor::full(v, 192, &Device::Cpu).unwrap());
        let [w, b] = parameters.clone().map(|p| p.to_dtype(DType::F32).unwrap());
        let exact = layer_norm_reference(&x.to_dtype(DType::F64).unwrap(), &parameters[0], &parameters[1]).unwrap();
        testing::compare("layer_norm", &layer_norm(&x, &w, &b).unwrap(), &exact, 2e-4).unwrap();
    }

    #[test]
    fn wrong_shapes_are_named() {
        let [x, w, b] = inputs(2, 8, DType::F32);
        let short = b.narrow(0, 0, 7).unwrap();
        let line = layer_norm(&x, &w, &short).unwrap_err().to_string();
        assert!(line.contains("layer_norm: `bias` has shape [7]; expected (8)"), "{line}");
    }

    #[test]
    fn gradient_and_threads() {
        let vars = inputs(4, 9, DType::F64);
        let [x, w, b] = &vars;
        testing::gradients("layer_norm", &vars, || layer_norm(x, w, b), 1e-6).unwrap();
        let vars = inputs(300, 192, DType::F32);
        let [x, w, b] = &vars;
        same_for_threads("layer_norm", || output_and_gradient_bits(&vars, || layer_norm(x, w, b)));
    }

    #[test]
    fn empty_inputs() {
        for (rows, width) in [(0, 5), (5, 0)] {
            let vars = inputs(rows, width, DType::F32);
            let [x, w, b] = &vars;
            let y = layer_norm(x, w, b).unwrap();
            assert_eq!(y.dims(), [rows, width]);
            let grads = y.backward().unwrap();
            for input in &vars {
                let gradient = grads.get(input.as_tensor()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
                assert_eq!(gradient, vec![0.0; input.elem_count()]);
            }
        }
    }
}
