//! Mean cross entropy of logits and class labels.

use crate::kernel::float::Float;
use crate::kernel::op::{Backward, Gradient, Input, Op, apply1};
use crate::kernel::parallel::{reduce_tasks, task_of_rows};
use crate::kernel::simd::{kernel, sum_of};
use crate::nn::softmax::largest;
use crate::{Error, Result, error::ensure_shape};
use candle_core::{D, DType, Shape, Tensor};

/// The mean over the batch of log Σ exp(logits) − `logits[target]`, computed from logits − max so that nothing overflows.
///
/// # Shapes
/// logits are (B, classes), targets (B) in u32; the result is a scalar.
///
/// # Gradient
/// (softmax(logits) − one-hot(target)) / B for the logits, none for the targets.
///
/// # Errors
/// [`Error::Shape`] if the shapes do not match or the batch is empty, [`Error::DType`], and [`Error::Option`] for a label
/// out of range.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let labels = class_labels("cross_entropy", logits, targets)?;
    if logits.device().is_cpu() {
        apply1(CrossEntropyOp { labels }, logits)
    } else {
        cross_entropy_reference(logits, targets)
    }
}

/// [`cross_entropy`] in tensor operations.
pub fn cross_entropy_reference(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    class_labels("cross_entropy", logits, targets)?;
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?; // (B, classes)
    let partition = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?; // (B, 1)
    let chosen = shifted.gather(&targets.unsqueeze(1)?, 1)?; // (B, 1)
    Ok((partition - chosen)?.mean_all()?)
}

/// The labels in `targets` (B), one for each row of the logits.
pub(super) fn class_labels(op: &'static str, logits: &Tensor, targets: &Tensor) -> Result<Vec<u32>> {
    ensure_shape(logits.rank() == 2 && logits.elem_count() > 0, op, "logits", logits, || "(B, classes)".into())?;
    let (batch, classes) = logits.dims2()?;
    ensure_shape(targets.dims() == [batch], op, "targets", targets, || {
        format!("({batch}), one for each row of logits")
    })?;
    if targets.dtype() != DType::U32 {
        let found = targets.dtype();
        return Err(Error::DType { op, tensor: "targets", found, expected: "U32".into() });
    }
    let labels = targets.to_vec1::<u32>()?;
    if let Some((row, label)) = labels.iter().enumerate().find(|(_, label)| **label as usize >= classes) {
        return Err(Error::Option {
            layer: op.into(),
            option: "targets",
            found: format!("{label} in row {row}"),
            expected: format!("labels from 0 to {}, one for each column of the logits", classes - 1),
        });
    }
    Ok(labels)
}

struct CrossEntropyOp {
    labels: Vec<u32>,
}

