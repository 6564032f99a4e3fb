//! What tests compare with: tensors against tensors, gradients against finite differences, and layers and models against
//! golden tensors.

pub mod golden;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod kernels;

use crate::Result;
use candle_core::{DType, Device, Tensor, Var};

/// Compares two tensors; they agree if every |a − b| is at most `tolerance` · max(1, max |b|).
///
/// Returns the largest |a − b| / max(1, max |b|). A value that is not finite never passes.
///
/// # Errors
/// One line that names `label`, the index of the largest error and both values, or both shapes if they differ.
pub fn compare(label: &str, actual: &Tensor, expected: &Tensor, tolerance: f64) -> std::result::Result<f64, String> {
    if actual.dims() != expected.dims() {
        return Err(format!("{label}: shape {:?}, expected {:?}", actual.dims(), expected.dims()));
    }
    let (a, b) = (values(label, actual)?, values(label, expected)?);
    let scale = b.iter().fold(1f64, |m, v| m.max(v.abs()));
    let mut worst = (0, 0f64);
    for (i, (x, y)) in a.iter().zip(&b).enumerate() {
        let error = (x - y).abs() / scale;
        if !error.is_finite() {
            return Err(format!("{label}: index {i}: {x}, expected {y}"));
        }
        if error > worst.1 {
            worst = (i, error);
        }
    }
    if worst.1 > tolerance {
        let (i, error) = worst;
        return Err(format!("{label}: index {i}: {}, expected {}, error={error:.3e} > {tolerance:.0e}", a[i], b[i]));
    }
    Ok(worst.1)
}

fn values(label: &str, tensor: &Tensor) -> std::result::Result<Vec<f64>, String> {
    tensor
        .flatten_all()
        .and_then(|t| t.to_dtype(DType::F64))
        .and_then(|t| t.to_device(&Device::Cpu))
        .and_then(|t| t.to_vec1())
        .map_err(|e| format!("{label}: {e}"))
}

/// Checks the gradients of `f` with respect to each of `inputs` against central finite differences.
///
/// Every element x of every input, which must be f64, is changed by ±1e-6 · max(1, |x|). The elements of the output are
/// weighted by fixed numbers that all differ, so that errors do not cancel in the sum. Returns the largest error, as a
/// share of max(1, the largest gradient of that input).
///
/// # Errors
/// One line that names `label`, the input, the index and both values, or the input that gets no gradient.
pub fn gradients(
    label: &str,
    inputs: &[Var],
    f: impl Fn() -> Result<Tensor>,
    tolerance: f64,
) -> std::result::Result<f64, String> {
    let fail = |e: crate::Error| format!("{label}: {e}");
    let weighted = || -> Result<Tensor> {
        let y = f()?;
        let n = y.elem_count();
        let weights: Vec<f64> =
            (0..n).map(|i| ((i as f64 + 1.0) * 0.618_033_988_749_895).fract() * 2.0 - 0.7).collect();
        let weights = Tensor::from_vec(weights, n, y.device())?;
        Ok((y.flatten_all()? * weights)?.sum_all()?)
    };
    let loss = || weighted().and_then(|y| Ok(y.to_scalar::<f64>()?));
    let grads = weighted().and_then(|y| crate::backward(&y)).map_err(fail)?;
    let mut worst = 0f64;
    for (which, input) in inputs.iter().enumerate() {
        let gradient =
            grads.get(input.as_tensor()).ok_or_else(|| format!("{label}: input {which} gets no gradient"))?;
        let analytic = values(label, gradient)?;
        if gradient.dims() != input.dims() {
            return Err(format!(
                "{label}: gradient of input {which} has shape {:?}, not {:?}",
                gradient.dims(),
                input.dims()
            ));
        }
        let start = values(label, input)?;
        let scale = analytic.iter().fold(1f64, |m, v| m.max(v.abs()));
        for (i, (&x, &found)) in start.iter().zip(&analytic).enumerate() {
            let step = 1e-6 * x.abs().max(1.0);
            let at = |x: f64| -> Result<f64> {
                let mut moved = start.clone();
                moved[i] = x;
                input.set(&Tensor::from_vec(moved, input.dims(), input.device())?)?;
                loss()
            };
            let numeric = (at(x + step).map_err(fail)? - at(x - step).map_err(fail)?) / (2.0 * step);
            let error = (numeric - found).abs() / scale;
            worst = worst.max(error);
            if error.is_nan() || error > tolerance {
                return Err(format!("{label}: input {which} index {i}: gradient {found}, finite difference {numeric}"));
            }
        }
        let start = Tensor::from_vec(start, input.dims(), input.device());
        start.and_then(|t| input.set(&t)).map_err(|e| fail(e.into()))?;
    }
    Ok(worst)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn tensor(values: &[f64]) -> Tensor {
        Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap()
    }

    #[test]
    fn nan_and_shape_never_pass() {
        assert!(compare("x", &tensor(&[f64::NAN]), &tensor(&[f64::NAN]), 1e9).is_err());
        assert!(compare("x", &tensor(&[f64::INFINITY]), &tensor(&[1.0]), 1e9).is_err());
        assert!(compare("x", &tensor(&[1.0, 2.0]), &tensor(&[1.0]), 1e9).is_err());
        assert_eq!(compare("x", &tensor(&[1.0]), &tensor(&[1.0]), 0.0), Ok(0.0));
        let line = compare("x", &tensor(&[1.0, 4.0]), &tensor(&[1.0, 2.0]), 1e-4).unwrap_err();
        assert!(line.contains("index 1: 4, expected 2"), "{line}");
    }

    #[test]
    fn a_wrong_gradient_is_found() {
        let x = Var::from_tensor(&tensor(&[0.3, -0.7])).unwrap();
        gradients("square", std::slice::from_ref(&x), || Ok(x.sqr()?), 1e-8).unwrap();
        // Detaching one factor halves the gradient.
        let line = gradients("half", std::slice::from_ref(&x), || Ok((x.as_tensor() * x.detach())?), 1e-4).unwrap_err();
        assert!(line.contains("input 0 index 0"), "{line}");
        assert!(gradients("none", std::slice::from_ref(&x), || Ok(x.detach()), 1e-4).is_err());
    }
}
