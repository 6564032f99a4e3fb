//! Checkpoints: folders `checkpoints/epoch-NNNN/` with the model, the optimizer and the state of a run.
//!
//! A checkpoint is written aside, synced and renamed, so that it is complete or absent. `state.json` holds the SHA-256 of
//! every file, itself included, so that a run never resumes from a damaged one. The newest two that verify and the best
//! of those that do are kept, and nothing is removed before what replaces it stands.

mod state;

pub use state::{FORMAT, Formats, TrainState, TrainingImages};

use crate::results::{EpochMetrics, best};
use crate::tensor_file::{read_verified, verify, write};
use crate::{Error, Result};
use candle_core::Tensor;
use convnn_models::files::{create_folders, sync_directory, write_durably};
use convnn_models::weights::check_finite;
use state::StateFile;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The file of the parameters and running statistics.
pub const MODEL: &str = "model.safetensors";
/// The file of what the optimizer remembers.
pub const OPTIMIZER: &str = "optimizer.safetensors";
/// The file of everything else.
pub const STATE: &str = "state.json";

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

impl Checkpoints {
    /// The checkpoints in `folder`, which may not exist yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Saves a checkpoint and removes those that are no longer kept; returns the SHA-256 of the model file.
    ///
    /// # Errors
    /// If it cannot be written, or if the model holds NaN or an infinity; earlier checkpoints are then unchanged.
    pub fn save(
        &self,
        state: &TrainState,
        model: &[(String, Tensor)],
        optimizer: &[(String, Tensor)],
    ) -> Result<String> {
        for (name, tensor) in model {
            check_finite("the model, after the latest step", name, tensor)?;
        }
        create_folders(&self.folder).map_err(Error::io("create", &self.folder))?;
        let name = name(state.epoch, state.batch);
        let aside = self.folder.join(format!("{SAVING}{name}"));
        let written = remove(&aside).and_then(|()| {
            let sha256 = write_aside(&aside, state, model, optimizer)?;
            self.replace(&aside, &name)?;
            Ok(sha256)
        });
        if written.is_err() {
            // The first error is the one to report; leftovers are removed after the next save.
            let _ = fs::remove_dir_all(&aside);
            return written;
        }
        self.prune(&state.history)?;
        written
    }

    /// The newest valid checkpoint, and one line for each newer one that is damaged; `None` only if no checkpoint was ever
    /// completed.
    ///
    /// # Errors
    /// If the folder cannot be listed, if there are checkpoints but all are damaged, or if the newest that is not damaged
    /// has a format that is not among `formats`.
    pub fn newest(&self, formats: Formats) -> Result<(Option<Checkpoint>, Vec<String>)> {
        let mut refused = Vec::new();
        for (_, folder) in self.list()?.into_iter().rev() {
            match Checkpoint::read(&folder, formats) {
                Ok(checkpoint) => return Ok((Some(checkpoint), refused)),
                Err(error @ Error::OtherFormat { .. }) => return Err(error),
                Err(error) => refused.push(format!("checkpoint refused: {error}")),
            }
        }
        match refused.first() {
            None => Ok((None, refused)),
            Some(first) => Err(Error::NoCheckpoint { folder: self.folder.clone(), first: first.clone() }),
        }
    }

    /// The checkpoint after `epoch` epochs.
    ///
    /// # Errors
    /// If it is missing or damaged.
    pub fn after(&self, epoch: usize) -> Result<Checkpoint> {
        Checkpoint::read(&self.folder.join(name(epoch, 0)), Formats::Known)
    }

