//! Everything an evaluation tells: accuracy by class, confusions, calibration.

use crate::metrics::Tally;
use crate::statistics::{Calibration, wilson};
use crate::{Error, Result};
use candle_core::{D, DType, Tensor};
use convnn_chart::{Matrix, Medium, matrix};
use std::path::Path;

/// What a model answers on a set of images.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Accuracy and loss.
    pub tally: Tally,
    /// `confusion[true][predicted]`, in images.
    pub confusion: Vec<Vec<u64>>,
    calibration: Calibration,
}

/// How well one class is recognised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassScore {
    /// Images of the class.
    pub images: u64,
    /// Images of the class that were recognised.
    pub right: u64,
    /// Images that were taken for the class.
    pub predicted: u64,
    /// The class that it is most often taken for, with the number of images; `None` if it is always recognised.
    pub confused_with: Option<(usize, u64)>,
}

impl Evaluation {
    /// Of a model with `classes` classes, without images yet.
    pub fn new(classes: usize) -> Self {
        Self {
            tally: Tally::default(),
            confusion: vec![vec![0; classes]; classes],
            calibration: Calibration::default(),
        }
    }

    /// Adds the answers to a batch: logits (B, classes), labels (B).
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn add(&mut self, logits: &Tensor, labels: &Tensor) -> Result<()> {
        let classes = logits.dim(D::Minus1)?;
        let logits = logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        for (row, label) in logits.chunks_exact(classes).zip(labels.to_vec1::<u32>()?) {
            // Wrong in the accuracy, but for no class.
            if row.iter().any(|logit| logit.is_nan()) {
                continue;
            }
            // Of equal logits the first counts, as in the accuracy.
            let (predicted, largest) =
                row.iter().enumerate().fold(
                    (0, f32::NEG_INFINITY),
                    |best, (class, &logit)| {
                        if logit > best.1 { (class, logit) } else { best }
                    },
                );
            let sum: f64 = row.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
            let label = label as usize;
            if let Some(count) = self.confusion.get_mut(label).and_then(|row| row.get_mut(predicted)) {
                *count += 1;
            }
            self.calibration.add(1.0 / sum, predicted == label);
        }
        Ok(())
    }

    /// Expected calibration error in percent, over 15 bins.
    pub fn calibration_percent(&self) -> f64 {
        100.0 * self.calibration.error()
    }

    /// The 95 % interval of top-1 in percent; `None` without images.
    pub fn interval(&self) -> Option<(f64, f64)> {
        wilson(self.tally.top1, self.tally.images)
    }

    /// The score of every class.
    pub fn classes(&self) -> Vec<ClassScore> {
        let score = |(class, row): (usize, &Vec<u64>)| {
            let others = row.iter().copied().enumerate().filter(|&(other, count)| other != class && count > 0);
            ClassScore {
                images: row.iter().sum(),
                right: row[class],
                predicted: self.confusion.iter().map(|row| row[class]).sum(),
                confused_with: others.reduce(|most, next| if next.1 > most.1 { next } else { most }),
            }
        };
        self.confusion.iter().enumerate().map(score).collect()
    }

    /// The confusions as CSV: a row per true class, a column per predicted one.
    pub fn csv(&self, names: &[String]) -> String {
        let cell = |text: &str| match text.contains([',', '"', '\n', '\r']) {
            true => format!("\"{}\"", text.replace('"', "\"\"")),
            false => text.to_owned(),
        };
        let mut text = "true class".to_owned();
        names.iter().for_each(|name| text += &format!(",{}", cell(name)));
        text.push('\n');
        for (name, row) in names.iter().zip(&self.confusion) {
            text += &cell(name);
            row.iter().for_each(|count| text += &format!(",{count}"));
            text.push('\n');
        }
        text
    }

    /// The confusions as a picture.
    ///
    /// # Errors
    /// If it cannot be drawn.
    pub fn svg(&self, names: &[String], title: &str) -> Result<String> {
        let failed = |error: convnn_chart::Error| Error::Damaged {
            path: Path::new("confusion matrix").to_owned(),
            message: error.to_string(),
        };
        matrix(&Matrix { title, classes: names, counts: &self.confusion }, Medium::File).map_err(failed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn evaluation() -> Evaluation {
        let mut evaluation = Evaluation::new(3);
        let logits = [[9f32, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 9.0, 0.0], [1.0, 1.0, 1.0]];
        let labels = Tensor::new(&[0u32, 1, 0, 2], &Device::Cpu).unwrap();
        evaluation.add(&Tensor::new(&logits, &Device::Cpu).unwrap(), &labels).unwrap();
        evaluation
    }

    #[test]
    fn confusions_and_classes() {
        let found = evaluation();
        assert_eq!(found.confusion, [[1, 1, 0], [0, 1, 0], [1, 0, 0]]);
        let classes = found.classes();
        let expected = ClassScore { images: 2, right: 1, predicted: 2, confused_with: Some((1, 1)) };
        assert_eq!(classes[0], expected);
        assert_eq!((classes[1].confused_with, classes[2].right), (None, 0));
        // Three answers near 1, two of them right, and one at 1/3 that is wrong: (1 + 1/3) / 4.
        assert!(
            (found.calibration_percent() - 100.0 * (4.0 / 3.0) / 4.0).abs() < 0.1,
            "{}",
            found.calibration_percent()
        );
    }

    #[test]
    fn names_are_quoted_in_csv() {
        let names = ["cat", "a, \"b\"", "dog"].map(str::to_owned);
        let lines = "true class,cat,\"a, \"\"b\"\"\",dog\ncat,1,1,0\n\"a, \"\"b\"\"\",0,1,0\ndog,1,0,0\n";
        assert_eq!(evaluation().csv(&names), lines);
    }
}
