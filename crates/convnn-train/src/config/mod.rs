//! The configuration of a run, which decides all its results: resolved from a preset, a file and overrides.

mod document;
mod nearest;
mod none_or;
mod sources;

pub use document::{Difference, first_difference, flat_keys, flatten};
pub use sources::{Assignment, Sources};

use crate::schedule::{LearningRate, Schedule};
use crate::{Error, Result};
use convnn_data::{Augmentation, DatasetName};
use convnn_models::{Decay, ModelConfig};
use serde::{Deserialize, Serialize};

/// A resolved configuration, as in the `config.toml` of a run folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The preset that it started from.
    pub preset: String,
    /// The data set.
    pub dataset: DatasetName,
    /// Where the images come from: `search`, `sample`, `hub`, or a folder.
    pub data: String,
    /// Seed of every random stream.
    pub seed: u64,
    /// Passes over the training images.
    pub epochs: usize,
    /// Number of images per step.
    pub batch_size: usize,
    /// How training images are augmented.
    pub augmentation: Augmentation,
    /// The optimizer.
    pub optimizer: OptimizerKind,
    /// The full learning rate.
    pub learning_rate: f64,
    /// Weight decay: decoupled for AdamW, added to the gradient for SGD, as in PyTorch.
    pub weight_decay: f64,
    /// Momentum of SGD; AdamW ignores it.
    pub momentum: f64,
    /// The norm to which the whole gradient is clipped, or `none`.
    #[serde(with = "none_or")]
    pub clip_grad_norm: Option<f64>,
    /// How the learning rate changes after the warm-up.
    pub schedule: Schedule,
    /// Number of epochs over which the learning rate rises to its full value.
    pub warmup_epochs: usize,
    /// Number of epochs between the drops of the `step` schedule.
    pub step_epochs: usize,
    /// Factor of every drop of the `step` schedule.
    pub step_factor: f64,
    /// What happens if the first step leaves a parameter untrained.
    pub audit: AuditRule,
    /// The model and the layer that it is made of.
    pub model: ModelConfig,
}

/// The kind of the optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OptimizerKind {
    /// AdamW with β₁ = 0.9, β₂ = 0.999 and ε = 1e-8.
    AdamW,
    /// Stochastic gradient descent with momentum.
    Sgd,
}

/// What happens if the first step leaves a trainable parameter without a gradient, or with one of zeros.
///
/// Some options imply this: with modulation `none`, nothing trains the projections that choose neighbors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AuditRule {
    /// The run stops and names the parameters.
    Strict,
    /// A warning names them. A gradient that is not finite still stops the run.
    Report,
}

impl RunConfig {
    /// The configuration of a preset, with the training options recommended for it.
    ///
    /// # Errors
    /// If there is no such preset; the message names the nearest one.
    pub fn from_preset(name: &str) -> Result<Self> {
        let Some(preset) = convnn_models::preset(name) else {
            let known: Vec<_> = convnn_models::presets().iter().map(|preset| preset.name.to_owned()).collect();
            return Err(Error::Value {
                key: "preset".to_owned(),
                found: format!("`{name}`"),
                expected: format!(
                    "a preset; the nearest is `{}` (`convnn info` lists all)",
                    nearest::nearest(name, &known)
                ),
            });
        };
        let training = &preset.training;
        Ok(Self {
            preset: preset.name.to_owned(),
            dataset: DatasetName::Cifar10,
            data: "search".to_owned(),
            seed: 0,
            epochs: training.epochs,
            batch_size: training.batch_size,
            augmentation: Augmentation::default(),
            optimizer: OptimizerKind::AdamW,
            learning_rate: training.learning_rate,
            weight_decay: training.weight_decay,
            momentum: 0.9,
            clip_grad_norm: Some(training.clip_grad_norm),
            schedule: match training.decay {
                Decay::Cosine => Schedule::Cosine,
                _ => Schedule::Constant,
            },
            warmup_epochs: 0,
            step_epochs: 30,
            step_factor: 0.1,
            audit: AuditRule::Strict,
            model: (preset.config)(),
        })
    }

    /// Checks the range of every value, those of the model included.
    ///
    /// # Errors
    /// [`Error::Value`] for the first key with an unusable value, or the error of the model.
    pub fn validate(&self) -> Result<()> {
        let at_least = |key: &str, value: usize, least: usize| match value >= least {
            true => Ok(()),
            false => Err(value_error(key, value, &format!("at least {least}"))),
        };
        let number = |key: &str, value: f64, holds: bool, expected: &str| match holds && value.is_finite() {
            true => Ok(()),
            false => Err(value_error(key, value, expected)),
        };
        at_least("epochs", self.epochs, 1)?;
        at_least("batch_size", self.batch_size, 1)?;
        at_least("step_epochs", self.step_epochs, 1)?;
        if i64::try_from(self.seed).is_err() {
            return Err(value_error("seed", self.seed, "at most 9223372036854775807, the largest integer in TOML"));
        }
        if self.data.is_empty() {
            return Err(value_error("data", "empty", "a folder, `sample`, `hub` or `search`"));
        }
        number("learning_rate", self.learning_rate, self.learning_rate > 0.0, "a number above 0")?;
        number("weight_decay", self.weight_decay, self.weight_decay >= 0.0, "a number from 0 up")?;
        number("momentum", self.momentum, (0.0..1.0).contains(&self.momentum), "a number from 0 to below 1")?;
        number("step_factor", self.step_factor, self.step_factor > 0.0, "a number above 0")?;
        if let Some(norm) = self.clip_grad_norm {
            number("clip_grad_norm", norm, norm > 0.0, "a number above 0, or `none`")?;
        }
        if self.warmup_epochs > self.epochs {
            let expected = format!("at most `epochs`, which is {}", self.epochs);
            return Err(value_error("warmup_epochs", self.warmup_epochs, &expected));
        }
        let classes = self.dataset.classes();
        if self.model.classes() != classes {
            let expected = format!("{classes}, the number of classes of {}", self.dataset);
            return Err(value_error("model.classes", self.model.classes(), &expected));
        }
        Ok(self.model.check()?)
    }

    /// The learning rate schedule, given the number of steps per epoch.
    pub fn learning_rate(&self, steps_per_epoch: usize) -> LearningRate {
        let steps = |epochs: usize| (epochs * steps_per_epoch) as u64;
        LearningRate {
            schedule: self.schedule,
            base: self.learning_rate,
            warmup_steps: steps(self.warmup_epochs),
            total_steps: steps(self.epochs),
            drop_steps: steps(self.step_epochs),
            drop_factor: self.step_factor,
        }
    }
}

fn value_error(key: &str, found: impl std::fmt::Display, expected: &str) -> Error {
    Error::Value { key: key.to_owned(), found: found.to_string(), expected: expected.to_owned() }
}
