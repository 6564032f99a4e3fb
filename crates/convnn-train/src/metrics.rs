//! Loss, top-1 and top-5 over a data set.

use candle_core::{D, DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::Result;

/// Sums over the images seen so far. The means are exact, not means of batch means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    /// Number of images.
    pub images: u64,
    /// Number of images whose label has the largest logit.
    pub top1: u64,
    /// Number of images whose label has one of the five largest logits.
    pub top5: u64,
    /// Sum of the losses.
    pub loss: f64,
}

impl Tally {
    /// Adds a batch: logits (B, classes), labels (B), and the mean of its losses.
    pub fn add(&mut self, logits: &Tensor, labels: &Tensor, mean_loss: f64) -> Result<()> {
        let classes = logits.dim(D::Minus1)?;
        let logits = logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let labels = labels.to_vec1::<u32>()?;
        for (row, &label) in logits.chunks_exact(classes).zip(&labels) {
            let rank = rank(row, label as usize);
            self.top1 += u64::from(rank < 1);
            self.top5 += u64::from(rank < 5);
        }
        self.images += labels.len() as u64;
        self.loss += mean_loss * labels.len() as f64;
        Ok(())
    }

    /// Mean loss.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.images.max(1) as f64
    }

    /// Top-1 accuracy in percent.
    pub fn top1_percent(&self) -> f64 {
        100.0 * self.top1 as f64 / self.images.max(1) as f64
    }

    /// Top-5 accuracy in percent.
    pub fn top5_percent(&self) -> f64 {
        100.0 * self.top5 as f64 / self.images.max(1) as f64
    }
}

/// The number of classes ranked before `label`: those with a larger logit, or with an equal logit and a lower index.
///
/// NaN ranks before every number, so that a broken model scores nothing.
fn rank(logits: &[f32], label: usize) -> usize {
    let Some(&own) = logits.get(label) else { return logits.len() };
    if own.is_nan() {
        return logits.len();
    }
    let before = |(class, &other): (usize, &f32)| other.is_nan() || other > own || (other == own && class < label);
    logits.iter().enumerate().filter(|&entry| before(entry)).count()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn ranks_with_ties_and_nan() {
        assert_eq!(rank(&[0.1, 0.9, 0.5], 1), 0);
        assert_eq!(rank(&[0.1, 0.9, 0.5], 0), 2);
        assert_eq!(rank(&[0.5, 0.5, 0.5], 0), 0);
        assert_eq!(rank(&[0.5, 0.5, 0.5], 2), 2);
        assert_eq!(rank(&[f32::NAN, 0.5], 1), 1);
        assert_eq!(rank(&[f32::NAN, 0.5], 0), 2);
        assert_eq!(rank(&[f32::NAN; 10], 0), 10);
        assert_eq!(rank(&[0.5], 7), 1);
    }

    #[test]
    fn batches_of_any_size_give_the_same_sums() {
        let logits: Vec<f32> = (0..70u32).map(|i| ((i * 37) % 11) as f32).collect();
        let labels: Vec<u32> = (0..10u32).map(|i| (i * 3) % 7).collect();
        let tally = |batch: usize| {
            let mut tally = Tally::default();
            for (x, y) in logits.chunks(batch * 7).zip(labels.chunks(batch)) {
                let x = Tensor::from_slice(x, (y.len(), 7), &Device::Cpu).unwrap();
                let y = Tensor::from_slice(y, y.len(), &Device::Cpu).unwrap();
                tally.add(&x, &y, 0.5).unwrap();
            }
            tally
        };
        assert_eq!(tally(10), tally(3));
        assert_eq!(tally(10).images, 10);
        assert!((tally(3).mean_loss() - 0.5).abs() < 1e-12);
        assert!(tally(10).top1 < tally(10).top5 && tally(10).top5 < 10);
    }
}
