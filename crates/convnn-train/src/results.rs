//! What a run reports: metrics per epoch, and a summary.

use convnn_data::DatasetName;
use serde::{Deserialize, Serialize};

/// A line of `metrics.jsonl`. Accuracies are in percent, exact over the data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochMetrics {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// Mean training loss of the steps.
    pub train_loss: f64,
    /// Training top-1 of the steps.
    pub train_top1: f64,
    /// Mean test loss.
    pub test_loss: f64,
    /// Test top-1.
    pub test_top1: f64,
    /// Test top-5.
    pub test_top5: f64,
    /// Mean loss on the images held out for validation, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
    /// Top-1 on the images held out for validation, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_top1: Option<f64>,
    /// The learning rate of the last step.
    pub learning_rate: f64,
    /// Seconds of training and evaluation.
    pub seconds: f64,
    /// Training images per second, without the evaluation.
    pub images_per_second: f64,
}

/// Test accuracy and loss of an epoch, or their means over several epochs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Top-1 in percent.
    pub top1: f64,
    /// Top-5 in percent.
    pub top5: f64,
    /// Mean loss.
    pub loss: f64,
    /// The epoch, or the last of several, counted from 1.
    pub epoch: usize,
}

/// `result.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// The last epoch: the headline result.
    #[serde(rename = "final")]
    pub last: Score,
    /// The mean of the last five epochs, or of all if there are fewer.
    pub last5: Score,
    /// The epoch with the highest validation top-1. Without validation images it is chosen by the test images, and is
    /// therefore optimistic.
    pub best: Score,
    /// Number of trainable parameters.
    pub params: usize,
    /// Billions of floating-point operations of the forward pass of one image, two per multiply-add.
    pub gflops: f64,
    /// Mean seconds per epoch, training and evaluation.
    pub seconds_per_epoch: f64,
    /// The preset that the configuration started from.
    pub preset: String,
    /// The data set.
    pub dataset: DatasetName,
    /// Where the images come from.
    pub data: String,
    /// The seed.
    pub seed: u64,
    /// Number of epochs.
    pub epochs: usize,
    /// Number of test images; 0 in results of versions that did not count them.
    #[serde(default)]
    pub test_images: u64,
    /// Number of validation images, which then choose the best epoch.
    #[serde(default)]
    pub validation_images: u64,
    /// Number of images that were trained on; 0 in results of versions that did not count them.
    #[serde(default)]
    pub train_images: u64,
    /// SHA-256 of `weights/model.safetensors`; equal runs have equal hashes.
    pub weights_sha256: String,
    /// SHA-256 of the model file of the last checkpoint.
    #[serde(default)]
    pub checkpoint_sha256: String,
}

impl EpochMetrics {
    /// The accuracy that decides which epoch is the best: validation top-1, or test top-1 without validation images.
    pub fn deciding_top1(&self) -> f64 {
        self.validation_top1.unwrap_or(self.test_top1)
    }
}

/// The epoch with the highest [`EpochMetrics::deciding_top1`], the earliest if there are several.
pub fn best(history: &[EpochMetrics]) -> Option<&EpochMetrics> {
    history.iter().reduce(|best, next| if next.deciding_top1() > best.deciding_top1() { next } else { best })
}

/// The mean score of the last `count` epochs; `None` if there is no epoch.
pub fn mean_of_last(history: &[EpochMetrics], count: usize) -> Option<Score> {
    let last = &history[history.len().saturating_sub(count)..];
    let mean = |value: fn(&EpochMetrics) -> f64| last.iter().map(value).sum::<f64>() / last.len() as f64;
    Some(Score {
        top1: mean(|m| m.test_top1),
        top5: mean(|m| m.test_top5),
        loss: mean(|m| m.test_loss),
        epoch: last.last()?.epoch,
    })
}

impl From<&EpochMetrics> for Score {
    fn from(metrics: &EpochMetrics) -> Self {
        Self { top1: metrics.test_top1, top5: metrics.test_top5, loss: metrics.test_loss, epoch: metrics.epoch }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn history(top1: &[f64]) -> Vec<EpochMetrics> {
        let epoch = |(i, &test_top1): (usize, &f64)| EpochMetrics {
            epoch: i + 1,
            train_loss: 1.0,
            train_top1: 1.0,
            test_loss: i as f64,
            test_top1,
            test_top5: 90.0,
            validation_loss: None,
            validation_top1: None,
            learning_rate: 0.1,
            seconds: 1.0,
            images_per_second: 1.0,
        };
        top1.iter().enumerate().map(epoch).collect()
    }

    #[test]
    fn the_earliest_of_equal_best_epochs() {
        assert_eq!(best(&history(&[10.0, 30.0, 30.0, 20.0])).unwrap().epoch, 2);
        assert_eq!(best(&[]), None);
    }

    #[test]
    fn validation_images_decide() {
        let mut history = history(&[10.0, 30.0, 20.0]);
        for (metrics, top1) in history.iter_mut().zip([5.0, 6.0, 7.0]) {
            metrics.validation_top1 = Some(top1);
        }
        assert_eq!(best(&history).unwrap().epoch, 3);
    }

    #[test]
    fn the_mean_of_the_last_five() {
        let score = mean_of_last(&history(&[90.0, 10.0, 20.0, 30.0, 40.0, 50.0]), 5).unwrap();
        assert_eq!((score.top1, score.loss, score.epoch), (30.0, 3.0, 6));
        assert_eq!(mean_of_last(&history(&[10.0, 20.0]), 5).unwrap().top1, 15.0);
        assert_eq!(mean_of_last(&[], 5), None);
    }
}
