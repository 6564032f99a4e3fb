//! The folder of a run.
//!
//! `config.toml` is written first and `DONE` last; in between come `environment.json`, `metrics.jsonl`, TensorBoard
//! events, `checkpoints/`, `weights/` and `result.json`. A lock keeps other processes out.

use crate::checkpoint::{Checkpoints, Formats};
use crate::config::{Difference, RunConfig, Sources, first_difference};
use crate::lock::{LOCK, Lock};
use crate::results::{EpochMetrics, RunResult};
use crate::{Error, Result};
use convnn_models::files::{create_folders, sync_directory, write_durably};
use serde::Serialize;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// A run folder locked by this process.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// The folders made for it, outermost first; `None` if it held a run before.
    created: Option<Vec<PathBuf>>,
    _lock: Lock,
}

/// What to do with an unfinished run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupted {
    /// Return an error.
    Refuse,
    /// Continue it, with more epochs if the configuration asks for more.
    Resume(Allowed),
}

/// What may differ when a run is continued, besides the number of epochs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Whether the keys in [`CHANGEABLE`] may have other values from here on.
    pub override_keys: bool,
    /// Whether the run may go on with other images, on another instruction set, or from a checkpoint of another format;
    /// its bits are then not those of an uninterrupted run.
    pub force: bool,
}

/// The keys that may change when a run is continued: the learning rate and its schedule.
pub const CHANGEABLE: [&str; 8] = [
    "learning_rate",
    "schedule",
    "schedule_unit",
    "warmup_epochs",
    "step_epochs",
    "step_factor",
    "plateau_patience",
    "plateau_factor",
];

/// What was found at the path of a run folder.
#[derive(Debug)]
pub enum Found {
    /// Nothing, or an empty folder. Nothing has been written.
    Nothing,
    /// An unfinished run with this configuration.
    Unfinished(RunFolder),
    /// A finished run with this configuration; nothing has been written.
    Finished(Box<RunResult>),
}

impl Allowed {
    /// The keys that may differ between the stored configuration and that of the run.
    pub fn keys(self) -> &'static [&'static str] {
        if self.override_keys { &CHANGEABLE } else { &[] }
    }

    /// The formats of checkpoints that may be read.
    pub fn formats(self) -> Formats {
        if self.force { Formats::Any } else { Formats::Known }
    }
}

impl RunFolder {
    /// Looks at `path` for a run with `config`. Only the lock of an unfinished run is written.
    ///
    /// # Errors
    /// If another process is using the run, if it has another configuration or is unfinished and not to be resumed, or if
    /// `path` is not a run folder.
    pub fn find(path: &Path, config: &RunConfig, interrupted: Interrupted) -> Result<Found> {
        if !holds_run(path)? {
            return Ok(Found::Nothing);
        }
        let stored = stored_config(path)?;
        let (resume, allowed) = match interrupted {
            Interrupted::Refuse => (false, Allowed::default()),
            Interrupted::Resume(allowed) => (true, allowed),
        };
        let longer = resume && config.epochs > stored.epochs;
        if let Some(result) = finished(path, &stored).filter(|_| !longer) {
            // No step is left that another learning rate could change.
            let same = ensure_same(path, &stored, config, longer, Allowed { override_keys: false, ..allowed });
            same.map_err(|error| error.of_finished())?;
            return Ok(Found::Finished(Box::new(result)));
        }
        let lock = Lock::take(path)?;
        ensure_same(path, &stored, config, longer, allowed)?;
        if !resume {
            return Err(Error::Unfinished { folder: path.to_owned() });
        }
        Ok(Found::Unfinished(Self { path: path.to_owned(), created: None, _lock: lock }))
    }

    /// Creates the folder if necessary, locks it, and writes the configuration.
    ///
    /// # Errors
    /// If it cannot be created, or another process was faster.
    pub fn create(path: &Path, config: &RunConfig) -> Result<Self> {
        let created = create_folders(path).map_err(Error::io("create", path))?;
        let folder = Self { path: path.to_owned(), _lock: Lock::take(path)?, created: Some(created) };
        if holds_run(path)? {
            return Err(Error::Unfinished { folder: path.to_owned() });
        }
        folder.write_config(config).inspect_err(|_| folder.abandon())?;
        Ok(folder)
    }

