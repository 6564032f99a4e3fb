//! What the trainer left in a run folder.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::experiment::Settings;
use crate::plan::Run;

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing of it is there.
    New,
    /// It began and did not finish.
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
    /// A line an epoch.
    pub epochs: Vec<Epoch>,
    /// Where it ran.
    pub environment: Environment,
}

/// What `environment.json` says that is worth keeping: nothing that names a folder of the machine.
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
    /// Threads.
    pub threads: usize,
    /// Operating system and architecture.
    pub system: String,
}

/// `result.json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RunResult {
    /// The last epoch: the headline.
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
    /// Mean seconds of an epoch, training and evaluation.
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

/// A line of `metrics.jsonl`; accuracies in percent.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Epoch {
    /// Epoch, from 1.
    pub epoch: u32,
    /// Mean training loss.
    pub train_loss: f64,
    /// Test top-1 accuracy.
    pub test_top1: f64,
    /// Seconds the epoch took.
    pub seconds: f64,
}

impl Record {
    /// Reads the finished run of `folder`, and holds it against what was planned.
    ///
    /// # Errors
    /// A missing or damaged file, or results of another configuration.
    pub fn read(folder: &Path, run: &Run) -> Result<Self> {
        let result: RunResult = json(&read(folder, "result.json")?, "result.json")?;
        let metrics = read(folder, "metrics.jsonl")?;
        let epochs = metrics.lines().map(|line| json(line, "metrics.jsonl"));
        let record = Self {
            id: run.id.clone(),
            command: run.command(),
            result,
            epochs: epochs.collect::<Result<_>>()?,
            environment: json(&read(folder, "environment.json")?, "environment.json")?,
        };
        let config = read(folder, "config.toml")?;
        record.agrees(run, &config.parse().context("config.toml")?)?;
        Ok(record)
    }

    fn agrees(&self, run: &Run, config: &toml::Table) -> Result<()> {
        let result = &self.result;
        let same = |what: &str, found: &str, planned: &str| {
            ensure!(found == planned, "the folder holds a run with {what} {found}, but {planned} is planned");
            Ok(())
        };
        same("preset", &result.preset, &run.base)?;
        same("seed", &result.seed.to_string(), &run.seed.to_string())?;
        same("epochs", &result.epochs.to_string(), &run.epochs.to_string())?;
        ensure!(
            self.epochs.len() == run.epochs as usize,
            "metrics.jsonl has {} lines, but the run has {} epochs",
            self.epochs.len(),
            run.epochs
        );
        settings_hold(&run.set, config)
    }
}

/// Every planned setting stands in the configuration that the trainer resolved.
fn settings_hold(set: &Settings, config: &toml::Table) -> Result<()> {
    for (key, planned) in set {
        let mut found = config.get(key.split('.').next().unwrap_or_default());
        for part in key.split('.').skip(1) {
            found = found.and_then(|table| table.get(part));
        }
        match found {
            Some(found) if found == planned => {}
            Some(found) => bail!("the folder holds a run with {key} = {found}, but {planned} is planned"),
            None => bail!("the folder holds a run without `{key}` in its config.toml"),
        }
    }
    Ok(())
}

fn read(folder: &Path, name: &str) -> Result<String> {
    fs::read_to_string(folder.join(name)).with_context(|| format!("cannot read {name}"))
}

fn json<T: serde::de::DeserializeOwned>(text: &str, name: &str) -> Result<T> {
    serde_json::from_str(text).with_context(|| name.to_string())
}
