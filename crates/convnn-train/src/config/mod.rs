//! The configuration of a run, which decides all its results: resolved from a preset, a file and overrides.

mod command;
mod document;
mod file;
pub mod keys;
mod nearest;
mod none_or;
pub mod reference;
pub mod schema;
mod sources;
mod value_type;
mod words;

pub use command::is_folder;
pub use document::{Difference, differences, first_difference, flat_keys, flatten};
pub use sources::{Assignment, Sources};
pub use value_type::{Bound, Choice, Field, Mismatch, Type};

use crate::objective::Loss;
use crate::schedule::{LearningRate, Schedule, ScheduleUnit};
use crate::{Error, Result};
use convnn_data::{Augmentation, DatasetName, Mix};
use convnn_models::{Decay, ModelConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A resolved configuration, as in the `config.toml` of a run folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The preset this configuration starts from.
    pub preset: String,
    /// The data set.
    pub dataset: DatasetName,
    /// Where the images come from: `search`, `sample`, `hub`, or a folder.
    #[schemars(length(min = 1))]
    pub data: String,
    /// Seed of every random stream.
    #[schemars(range(min = 0, max = i64::MAX))]
    pub seed: u64,
    /// Passes over the training images.
    #[schemars(range(min = 1, max = MOST_EPOCHS))]
    pub epochs: usize,
    /// Number of images per step.
    #[schemars(range(min = 1, max = 65_536))]
    pub batch_size: usize,
    /// How training images are augmented: `none`, `crop_flip`, or a list of steps.
    pub augmentation: Augmentation,
    /// α of mixup: the share of the other image has the beta distribution of α and α. 0 is off.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1e3))]
    pub mixup: f64,
    /// α of CutMix. 0 is off; with mixup, every batch uses one of the two.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1e3))]
    pub cutmix: f64,
    /// Share of the pictures of a folder that are test pictures, if it has no test part of its own.
    #[serde(default = "test_share")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub test_share: f64,
    /// The optimizer.
    pub optimizer: OptimizerKind,
    /// The full learning rate.
    #[schemars(extend("exclusiveMinimum" = 0.0, "maximum" = 1e30))]
    pub learning_rate: f64,
    /// Weight decay: decoupled for AdamW and Muon, added to the gradient for Adam and SGD, as in PyTorch.
    #[schemars(range(min = 0.0, max = 1e3))]
    pub weight_decay: f64,
    /// Whether weight decay also applies to parameters with one dimension: the weights of norms, and biases.
    #[serde(default = "yes")]
    pub decay_norms_and_biases: bool,
    /// Momentum of SGD and Muon; Adam and AdamW ignore it.
    #[schemars(extend("minimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub momentum: f64,
    /// Whether the momentum of SGD is Nesterov's.
    #[serde(default)]
    pub nesterov: bool,
    /// The norm to which the whole gradient is clipped, or `none`.
    #[serde(with = "none_or")]
    #[schemars(with = "f64", extend("exclusiveMinimum" = 0.0, "maximum" = 1e9, "x-none" = true))]
    pub clip_grad_norm: Option<f64>,
    /// The largest absolute value of a number in the gradient, applied after `clip_grad_norm`, or `none`.
    #[serde(with = "none_or", default)]
    #[schemars(with = "f64", extend("exclusiveMinimum" = 0.0, "maximum" = 1e9, "x-none" = true))]
    pub clip_grad_value: Option<f64>,
    /// Number of batches whose gradients are averaged in a step, as if they were one batch.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 65_536))]
    pub accumulate: usize,
    /// Share that the average of the weights keeps in every step, or `none`. With it, the average is evaluated and
    /// exported instead of the weights.
    #[serde(with = "none_or", default)]
    #[schemars(with = "f64", extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0, "x-none" = true))]
    pub ema_decay: Option<f64>,
    /// What training minimizes.
    #[serde(default)]
    pub loss: Loss,
    /// Share of the target that is spread evenly over all classes.
    #[serde(default)]
    #[schemars(extend("minimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub label_smoothing: f64,
    /// How the learning rate changes after the warm-up.
    pub schedule: Schedule,
    /// Whether the learning rate changes with every step or with every epoch.
    #[serde(default)]
    pub schedule_unit: ScheduleUnit,
    /// Number of epochs over which the learning rate rises to its full value.
    #[schemars(range(min = 0, max = MOST_EPOCHS))]
    pub warmup_epochs: usize,
    /// Number of epochs between the drops of the `step` schedule.
    #[schemars(range(min = 1, max = MOST_EPOCHS))]
    pub step_epochs: usize,
    /// Factor of every drop of the `step` schedule.
    #[schemars(extend("exclusiveMinimum" = 0.0, "maximum" = 1e3))]
    pub step_factor: f64,
    /// Number of epochs in a row without a better validation accuracy that the `plateau` schedule waits for.
    #[serde(default = "plateau_patience")]
    #[schemars(range(min = 0, max = MOST_EPOCHS))]
    pub plateau_patience: usize,
    /// Factor of every drop of the `plateau` schedule.
    #[serde(default = "plateau_factor")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub plateau_factor: f64,
    /// Training ends after this number of epochs in a row without a better validation accuracy, or never for `none`.
    #[serde(with = "none_or", default)]
    #[schemars(with = "usize", range(min = 1, max = MOST_EPOCHS), extend("x-none" = true))]
    pub early_stopping: Option<usize>,
    /// Number of training images held out for validation.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub holdout: usize,
    /// What happens if the first step leaves a parameter untrained.
    pub audit: AuditRule,
    /// The model and the layer that it is made of.
    #[schemars(flatten)]
    pub model: ModelConfig,
}

