//! Losses against distributions over the classes: soft targets, smoothed labels, one-hot labels.

use crate::nn::cross_entropy::{class_labels, cross_entropy};
use crate::{Error, Result, error::ensure_shape};
use candle_core::{D, Tensor};

/// The mean over the batch of −Σ target · log softmax(logits), as PyTorch's `cross_entropy`.
///
/// `label_smoothing` is the share ε of each target that is spread evenly over the classes: the target becomes
/// (1 − ε) target + ε / classes.
///
/// # Shapes
/// logits are (B, classes). targets are labels, (B) in u32, or a distribution for each image, (B, classes) in the type of
/// the logits. The result is a scalar.
///
/// # Gradient
/// (softmax(logits) · Σ target − target) / B for the logits, none for the targets.
///
/// # Errors
/// [`Error::Shape`] if the shapes do not match or the batch is empty, [`Error::DType`], and [`Error::Option`] for a label
/// out of range or a smoothing outside 0 ≤ ε < 1.
pub fn cross_entropy_with(logits: &Tensor, targets: &Tensor, label_smoothing: f64) -> Result<Tensor> {
    if label_smoothing == 0.0 && targets.rank() == 1 {
        return cross_entropy(logits, targets);
    }
    let targets = distributions("cross_entropy", logits, targets, label_smoothing)?;
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?; // (B, classes)
    let partition = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?; // (B, 1)
    let losses = partition.broadcast_sub(&shifted)?.mul(&targets)?.sum(D::Minus1)?; // (B)
    Ok(losses.mean_all()?)
}

/// The mean of (outputs − target)² over batch and classes, as PyTorch's `mse_loss` with one-hot labels.
///
/// # Shapes
/// outputs are (B, classes); targets and `label_smoothing` are those of [`cross_entropy_with`]. The result is a scalar.
///
/// # Gradient
/// 2 (outputs − target) / (B · classes) for the outputs, none for the targets.
///
/// # Errors
/// As [`cross_entropy_with`].
pub fn mean_squared_error(outputs: &Tensor, targets: &Tensor, label_smoothing: f64) -> Result<Tensor> {
    let targets = distributions("mean_squared_error", outputs, targets, label_smoothing)?;
    Ok((outputs - targets)?.sqr()?.mean_all()?)
}

/// The smoothed targets, (B, classes).
fn distributions(op: &'static str, logits: &Tensor, targets: &Tensor, smoothing: f64) -> Result<Tensor> {
    if !(0.0..1.0).contains(&smoothing) {
        return Err(Error::Option {
            layer: op.into(),
            option: "label_smoothing",
            found: smoothing.to_string(),
            expected: "from 0 to below 1".into(),
        });
    }
    let targets = match targets.rank() {
        1 => {
            let labels = class_labels(op, logits, targets)?;
            let (batch, classes) = logits.dims2()?;
            let mut one_hot = vec![0f64; batch * classes];
            for (row, label) in one_hot.chunks_exact_mut(classes).zip(labels) {
                row[label as usize] = 1.0;
            }
            Tensor::from_vec(one_hot, (batch, classes), logits.device())?.to_dtype(logits.dtype())?
        }
        _ => {
            let holds = logits.rank() == 2 && logits.elem_count() > 0;
            ensure_shape(holds, op, "logits", logits, || "(B, classes)".into())?;
            let expected = || format!("{:?} as the logits, or (B) for labels", logits.dims());
            ensure_shape(targets.dims() == logits.dims(), op, "targets", targets, expected)?;
            if targets.dtype() != logits.dtype() {
                let (found, expected) = (targets.dtype(), format!("{:?}, as the logits", logits.dtype()));
                return Err(Error::DType { op, tensor: "targets", found, expected });
            }
            targets.detach()
        }
    };
    if smoothing == 0.0 {
        return Ok(targets);
    }
    let classes = logits.dim(D::Minus1)? as f64;
    Ok(((targets * (1.0 - smoothing))? + smoothing / classes)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{
        testing,
        testing::kernels::{agree, variable},
    };
    use candle_core::{DType, Device, Var};

    type Loss = fn(&Tensor, &Tensor, f64) -> Result<Tensor>;
    const LOSSES: [Loss; 2] = [cross_entropy_with, mean_squared_error];

    fn labels() -> Tensor {
        Tensor::new(&[3u32, 0, 6, 3], &Device::Cpu).unwrap()
    }

    fn soft() -> Tensor {
        candle_nn::ops::softmax(&variable((4, 7), DType::F64, 8), 1).unwrap()
    }

    #[test]
    fn gradients() {
        let x = variable((4, 7), DType::F64, 3);
        for loss in LOSSES {
            for (targets, smoothing) in [(labels(), 0.0), (labels(), 0.1), (soft(), 0.0), (soft(), 0.3)] {
                testing::gradients("loss", std::slice::from_ref(&x), || loss(&x, &targets, smoothing), 1e-7).unwrap();
            }
        }
    }

    #[test]
    fn one_hot_targets_are_labels() {
        let x = variable((4, 7), DType::F64, 3);
        let labels = labels();
        let one_hot = Tensor::eye(7, DType::F64, &Device::Cpu).unwrap().index_select(&labels, 0).unwrap();
        for (loss, smoothing) in LOSSES.into_iter().flat_map(|loss| [(loss, 0.0), (loss, 0.2)]) {
            let [soft, hard] = [&one_hot, &labels].map(|targets| move |x: &Tensor| loss(x, targets, smoothing));
            agree("one-hot", std::slice::from_ref(&x), 1e-12, || soft(&x), || hard(&x));
        }
    }

    #[test]
    fn large_logits() {
        let x = Tensor::new(&[[1e4f32, 0.0], [0.0, -1e4]], &Device::Cpu).unwrap();
        let t = Tensor::new(&[[0.5f32, 0.5], [1.0, 0.0]], &Device::Cpu).unwrap();
        let loss = cross_entropy_with(&x, &t, 0.0).unwrap().to_scalar::<f32>().unwrap();
        assert!((loss - 2500.0).abs() < 1e-3, "{loss}");
    }

    #[test]
    fn bad_targets_are_named() {
        let x = Var::from_tensor(&variable((4, 7), DType::F32, 3)).unwrap();
        for loss in LOSSES {
            for (targets, smoothing, message) in [
                (labels(), 1.0, "`label_smoothing` is 1; expected from 0 to below 1"),
                (labels().narrow(0, 0, 3).unwrap(), 0.1, "`targets` has shape [3]; expected (4)"),
                (soft().narrow(1, 0, 6).unwrap(), 0.0, "`targets` has shape [4, 6]; expected [4, 7] as the logits"),
                (soft(), 0.0, "expected F32, as the logits"),
                (Tensor::new(&[7u32, 0, 0, 0], &Device::Cpu).unwrap(), 0.1, "`targets` is 7 in row 0"),
            ] {
                let line = loss(&x, &targets, smoothing).unwrap_err().to_string();
                assert!(line.contains(message), "{line}");
            }
        }
    }
}
