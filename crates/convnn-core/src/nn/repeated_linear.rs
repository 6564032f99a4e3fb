//! A linear layer after a pooling that only repeats its input.
//!
//! VGG pools its last map to 7×7. For 32×32 images that map is 1×1, so each channel is repeated 49 times and the next
//! layer multiplies the same number by 49 weights. Here those weights are summed once, and the sum multiplied once.
#![allow(unsafe_code)]

use crate::kernel::float::Float;
use crate::kernel::op::{Backward, Gradient, Input, Op, apply1};
use crate::kernel::parallel::{TASK, fill_tasks};
use crate::kernel::simd::kernel;
use crate::nn::linear::{linear, linear_reference};
use crate::{Error, Result, error::ensure_shape};
use candle_core::{D, Shape, Tensor};
use std::mem::MaybeUninit;

/// repeat(x) · weightᵀ + bias, where repeat(x) holds each element of x `repeats` times side by side.
///
/// # Shapes
/// x is (B, C), weight (O, C·repeats) with column c·repeats + j for the j-th copy of channel c, bias (O); the result is
/// (B, O).
///
/// # Gradient
/// Flows to x, weight and bias; the columns of one channel get equal gradients. Kept for the backward pass: x and the
/// summed weight (O, C).
///
/// # Errors
/// [`Error::Shape`], [`Error::DType`], and [`Error::Option`] if `repeats` is 0.
pub fn repeated_linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, repeats: usize) -> Result<Tensor> {
    check_shapes(x, weight, repeats)?;
    if !x.device().is_cpu() {
        return repeated_linear_reference(x, weight, bias, repeats);
    }
    linear(x, &apply1(Fold { repeats }, weight)?, bias)
}

/// [`repeated_linear`] by its definition: repeats x and multiplies by the whole weight.
pub fn repeated_linear_reference(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, repeats: usize) -> Result<Tensor> {
    check_shapes(x, weight, repeats)?;
    let (batch, channels) = x.dims2()?;
    let repeated = x.unsqueeze(2)?.broadcast_as((batch, channels, repeats))?.flatten_from(1)?; // (B, C·repeats)
    linear_reference(&repeated, weight, bias)
}

fn check_shapes(x: &Tensor, weight: &Tensor, repeats: usize) -> Result<()> {
    let op = "repeated_linear";
    if repeats == 0 {
        return Err(Error::Option {
            layer: op.into(),
            option: "repeats",
            found: "0".into(),
            expected: "at least 1".into(),
        });
    }
    ensure_shape(x.rank() == 2, op, "x", x, || "(B, C)".into())?;
    let columns = x.dim(D::Minus1)? * repeats;
    ensure_shape(weight.rank() == 2 && weight.dims()[1] == columns, op, "weight", weight, || format!("(O, {columns})"))
}

/// Sums each run of `repeats` columns: (O, C·repeats) to (O, C). The gradient is repeated.
struct Fold {
    repeats: usize,
}

impl Fold {
    /// Sums computed, or gradients repeated, by one task.
    fn sums_per_task(&self) -> usize {
        (4 * TASK / self.repeats).max(1)
    }
}