/// The kind of the optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OptimizerKind {
    /// AdamW with β₁ = 0.9, β₂ = 0.999 and ε = 1e-8.
    AdamW,
    /// Adam with the same numbers; weight decay is added to the gradient.
    Adam,
    /// Stochastic gradient descent with momentum.
    Sgd,
    /// Muon for parameters with two or more dimensions, AdamW for the rest, with the same learning rate and weight decay.
    Muon,
}

/// What happens if the first step leaves a trainable parameter without a gradient, or with one of zeros.
///
/// Some options imply this: with modulation `none`, nothing trains the projections that choose neighbors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AuditRule {
    /// The run stops and names the parameters.
    Strict,
    /// A warning names them. A gradient that is not finite still stops the run.
    Report,
}

/// The largest number of epochs.
const MOST_EPOCHS: usize = 1_000_000;

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
            mixup: 0.0,
            cutmix: 0.0,
            test_share: test_share(),
            optimizer: OptimizerKind::AdamW,
            learning_rate: training.learning_rate,
            weight_decay: training.weight_decay,
            decay_norms_and_biases: true,
            momentum: 0.9,
            nesterov: false,
            clip_grad_norm: Some(training.clip_grad_norm),
            clip_grad_value: None,
            accumulate: 1,
            ema_decay: None,
            loss: Loss::default(),
            label_smoothing: 0.0,
            schedule: match training.decay {
                Decay::Cosine => Schedule::Cosine,
                _ => Schedule::Constant,
            },
            schedule_unit: ScheduleUnit::default(),
            warmup_epochs: 0,
            step_epochs: 30,
            step_factor: 0.1,
            plateau_patience: plateau_patience(),
            plateau_factor: plateau_factor(),
            early_stopping: None,
            holdout: 0,
            audit: AuditRule::Strict,
            model: preset.config(),
        })
    }

    /// Checks the range of every value, those of the model included.
    ///
    /// # Errors
    /// [`Error::Value`] for the first key with an unusable value, or the error of the model.
    pub fn validate(&self) -> Result<()> {
        if i64::try_from(self.seed).is_err() {
            return Err(value_error("seed", self.seed, "at most 9223372036854775807, the largest integer in TOML"));
        }
        let table = document::to_table(self)?;
        for key in &keys::keys().training {
            let Some(value) = table.get(&key.name) else { continue };
            key.of.check(value).map_err(|wrong| value_error(&key.name, wrong.found, &wrong.expected))?;
        }
        if self.nesterov && self.momentum == 0.0 {
            return Err(value_error("nesterov", true, "false, because `momentum` is 0"));
        }
        if self.warmup_epochs > self.epochs {
            let expected = format!("at most `epochs`, which is {}", self.epochs);
            return Err(value_error("warmup_epochs", self.warmup_epochs, &expected));
        }
        self.augmentation.check()?;
        self.mix().check()?;
        // How many classes a folder has is checked when it is read.
        if let Some(classes) = self.dataset.classes().filter(|classes| *classes != self.model.classes()) {
            let expected = format!("{classes}, the number of classes of {}", self.dataset);
            return Err(value_error("model.classes", self.model.classes(), &expected));
        }
        Ok(self.model.check()?)
    }

    /// How the images of a batch are mixed.
    pub fn mix(&self) -> Mix {
        Mix { mixup: self.mixup, cutmix: self.cutmix }
    }

    /// Checks that there are validation images if they are needed: the test images must choose neither the rate nor the end.
    ///
    /// # Errors
    /// [`Error::Value`] for `early_stopping` or `schedule`.
    pub fn check_validation(&self, has_images: bool) -> Result<()> {
        let needs = "validation images (set `holdout`), because test images must not be used for tuning";
        let fails = |key: &str, found: &str| match has_images {
            true => Ok(()),
            false => Err(value_error(key, format!("{found} without validation images"), needs)),
        };
        if let Some(patience) = self.early_stopping {
            fails("early_stopping", &patience.to_string())?;
        }
        if self.schedule == Schedule::Plateau {
            fails("schedule", "plateau")?;
        }
        Ok(())
    }

    /// The batch size for `images` training images, if the user asks for none: that of the preset, or as many images fewer
    /// as make 32 steps of an epoch, but not fewer than 16. With larger batches, a small data set gives too few steps.
    pub fn batch_size_for(&self, images: usize) -> usize {
        let mut size = self.batch_size;
        while size > 16 && images.div_ceil(size) < 32 {
            size = (size / 2).max(16);
        }
        size
    }

    /// The learning rate schedule, given the number of steps per epoch.
    pub fn learning_rate(&self, steps_per_epoch: usize) -> LearningRate {
        let (unit_steps, units_per_epoch) = match self.schedule_unit {
            ScheduleUnit::Step => (1, steps_per_epoch),
            ScheduleUnit::Epoch => (steps_per_epoch, 1),
        };
        let units = |epochs: usize| (epochs * units_per_epoch) as u64;
        LearningRate {
            schedule: self.schedule,
            base: self.learning_rate,
            unit_steps: unit_steps as u64,
            warmup: units(self.warmup_epochs),
            total: units(self.epochs),
            drop_every: units(self.step_epochs),
            drop_factor: match self.schedule {
                Schedule::Plateau => self.plateau_factor,
                _ => self.step_factor,
            },
            plateau_drops: 0,
        }
    }
}

const fn test_share() -> f64 {
    0.2
}

const fn yes() -> bool {
    true
}

const fn one() -> usize {
    1
}

const fn plateau_patience() -> usize {
    5
}

const fn plateau_factor() -> f64 {
    0.1
}

fn value_error(key: &str, found: impl std::fmt::Display, expected: &str) -> Error {
    Error::Value { key: key.to_owned(), found: found.to_string(), expected: expected.to_owned() }
}
