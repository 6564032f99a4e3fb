//! The audit of the first step: every trainable parameter must have a finite gradient that is not all zeros.
//!
//! Candle silently drops the gradients of operations that have none; training then merely looks slow.

use crate::config::AuditRule;
use crate::{Error, Result};
use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};

/// Checks the gradients of the first step.
///
/// # Errors
/// [`Error::Audit`] with the names of the parameters that have no gradient or one of zeros, if `rule` is strict, and in
/// any case of those whose gradient is not finite.
pub fn audit(parameters: &[(String, Var)], gradients: &GradStore, rule: AuditRule) -> Result<()> {
    let (mut untrained, mut broken) = (Vec::new(), Vec::new());
    for (name, var) in parameters {
        match gradients.get(var.as_tensor()).map(largest).transpose()? {
            None => untrained.push(format!("`{name}` (no gradient)")),
            Some(0.0) => untrained.push(format!("`{name}` (a gradient of zeros)")),
            Some(largest) if !largest.is_finite() => broken.push(format!("`{name}` (a gradient that is not finite)")),
            Some(_) => {}
        }
    }
    if !broken.is_empty() {
        return Err(Error::Audit(list(&broken)));
    }
    match (untrained.is_empty(), rule) {
        (true, _) => Ok(()),
        (false, AuditRule::Report) => {
            tracing::warn!("the first step does not train {}", list(&untrained));
            Ok(())
        }
        (false, AuditRule::Strict) => {
            Err(Error::Audit(format!("{}; if this is intended, add --set audit=report", list(&untrained))))
        }
    }
}

/// The largest absolute value, or NaN if there is a NaN.
fn largest(tensor: &Tensor) -> Result<f32> {
    let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    let keep = |largest: f32, value: f32| if largest.is_nan() || value <= largest { largest } else { value };
    Ok(values.into_iter().map(f32::abs).fold(0.0, keep))
}

/// The first five names and the number of the others.
fn list(names: &[String]) -> String {
    let shown = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(5) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn var(values: &[f32]) -> Var {
        Var::from_tensor(&Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap()).unwrap()
    }

    #[test]
    fn every_fault_is_named() {
        let parameters = ["good", "zero", "absent"].map(|name| (name.to_owned(), var(&[1.0, -2.0])));
        let [(_, good), (_, zero), _] = &parameters;
        let loss = good.sqr().unwrap().sum_all().unwrap()
            + zero.as_tensor().mul(&zero.zeros_like().unwrap()).unwrap().sum_all().unwrap();
        let mut gradients = loss.unwrap().backward().unwrap();
        let error = audit(&parameters, &gradients, AuditRule::Strict).unwrap_err().to_string();
        assert!(error.contains("`zero` (a gradient of zeros), `absent` (no gradient)"), "{error}");
        assert!(!error.contains("`good`") && error.contains("audit=report"), "{error}");
        audit(&parameters, &gradients, AuditRule::Report).unwrap();
        audit(&parameters[..1], &gradients, AuditRule::Strict).unwrap();

        for bad in [[f32::NAN, 1.0], [1.0, f32::INFINITY], [1.0, f32::NAN]] {
            gradients.insert(good.as_tensor(), var(&bad).as_tensor().clone());
            let error = audit(&parameters[..1], &gradients, AuditRule::Report).unwrap_err().to_string();
            assert!(error.contains("`good` (a gradient that is not finite)"), "{error}");
        }
    }
}
