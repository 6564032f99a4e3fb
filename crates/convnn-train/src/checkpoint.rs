//! Checkpoints: folders `checkpoints/epoch-NNNN/` with the model, the optimizer and the state of a run.
//!
//! A checkpoint is written aside, synced and renamed, so that it is complete or absent. `state.json` holds the SHA-256 of
//! every file, itself included, so that a run never resumes from a damaged one. The newest two and the best are kept.

use crate::config::RunConfig;
use crate::metrics::Tally;
use crate::results::{EpochMetrics, best};
use crate::tensor_file::{hex, read_verified, write};
use crate::{Error, Result};
use candle_core::Tensor;
use convnn_data::{Dataset, Labels};
use convnn_models::files::{sync_directory, write_durably};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The file of the parameters and running statistics.
pub const MODEL: &str = "model.safetensors";
/// The file of what the optimizer remembers.
pub const OPTIMIZER: &str = "optimizer.safetensors";
/// The file of everything else.
pub const STATE: &str = "state.json";

/// The state of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainState {
    /// Number of finished epochs.
    pub epoch: usize,
    /// Number of finished steps of the current epoch; 0 between epochs.
    pub batch: usize,
    /// Number of finished steps of the whole run.
    pub step: u64,
    /// Training sums of the current epoch.
    pub tally: Tally,
    /// Seconds spent on the current epoch.
    pub seconds: f64,
    /// The metrics of every finished epoch.
    pub history: Vec<EpochMetrics>,
    /// The configuration of the run.
    pub config: RunConfig,
    /// The training images.
    pub images: TrainingImages,
}

/// Identifies a set of training images and its order.
///
/// The sources of CIFAR order the images differently, and a run can only continue with the same order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingImages {
    /// Where they come from, for messages.
    pub origin: String,
    /// SHA-256 of the labels in order. The images themselves are covered by the checksums of their source.
    pub labels_sha256: String,
}

impl TrainingImages {
    /// Identifies the training images of `data`.
    pub fn of(data: &Dataset) -> Self {
        let labels = data.train.labels(Labels::Fine).unwrap_or_default();
        // The lower bytes: there were no others in the first version, and their digest remains comparable.
        let labels: Vec<u8> = labels.iter().map(|&label| label as u8).collect();
        Self { origin: data.origin.clone(), labels_sha256: hex(&Sha256::digest(labels)) }
    }
}

/// A checkpoint that was read and verified.
#[derive(Debug)]
pub struct Checkpoint {
    /// Its folder.
    pub folder: PathBuf,
    /// The state of the run.
    pub state: TrainState,
    /// The parameters and running statistics by name.
    pub model: BTreeMap<String, Tensor>,
    /// What the optimizer remembers, by name.
    pub optimizer: BTreeMap<String, Tensor>,
    /// SHA-256 of the model file.
    pub model_sha256: String,
}

/// The `checkpoints` folder of a run.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
}

/// `state.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile {
    state: TrainState,
    model_sha256: String,
    optimizer_sha256: String,
    /// SHA-256 of the other entries as compact JSON.
    sha256: String,
}

impl StateFile {
    fn digest(&self) -> serde_json::Result<String> {
        let text = serde_json::to_string(&(&self.state, &self.model_sha256, &self.optimizer_sha256))?;
        Ok(hex(&Sha256::digest(text)))
    }
}

impl Checkpoints {
    /// The checkpoints in `folder`, which may not exist yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Saves a checkpoint and removes those that are no longer kept; returns the SHA-256 of the model file.
    ///
    /// # Errors
    /// If it cannot be written; earlier checkpoints are then unchanged.
    pub fn save(
        &self,
        state: &TrainState,
        model: &[(String, Tensor)],
        optimizer: &[(String, Tensor)],
    ) -> Result<String> {
        fs::create_dir_all(&self.folder).map_err(Error::io("create", &self.folder))?;
        self.sweep()?;
        let aside = self.folder.join(format!("{SAVING}{}", name(state.epoch, state.batch)));
        let written = write_aside(&aside, state, model, optimizer).and_then(|sha256| {
            let path = self.folder.join(name(state.epoch, state.batch));
            self.discard(&path)?;
            fs::rename(&aside, &path).map_err(Error::io("rename", &aside))?;
            sync_directory(&self.folder).map_err(Error::io("sync", &self.folder))?;
            Ok(sha256)
        });
        if written.is_err() {
            // The first error is the one to report; leftovers are removed before the next save.
            let _ = fs::remove_dir_all(&aside);
            return written;
        }
        self.prune(&state.history)?;
        written
    }

