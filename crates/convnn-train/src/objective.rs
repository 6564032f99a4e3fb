//! What training minimizes.

use crate::Result;
use candle_core::Tensor;
use convnn_core::nn;
use serde::{Deserialize, Serialize};

/// The loss of training. Evaluations report the cross entropy in any case, so that runs can be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Loss {
    /// Cross entropy of the softmax of the logits.
    #[default]
    CrossEntropy,
    /// Mean of the squared differences between the logits and the one-hot labels.
    Mse,
}

impl Loss {
    /// The mean over a batch with logits (B, classes). The targets are labels (B), or a distribution over the classes for
    /// each image (B, classes); `smoothing` is the share of them that is spread evenly over all classes.
    ///
    /// # Errors
    /// If the shapes do not fit or a label is out of range.
    pub fn of(self, logits: &Tensor, targets: &Tensor, smoothing: f64) -> Result<Tensor> {
        Ok(match self {
            Self::CrossEntropy => nn::cross_entropy_with(logits, targets, smoothing)?,
            Self::Mse => nn::mean_squared_error(logits, targets, smoothing)?,
        })
    }
}
