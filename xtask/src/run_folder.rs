//! What the trainer leaves in a run folder.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::files::{read_json, read_json_lines, read_toml};
use crate::plan::{Run, comparable};

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has not started.
    New,
    /// It has started but not finished.
    Interrupted,
    /// It is complete.
    Done,
}

impl State {
    /// The state of the run in `folder`.
    pub fn of(folder: &Path) -> Self {
        if folder.join("DONE").exists() {
            Self::Done
        } else if folder.join("config.toml").exists() {
            Self::Interrupted
        } else {
            Self::New
        }
    }
}

/// A finished run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Record {
    /// The run's id.
    pub id: String,
    /// The command that repeats it.
    pub command: String,
    /// Its resolved configuration.
    pub config: serde_json::Value,
    /// What it reached.
    pub result: RunResult,
    /// Its epochs, in order.
    pub epochs: Vec<Epoch>,
    /// Where it ran.
    pub environment: Environment,
}

/// The part of `environment.json` worth publishing: nothing that names a folder of the machine.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Environment {
    /// Version of the trainer.
    pub convnn: String,
    /// Version of Candle.
    pub candle: String,
    /// The device.
    pub device: String,
    /// Name of the processor.
    pub cpu: Option<String>,
    /// Number of threads.
    pub threads: usize,
    /// Operating system and architecture.
    pub system: String,
    /// The revision of the repository that the trainer was built from.
    #[serde(default)]
    pub revision: Option<String>,
    /// When the run was last started, in seconds since 1970.
    #[serde(default)]
    pub started: Option<i64>,
}

/// `result.json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RunResult {
    /// The final epoch: the headline.
    #[serde(rename = "final")]
    pub last: Scores,
    /// The mean of the last five epochs.
    pub last5: Scores,
    /// The epoch with the highest test top-1.
    pub best: Scores,
    /// Trainable parameters.
    pub params: u64,
    /// GFLOPs of one image, 2 per multiply-add.
    pub gflops: f64,
    /// Mean seconds per epoch, training and evaluation.
    pub seconds_per_epoch: f64,
    /// The trainer's preset.
    pub preset: String,
    /// The data set.
    pub dataset: String,
    /// The seed.
    pub seed: u64,
    /// Epochs trained.
    pub epochs: u32,
}

/// Test scores; accuracies in percent.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Scores {
    /// Top-1 accuracy.
    pub top1: f64,
    /// Top-5 accuracy.
    pub top5: f64,
    /// Mean cross entropy.
    pub loss: f64,
}

/// A point of a training curve: a line of `metrics.jsonl`, or a row of a published curve.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Epoch {
    /// Epoch, counted from 1.
    pub epoch: u32,
    /// Mean training loss.
    pub train_loss: f64,
    /// Test top-1 accuracy in percent.
    pub test_top1: f64,
    /// Seconds that our run took for it, training and evaluation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

impl Record {
    /// Reads the finished run in `folder`, and refuses one that is damaged or was not trained as planned.
    pub fn read(folder: &Path, run: &Run) -> Result<Self> {
        let stored: toml::Table = read_toml(&folder.join("config.toml"))?;
        let record = Self {
            id: run.id.clone(),
            command: run.settings.command(),
            config: comparable(&serde_json::to_value(stored)?, run.settings.sample),
            result: read_json(&folder.join("result.json"))?,
            epochs: read_json_lines(&folder.join("metrics.jsonl"))?,
            environment: read_json(&folder.join("environment.json"))?,
        };
        record.check(run)?;
        Ok(record)
    }

    fn check(&self, run: &Run) -> Result<()> {
        let planned = comparable(&run.config, run.settings.sample);
        if let Some(difference) = first_difference("", &self.config, &planned) {
            bail!("the folder holds another run: {difference}");
        }
        let (seed, planned) = (self.result.seed, u64::from(run.settings.seed));
        ensure!(seed == planned, "the folder holds another run: seed is {seed}; expected {planned}");
        let (found, planned) = (self.epochs.len(), run.settings.epochs as usize);
        let stopped_early = run.config["early_stopping"].is_u64() && (1..planned).contains(&found);
        ensure!(
            found == planned || stopped_early,
            "metrics.jsonl has {found} lines; expected one for each of the {planned} epochs"
        );
        Ok(())
    }
}

/// The first key with another value, in words. Numbers are compared as numbers.
pub fn first_difference(key: &str, found: &Json, planned: &Json) -> Option<String> {
    match (found, planned) {
        (Json::Object(a), Json::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            let inner = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
            let mut keys = keys.map(|name| {
                let absent = &Json::Null;
                first_difference(&inner(name), a.get(name).unwrap_or(absent), b.get(name).unwrap_or(absent))
            });
            keys.find_map(|difference| difference)
        }
        (a, b) if a == b || a.as_f64().is_some_and(|a| b.as_f64() == Some(a)) => None,
        (a, b) => Some(format!("{key} is {a}; expected {b}")),
    }
}