    /// The newest valid checkpoint, and one line for each newer one that is damaged.
    ///
    /// # Errors
    /// If the folder cannot be listed.
    pub fn newest(&self) -> Result<(Option<Checkpoint>, Vec<String>)> {
        let mut refused = Vec::new();
        for (_, folder) in self.list()?.into_iter().rev() {
            match Checkpoint::read(&folder) {
                Ok(checkpoint) => return Ok((Some(checkpoint), refused)),
                Err(error) => refused.push(format!("checkpoint refused: {error}")),
            }
        }
        Ok((None, refused))
    }

    /// The folder of the checkpoint after `epoch` epochs.
    fn of_epoch(&self, epoch: usize) -> PathBuf {
        self.folder.join(name(epoch, 0))
    }

    /// Checkpoints with their (epoch, batch), oldest first.
    fn list(&self) -> Result<Vec<((usize, usize), PathBuf)>> {
        let mut found = Vec::new();
        for path in entries(&self.folder)? {
            found.extend(position(&path).map(|position| (position, path)));
        }
        found.sort();
        Ok(found)
    }

    /// Removes all but the newest two and the best.
    fn prune(&self, history: &[EpochMetrics]) -> Result<()> {
        let best = best(history).map(|metrics| self.of_epoch(metrics.epoch));
        let list = self.list()?;
        let old = list.len().saturating_sub(2);
        for (_, path) in list.into_iter().take(old).filter(|(_, path)| Some(path) != best.as_ref()) {
            self.discard(&path)?;
        }
        Ok(())
    }

    /// Removes a checkpoint; it is complete or absent at any moment.
    fn discard(&self, path: &Path) -> Result<()> {
        let Some(name) = path.file_name().filter(|_| path.exists()) else { return Ok(()) };
        let aside = self.folder.join(format!("{OLD}{}", name.to_string_lossy()));
        fs::rename(path, &aside).map_err(Error::io("rename", path))?;
        fs::remove_dir_all(&aside).map_err(Error::io("remove", &aside))
    }

    /// Removes what interrupted saves and removals left behind.
    fn sweep(&self) -> Result<()> {
        for path in entries(&self.folder)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(SAVING) || name.starts_with(OLD) {
                fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
            }
        }
        Ok(())
    }
}

impl Checkpoint {
    /// Reads and verifies the checkpoint in `folder`.
    ///
    /// # Errors
    /// If a file is missing or damaged.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(STATE);
        let damaged = |message: String| Error::Damaged { path: path.clone(), message };
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        let file: StateFile = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        let digest = file.digest().map_err(|error| damaged(error.to_string()))?;
        if digest != file.sha256 {
            return Err(damaged(format!("SHA-256 is {digest}; expected {}", file.sha256)));
        }
        if position(folder).is_some_and(|position| position != (file.state.epoch, file.state.batch)) {
            return Err(damaged(format!("it belongs to {}", name(file.state.epoch, file.state.batch))));
        }
        Ok(Self {
            folder: folder.to_owned(),
            model: read_verified(&folder.join(MODEL), &file.model_sha256)?,
            optimizer: read_verified(&folder.join(OPTIMIZER), &file.optimizer_sha256)?,
            model_sha256: file.model_sha256,
            state: file.state,
        })
    }
}

/// Prefix of a checkpoint being written.
const SAVING: &str = ".saving-";
/// Prefix of a checkpoint being removed.
const OLD: &str = ".old-";

fn write_aside(
    aside: &Path,
    state: &TrainState,
    model: &[(String, Tensor)],
    optimizer: &[(String, Tensor)],
) -> Result<String> {
    fs::create_dir(aside).map_err(Error::io("create", aside))?;
    let mut file = StateFile {
        state: state.clone(),
        model_sha256: write(&aside.join(MODEL), model)?,
        optimizer_sha256: write(&aside.join(OPTIMIZER), optimizer)?,
        sha256: String::new(),
    };
    let path = aside.join(STATE);
    let unwritable = |error: serde_json::Error| Error::Damaged { path: path.clone(), message: error.to_string() };
    file.sha256 = file.digest().map_err(unwritable)?;
    let text = serde_json::to_vec_pretty(&file).map_err(unwritable)?;
    write_durably(&path, &text).map_err(Error::io("write", &path))?;
    sync_directory(aside).map_err(Error::io("sync", aside))?;
    Ok(file.model_sha256)
}

/// `epoch-NNNN`, or `epoch-NNNN-batch-NNNNN` within the next epoch.
fn name(epoch: usize, batch: usize) -> String {
    match batch {
        0 => format!("epoch-{epoch:04}"),
        _ => format!("epoch-{epoch:04}-batch-{batch:05}"),
    }
}

/// The (epoch, batch) of a folder: the inverse of [`name`].
fn position(path: &Path) -> Option<(usize, usize)> {
    let (epoch, batch) = {
        let rest = path.file_name()?.to_str()?.strip_prefix("epoch-")?;
        rest.split_once("-batch-").unwrap_or((rest, "0"))
    };
    Some((epoch.parse().ok()?, batch.parse().ok()?))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let list = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    list().map_err(Error::io("list", folder))
}