impl Op<1> for CrossEntropyOp {
    const NAME: &'static str = "cross_entropy";
    const INPUTS: [&'static str; 1] = ["logits"];

    fn forward<T: Float>(&self, [logits]: [Input<'_, T>; 1]) -> Result<(Vec<T>, Shape)> {
        let classes = logits.width();
        let partitions = reduce_tasks([logits.values], task_of_rows(classes), |[x]| log_partitions(x, classes));
        let losses = partitions.into_iter().flatten().zip(logits.values.chunks_exact(classes)).zip(&self.labels);
        let sum: f64 = losses.map(|((partition, row), &label)| partition - row[label as usize].widen()).sum();
        Ok((vec![T::narrow(sum / self.labels.len() as f64)], Shape::from(())))
    }

    fn backward<T: Float>(&self, pass: Backward<'_, T, 1>) -> Result<[Gradient<T>; 1]> {
        let Backward { inputs: [logits], gradient: dloss, .. } = pass;
        let mut gradient = logits.values.to_vec();
        let scale = T::narrow(dloss[0].widen() / self.labels.len() as f64);
        backward(&mut gradient, &self.labels, logits.width(), scale);
        Ok([Gradient::Values(gradient)])
    }
}

kernel! {
    /// log Σ exp of every row.
    fn log_partitions<const FMA: bool, T>(x: &[T], classes: usize) -> Vec<f64> {
        let mut partitions = Vec::with_capacity(x.len() / classes);
        for row in x.chunks_exact(classes) {
            let highest = largest(row);
            let sum = sum_of([row], #[inline(always)] |[x]| (x - highest).exp::<FMA>());
            partitions.push(sum.widen().ln() + highest.widen());
        }
        partitions
    }
}

kernel! {
    /// Replaces the logits by their gradients.
    fn backward<const FMA: bool, T>(x: &mut [T], labels: &[u32], classes: usize, scale: T) {
        for (row, &label) in x.chunks_exact_mut(classes).zip(labels) {
            let highest = largest(row);
            for x in row.iter_mut() {
                *x = (*x - highest).exp::<FMA>();
            }
            let share = scale / sum_of([&*row], |[x]| x);
            for x in row.iter_mut() {
                *x *= share;
            }
            row[label as usize] -= scale;
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

    fn targets(batch: usize, classes: usize) -> Tensor {
        let labels: Vec<u32> = (0..batch).map(|i| (i * 7 % classes) as u32).collect();
        Tensor::from_vec(labels, batch, &Device::Cpu).unwrap()
    }

    #[test]
    fn equals_the_reference() {
        for (dtype, tolerance) in DTYPES {
            for (batch, classes) in [(1, 1), (3, 10), (128, 100), (5, 1000), (40, 999), (2, 20_000)] {
                let x = variable((batch, classes), dtype, 1);
                let x = Var::from_tensor(&(x.as_tensor() * 9.0).unwrap()).unwrap();
                let t = targets(batch, classes);
                let kernel = || cross_entropy(&x, &t);
                agree("cross_entropy", std::slice::from_ref(&x), tolerance, kernel, || cross_entropy_reference(&x, &t));
            }
            let (x, t) = (variable((5, 33), dtype, 2), targets(5, 33));
            let kernel = || cross_entropy(&strided(&x), &t);
            agree("strided", std::slice::from_ref(&x), tolerance, kernel, || cross_entropy_reference(&x, &t));
        }
    }

    #[test]
    fn known_value_large_logits_and_nan() {
        let t = Tensor::new(&[0u32, 1], &Device::Cpu).unwrap();
        let loss = |x: [[f32; 2]; 2]| {
            cross_entropy(&Tensor::new(&x, &Device::Cpu).unwrap(), &t).unwrap().to_scalar::<f32>().unwrap()
        };
        assert!((loss([[0.0, 0.0], [0.0, 0.0]]) - 2f32.ln()).abs() < 1e-6);
        assert!((loss([[1e4, 0.0], [1e4, 0.0]]) - 5e3).abs() < 1e-3);
        assert!(loss([[f32::NAN, 0.0], [0.0, 0.0]]).is_nan());
    }

    #[test]
    fn bad_targets_are_named() {
        let x = variable((3, 10), DType::F32, 1);
        let t = Tensor::new(&[0u32, 10, 3], &Device::Cpu).unwrap();
        let line = cross_entropy(&x, &t).unwrap_err().to_string();
        assert!(line.contains("`targets` is 10 in row 1; expected labels from 0 to 9"), "{line}");
        let line = cross_entropy(&x, &targets(2, 10)).unwrap_err().to_string();
        assert!(line.contains("`targets` has shape [2]; expected (3)"), "{line}");
    }

    #[test]
    fn gradient_and_threads() {
        let (x, t) = (variable((4, 7), DType::F64, 3), targets(4, 7));
        testing::gradients("cross_entropy", std::slice::from_ref(&x), || cross_entropy(&x, &t), 1e-7).unwrap();
        let (x, t) = (variable((400, 100), DType::F32, 4), targets(400, 100));
        same_for_threads("cross_entropy", || {
            output_and_gradient_bits(std::slice::from_ref(&x), || cross_entropy(&x, &t))
        });
    }
}