impl Op<1> for Fold {
    const NAME: &'static str = "repeated_linear";
    const INPUTS: [&'static str; 1] = ["weight"];

    fn forward<T: Float>(&self, [weight]: [Input<'_, T>; 1]) -> Result<(Vec<T>, Shape)> {
        let shape = (weight.dims[0], weight.dims[1] / self.repeats);
        let fill =
            |start: usize, y: &mut [MaybeUninit<T>]| fold(&weight.values[start * self.repeats..], y, self.repeats);
        // SAFETY: `fold` writes every element.
        let (y, _) = unsafe { fill_tasks(shape.0 * shape.1, self.sums_per_task(), fill) };
        Ok((y, Shape::from(shape)))
    }

    fn backward<T: Float>(&self, pass: Backward<'_, T, 1>) -> Result<[Gradient<T>; 1]> {
        let Backward { inputs: [weight], gradient: dy, .. } = pass;
        let task = self.sums_per_task() * self.repeats;
        let fill = |start: usize, out: &mut [MaybeUninit<T>]| repeat(&dy[start / self.repeats..], out, self.repeats);
        // SAFETY: `repeat` writes every element.
        let (dweight, _) = unsafe { fill_tasks(weight.values.len(), task, fill) };
        Ok([Gradient::Values(dweight)])
    }
}

/// Elements summed side by side: 49 are three blocks and one more.
const BLOCK: usize = 16;

kernel! {
    fn fold<const FMA: bool, T>(x: &[T], sums: &mut [MaybeUninit<T>], repeats: usize) {
        for (sum, x) in sums.iter_mut().zip(x.chunks_exact(repeats)) {
            let mut lanes = [T::ZERO; BLOCK];
            let (blocks, rest) = x.as_chunks::<BLOCK>();
            for block in blocks {
                for l in 0..BLOCK {
                    lanes[l] += block[l];
                }
            }
            let mut width = BLOCK / 2;
            while width > 0 {
                for l in 0..width {
                    lanes[l] += lanes[l + width];
                }
                width /= 2;
            }
            sum.write(rest.iter().fold(lanes[0], |sum, &x| sum + x));
        }
    }
}

kernel! {
    fn repeat<const FMA: bool, T>(x: &[T], out: &mut [MaybeUninit<T>], repeats: usize) {
        for (out, &x) in out.chunks_exact_mut(repeats).zip(x) {
            for v in out {
                v.write(x);
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
    use candle_core::{DType, Var};

    fn inputs(batch: usize, channels: usize, outputs: usize, repeats: usize, dtype: DType) -> [Var; 3] {
        let columns = channels * repeats;
        [variable((batch, channels), dtype, 1), variable((outputs, columns), dtype, 2), variable(outputs, dtype, 3)]
    }

    #[test]
    fn equals_the_reference() {
        for (dtype, tolerance) in DTYPES {
            let tolerance = 20.0 * tolerance;
            for (batch, channels, outputs, repeats) in
                [(1, 1, 1, 1), (3, 4, 5, 2), (2, 7, 3, 49), (4, 30, 90, 49), (1, 3, 2, 32), (2, 2, 3, 100_000)]
            {
                let vars = inputs(batch, channels, outputs, repeats, dtype);
                let [x, w, b] = &vars;
                // Sums of that many terms carry more rounding.
                let tolerance = tolerance * if repeats > 1000 { 100.0 } else { 1.0 };
                let reference = || repeated_linear_reference(x, w, Some(b), repeats);
                agree("repeated", &vars, tolerance, || repeated_linear(x, w, Some(b), repeats), reference);
                let reference = || repeated_linear_reference(x, w, None, repeats);
                agree("no bias", &vars[..2], tolerance, || repeated_linear(x, w, None, repeats), reference);
            }
            let vars = inputs(4, 6, 5, 3, dtype);
            let [x, w, b] = &vars;
            let kernel = || repeated_linear(&strided(x), &strided(w), Some(b), 3);
            agree("strided", &vars, tolerance, kernel, || repeated_linear_reference(x, w, Some(b), 3));
        }
    }

    #[test]
    fn bad_shapes_are_named() {
        let [x, w, b] = inputs(2, 3, 4, 5, DType::F32);
        let line = repeated_linear(&x, &w, Some(&b), 4).unwrap_err().to_string();
        assert!(line.contains("repeated_linear: `weight` has shape [4, 15]; expected (O, 12)"), "{line}");
        let line = repeated_linear(&x, &w, Some(&b), 0).unwrap_err().to_string();
        assert!(line.contains("`repeats` is 0"), "{line}");
    }

    #[test]
    fn gradient_and_threads() {
        let vars = inputs(3, 2, 4, 5, DType::F64);
        let [x, w, b] = &vars;
        testing::gradients("repeated_linear", &vars, || repeated_linear(x, w, Some(b), 5), 1e-6).unwrap();
        let vars = inputs(5, 40, 60, 49, DType::F32);
        let [x, w, b] = &vars;
        let f = || repeated_linear(x, w, Some(b), 49);
        same_for_threads("repeated_linear", || output_and_gradient_bits(&vars, f));
    }

    #[test]
    fn without_channels_the_result_is_the_bias() {
        let [x, w, b] = inputs(2, 0, 3, 4, DType::F32);
        for f in [repeated_linear, repeated_linear_reference] {
            let y = f(&x, &w, Some(&b), 4).unwrap();
            testing::compare("y", &y, &b.broadcast_as((2, 3)).unwrap(), 0.0).unwrap();
            assert_eq!(y.backward().unwrap().get(w.as_tensor()).unwrap().dims(), [3, 0]);
        }
    }
}