    /// Creates the first of `runs/PRESET-1`, `runs/PRESET-2`, … that does not exist.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create_numbered(runs: &Path, config: &RunConfig) -> Result<Self> {
        let mut created = create_folders(runs).map_err(Error::io("create", runs))?;
        let mut numbers = 1..;
        let path = loop {
            let number: u64 = numbers.next().unwrap_or(u64::MAX);
            let path = runs.join(format!("{}-{number}", config.preset));
            match fs::create_dir(&path) {
                Ok(()) => break path,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io("create", &path)(error)),
            }
        };
        sync_directory(runs).map_err(Error::io("sync", runs))?;
        created.push(path.clone());
        let folder = Self { _lock: Lock::take(&path)?, path, created: Some(created) };
        folder.write_config(config).inspect_err(|_| folder.abandon())?;
        Ok(folder)
    }

    /// Removes what was written if the run did not exist before and has no checkpoint, because it could not start.
    pub fn abandon(&self) {
        let Some(created) = &self.created else { return };
        if self.path.join(CHECKPOINTS).exists() {
            return;
        }
        // The error that ended the run is the one to report. What others put there stays.
        for name in [CONFIG, ENVIRONMENT, METRICS, LOCK] {
            let _ = fs::remove_file(self.path.join(name));
        }
        let _ = fs::remove_dir_all(self.path.join(TENSORBOARD));
        for folder in created.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }

    /// Writes `config`, which may have more epochs than before, and removes what interrupted writes left behind.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn reopen(&self, config: &RunConfig) -> Result<()> {
        self.sweep()?;
        self.write_config(config)
    }

    /// Lets `write` fill a folder aside, and then gives it `name`; an older one is removed when the new one stands.
    ///
    /// # Errors
    /// If a folder cannot be written.
    pub fn replace_folder<T>(&self, name: &str, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let [path, aside, old] =
            [name.to_owned(), format!("{SAVING}{name}"), format!("{OLD}{name}")].map(|name| self.path.join(name));
        let written = write(&aside)?;
        if path.exists() {
            fs::rename(&path, &old).map_err(Error::io("rename", &path))?;
        }
        fs::rename(&aside, &path).map_err(Error::io("rename", &aside))?;
        sync_directory(&self.path).map_err(Error::io("sync", &self.path))?;
        remove(&old)?;
        Ok(written)
    }

    /// Removes what interrupted writes left behind: hidden files with the id of a process, and hidden folders. A folder
    /// that was about to be replaced gets its name back.
    fn sweep(&self) -> Result<()> {
        let list = || fs::read_dir(&self.path)?.collect::<std::io::Result<Vec<_>>>();
        for entry in list().map_err(Error::io("list", &self.path))? {
            let (path, name) = (entry.path(), entry.file_name());
            let Some(name) = name.to_str() else { continue };
            let is_process = |end: &str| !end.is_empty() && end.bytes().all(|byte| byte.is_ascii_digit());
            let of_process = name.starts_with('.') && name.rsplit_once('.').is_some_and(|(_, end)| is_process(end));
            let replaced = name.strip_prefix(OLD).map(|name| self.path.join(name));
            match replaced {
                Some(replaced) if !replaced.exists() => {
                    fs::rename(&path, &replaced).map_err(Error::io("rename", &path))?;
                }
                _ if of_process || replaced.is_some() || name.starts_with(SAVING) => remove(&path)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The checkpoints of the run.
    pub fn checkpoints(&self) -> Checkpoints {
        checkpoints(&self.path)
    }

    /// Replaces `metrics.jsonl` by the lines of `history`: what was written after the checkpoint that a run resumes from
    /// will be written again.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn reset_metrics(&self, history: &[EpochMetrics]) -> Result<()> {
        let mut text = String::new();
        for metrics in history {
            text += &self.json(METRICS, metrics, serde_json::to_string)?;
            text.push('\n');
        }
        self.write(METRICS, text.as_bytes())
    }

    /// Appends a line to `metrics.jsonl`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn append_metrics(&self, metrics: &EpochMetrics) -> Result<()> {
        let path = self.path.join(METRICS);
        let line = self.json(METRICS, metrics, serde_json::to_string)? + "\n";
        let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io("open", &path))?;
        file.write_all(line.as_bytes()).and_then(|()| file.sync_data()).map_err(Error::io("write", &path))
    }

    /// Writes a JSON file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let text = self.json(name, value, serde_json::to_string_pretty)? + "\n";
        self.write(name, text.as_bytes())
    }

    /// Writes `result.json`, then `DONE`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn finish(&self, result: &RunResult) -> Result<()> {
        self.write_json(RESULT, result)?;
        self.write(DONE, b"")
    }

    fn write_config(&self, config: &RunConfig) -> Result<()> {
        self.write(CONFIG, config.to_toml()?.as_bytes())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        write_durably(&path, bytes).map_err(Error::io("write", &path))
    }

    fn json<T>(&self, name: &str, value: T, write: fn(&T) -> serde_json::Result<String>) -> Result<String> {
        write(&value).map_err(|error| Error::Damaged { path: self.path.join(name), message: error.to_string() })
    }
}

