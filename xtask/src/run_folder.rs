//! What the trainer leaves in a run folder.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::experiment::Settings;
use crate::files::{read_json, read_json_lines, read_toml};
use crate::plan::Run;

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

/// The results of a finished run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Record {
    /// The run's id in the plan.
    pub id: String,
    /// The command that repeats it.
    pub command: String,
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
        let record = Self {
            id: run.id.clone(),
            command: run.command(),
            result: read_json(&folder.join("result.json"))?,
            epochs: read_json_lines(&folder.join("metrics.jsonl"))?,
            environment: read_json(&folder.join("environment.json"))?,
        };
        record.check(run, &read_toml(&folder.join("config.toml"))?)?;
        Ok(record)
    }

    fn check(&self, run: &Run, config: &toml::Table) -> Result<()> {
        let result = &self.result;
        for (what, found, planned) in [
            ("preset", &result.preset, &run.base),
            ("seed", &result.seed.to_string(), &run.seed.to_string()),
            ("epochs", &result.epochs.to_string(), &run.epochs.to_string()),
        ] {
            ensure!(found == planned, "the folder holds a run with {what} = {found}; expected {planned}");
        }
        ensure!(
            self.epochs.len() == run.epochs as usize,
            "metrics.jsonl has {} lines; expected one for each of the {} epochs",
            self.epochs.len(),
            run.epochs
        );
        check_settings(&run.set, config)
    }
}

/// Checks that the configuration resolved by the trainer contains every planned setting.
fn check_settings(set: &Settings, config: &toml::Table) -> Result<()> {
    for (key, planned) in set {
        let mut parts = key.split('.');
        let first = parts.next().and_then(|part| config.get(part));
        match parts.fold(first, |table, part| table?.get(part)) {
            Some(found) if found == planned => {}
            Some(found) => bail!("the folder holds a run with {key} = {found}; expected {planned}"),
            None => bail!("the folder holds a run without `{key}` in its config.toml; expected {planned}"),
        }
    }
    Ok(())
}