    /// Checkpoints with their (epoch, batch), oldest first.
    ///
    /// One that was about to be replaced counts until the new one stands.
    fn list(&self) -> Result<Vec<((usize, usize), PathBuf)>> {
        let mut found = BTreeMap::new();
        for path in entries(&self.folder)? {
            let Some(position) = position(&path) else { continue };
            if !is_old(&path) || !found.contains_key(&position) {
                found.insert(position, path);
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Gives the finished folder `aside` its name.
    fn replace(&self, aside: &Path, name: &str) -> Result<()> {
        let path = self.folder.join(name);
        if path.exists() {
            let old = self.folder.join(format!("{OLD}{name}"));
            remove(&old)?;
            fs::rename(&path, &old).map_err(Error::io("rename", &path))?;
        }
        fs::rename(aside, &path).map_err(Error::io("rename", aside))?;
        sync_directory(&self.folder).map_err(Error::io("sync", &self.folder))
    }

    /// Removes what interrupted saves and removals left behind; complete checkpoints stay.
    ///
    /// # Errors
    /// If something cannot be removed.
    pub fn sweep(&self, history: &[EpochMetrics]) -> Result<()> {
        self.remove_leftovers(&self.kept(history)?)
    }

    /// Removes all but the newest two and the best, of those that verify, and all leftovers.
    fn prune(&self, history: &[EpochMetrics]) -> Result<()> {
        let kept = self.kept(history)?;
        let old = |path: &&PathBuf| position(path).is_some() && !is_leftover(path) && !kept.contains(path);
        entries(&self.folder)?.iter().filter(old).try_for_each(|path| self.discard(path))?;
        self.remove_leftovers(&kept)
    }

    fn remove_leftovers(&self, kept: &[PathBuf]) -> Result<()> {
        let left = |path: &&PathBuf| is_leftover(path) && !kept.contains(path);
        entries(&self.folder)?.iter().filter(left).try_for_each(|path| remove(path))
    }

    /// The newest two and the best of the checkpoints that verify.
    fn kept(&self, history: &[EpochMetrics]) -> Result<Vec<PathBuf>> {
        let mut valid = self.list()?;
        valid.retain(|(_, path)| Checkpoint::verify(path).is_ok());
        let mut history = history.to_vec();
        history.retain(|metrics| valid.iter().any(|(position, _)| *position == (metrics.epoch, 0)));
        let best = best(&history).map(|metrics| (metrics.epoch, 0));
        let old = valid.len().saturating_sub(2);
        let kept =
            valid.into_iter().enumerate().filter(|(index, (position, _))| *index >= old || Some(*position) == best);
        Ok(kept.map(|(_, (_, path))| path).collect())
    }

    /// Removes a checkpoint; it is complete or absent at any moment.
    fn discard(&self, path: &Path) -> Result<()> {
        let aside = self.folder.join(format!("{OLD}{}", file_name(path)));
        remove(&aside)?;
        fs::rename(path, &aside).map_err(Error::io("rename", path))?;
        remove(&aside)
    }
}

impl Checkpoint {
    /// Reads and verifies the checkpoint in `folder`.
    ///
    /// # Errors
    /// If a file is missing or damaged, or if the format is not among `formats`.
    pub fn read(folder: &Path, formats: Formats) -> Result<Self> {
        let file = Self::state(folder, formats)?;
        let read = |name: &str| read_verified(&folder.join(name), file.digest_of(folder, name)?);
        let (model, optimizer) = (read(MODEL)?, read(OPTIMIZER)?);
        for (name, tensor) in &model {
            check_finite(&folder.join(MODEL).display().to_string(), name, tensor)?;
        }
        let model_sha256 = file.digest_of(folder, MODEL)?.to_owned();
        Ok(Self { folder: folder.to_owned(), model, optimizer, model_sha256, state: file.state })
    }

    /// Verifies the checkpoint in `folder` without keeping it in memory.
    fn verify(folder: &Path) -> Result<()> {
        let file = Self::state(folder, Formats::Known)?;
        [MODEL, OPTIMIZER].into_iter().try_for_each(|name| verify(&folder.join(name), file.digest_of(folder, name)?))
    }

    fn state(folder: &Path, formats: Formats) -> Result<StateFile> {
        let file = StateFile::read(folder, formats)?;
        let own = (file.state.epoch, file.state.batch);
        match position(folder) {
            Some(position) if position != own => {
                let message = format!("it belongs to {}", name(own.0, own.1));
                Err(Error::Damaged { path: folder.join(STATE), message })
            }
            _ => Ok(file),
        }
    }
}

/// Prefix of a checkpoint being written.
const SAVING: &str = ".saving-";
/// Prefix of a checkpoint being replaced or removed.
const OLD: &str = ".old-";

fn write_aside(
    aside: &Path,
    state: &TrainState,
    model: &[(String, Tensor)],
    optimizer: &[(String, Tensor)],
) -> Result<String> {
    fs::create_dir(aside).map_err(Error::io("create", aside))?;
    let model_sha256 = write(&aside.join(MODEL), model)?;
    let optimizer_sha256 = write(&aside.join(OPTIMIZER), optimizer)?;
    let files = [(MODEL.to_owned(), model_sha256.clone()), (OPTIMIZER.to_owned(), optimizer_sha256)].into();
    let path = aside.join(STATE);
    let unwritable = |error: serde_json::Error| Error::Damaged { path: path.clone(), message: error.to_string() };
    let text = StateFile { state: state.clone(), files }.text().map_err(unwritable)?;
    write_durably(&path, &text).map_err(Error::io("write", &path))?;
    sync_directory(aside).map_err(Error::io("sync", aside))?;
    Ok(model_sha256)
}

/// `epoch-NNNN`, or `epoch-NNNN-batch-NNNNN` within the next epoch.
pub(crate) fn name(epoch: usize, batch: usize) -> String {
    match batch {
        0 => format!("epoch-{epoch:04}"),
        _ => format!("epoch-{epoch:04}-batch-{batch:05}"),
    }
}

/// The (epoch, batch) of a folder, including one being replaced; the inverse of [`name`].
fn position(path: &Path) -> Option<(usize, usize)> {
    let (epoch, batch) = {
        let name = file_name(path);
        let rest = name.strip_prefix(OLD).unwrap_or(name).strip_prefix("epoch-")?;
        rest.split_once("-batch-").unwrap_or((rest, "0"))
    };
    Some((epoch.parse().ok()?, batch.parse().ok()?))
}

/// Whether an interrupted save or removal may have left `path` behind.
fn is_leftover(path: &Path) -> bool {
    is_old(path) || file_name(path).starts_with(SAVING)
}

fn is_old(path: &Path) -> bool {
    file_name(path).starts_with(OLD)
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Removes a folder if it exists.
fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", folder)(error)),
        _ => Ok(()),
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let list = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    list().map_err(Error::io("list", folder))
}