/// The result of the run at `path` if it is finished: `DONE` and `result.json` stand, for as many epochs as `config` has.
///
/// The result of a run that is being extended stays until the new one is written.
pub(crate) fn finished(path: &Path, config: &RunConfig) -> Option<RunResult> {
    let result = fs::read(path.join(RESULT)).ok().filter(|_| path.join(DONE).exists())?;
    serde_json::from_slice(&result).ok().filter(|result: &RunResult| result.epochs == config.epochs)
}

/// Removes a file or a folder if it exists.
fn remove(path: &Path) -> Result<()> {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    match if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) } {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The configuration of the run in the folder `path`.
///
/// # Errors
/// If `config.toml` cannot be read or resolved.
pub fn stored_config(path: &Path) -> Result<RunConfig> {
    Sources { file: Some(&path.join(CONFIG)), ..Sources::default() }.resolve()
}

/// The checkpoints of the run in the folder `path`.
pub fn checkpoints(path: &Path) -> Checkpoints {
    Checkpoints::new(path.join(CHECKPOINTS))
}

/// Whether `path` is the folder of a run; `false` if it is empty or absent.
///
/// # Errors
/// If it is not a folder, or holds something else.
pub fn holds_run(path: &Path) -> Result<bool> {
    let foreign = |found: &str| Error::Folder {
        folder: path.to_owned(),
        found: found.to_owned(),
        expected: "a run folder, an empty folder, or a new one; choose another --out".to_owned(),
    };
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::io("read", path)(error)),
        Ok(metadata) if !metadata.is_dir() => return Err(foreign("is not a folder")),
        Ok(_) => {}
    }
    if fs::exists(path.join(CONFIG)).map_err(Error::io("read", path))? {
        return Ok(true);
    }
    for entry in fs::read_dir(path).map_err(Error::io("list", path))? {
        // A run that was killed before it wrote its configuration leaves only hidden files.
        let name = entry.map_err(Error::io("list", path))?.file_name();
        if !name.to_string_lossy().starts_with('.') {
            return Err(foreign(&format!("holds `{}` but no run", name.to_string_lossy())));
        }
    }
    Ok(false)
}

/// Fails if the run at `path` has another configuration. Its images may come from another folder: resuming compares the
/// images themselves.
fn ensure_same(path: &Path, stored: &RunConfig, requested: &RunConfig, longer: bool, allowed: Allowed) -> Result<()> {
    let is_sample = |config: &RunConfig| config.data == "sample";
    let mut ignored = allowed.keys().to_vec();
    ignored.extend(longer.then_some("epochs"));
    ignored.extend((allowed.force || is_sample(stored) == is_sample(requested)).then_some("data"));
    match first_difference(stored, requested, &ignored)? {
        None => Ok(()),
        Some(difference) => Err(other_configuration(path, difference)),
    }
}

/// The error that names a key of the run in `folder` with another value.
pub(crate) fn other_configuration(folder: &Path, difference: Difference) -> Error {
    let Difference { key, first, second } = difference;
    let changeable = CHANGEABLE.contains(&key.as_str());
    let (stored, requested, finished) = (first, second, false);
    Error::OtherConfiguration { folder: folder.to_owned(), key, stored, requested, changeable, finished }
}

/// The file of the configuration.
pub(crate) const CONFIG: &str = "config.toml";
/// The file of the metrics.
pub(crate) const METRICS: &str = "metrics.jsonl";
const RESULT: &str = "result.json";
const DONE: &str = "DONE";
/// The folder of the checkpoints.
pub(crate) const CHECKPOINTS: &str = "checkpoints";
const ENVIRONMENT: &str = "environment.json";
const TENSORBOARD: &str = "tensorboard";
/// Prefix of a folder being written.
const SAVING: &str = ".saving-";
/// Prefix of a folder being replaced.
const OLD: &str = ".old-";
