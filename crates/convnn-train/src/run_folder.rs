//! The folder of a run.
//!
//! `config.toml` is written first and `DONE` last; in between come `environment.json`, `metrics.jsonl`, TensorBoard
//! events, `checkpoints/`, `weights/` and `result.json`. A lock keeps other processes out.

use crate::checkpoint::Checkpoints;
use crate::config::{RunConfig, Sources, first_difference};
use crate::results::{EpochMetrics, RunResult};
use crate::{Error, Result};
use convnn_models::files::write_durably;
use serde::Serialize;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A run folder locked by this process.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Unlocked when closed, at the latest by the end of the process.
    _lock: File,
}

/// What to do with an unfinished run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupted {
    /// Return an error.
    Refuse,
    /// Continue it, with more epochs if the configuration asks for more.
    Resume,
}

/// What was found at the path of a run folder.
#[derive(Debug)]
pub enum Found {
    /// Nothing, or an empty folder. Nothing has been written.
    Nothing,
    /// An unfinished run with this configuration.
    Unfinished(RunFolder),
    /// A finished run with this configuration.
    Finished(RunFolder, Box<RunResult>),
}

impl RunFolder {
    /// Looks at `path` for a run with `config`. Only the lock of an existing run is written.
    ///
    /// # Errors
    /// If another process is using the run, if it has another configuration or is unfinished and not to be resumed, or if
    /// `path` is not a run folder.
    pub fn find(path: &Path, config: &RunConfig, interrupted: Interrupted) -> Result<Found> {
        if !holds_run(path)? {
            return Ok(Found::Nothing);
        }
        let folder = Self::lock(path)?;
        let stored = stored_config(path)?;
        let longer = interrupted == Interrupted::Resume && config.epochs > stored.epochs;
        ensure_same(path, &stored, config, longer)?;
        let done = fs::exists(path.join(DONE)).map_err(Error::io("read", path))?;
        match (done && !longer, interrupted) {
            (true, _) => {
                let result = folder.result()?;
                Ok(Found::Finished(folder, Box::new(result)))
            }
            (false, Interrupted::Refuse) => Err(Error::Unfinished { folder: path.to_owned() }),
            (false, Interrupted::Resume) => Ok(Found::Unfinished(folder)),
        }
    }

    /// Creates the folder if necessary, locks it, and writes the configuration.
    ///
    /// # Errors
    /// If it cannot be created, or another process was faster.
    pub fn create(path: &Path, config: &RunConfig) -> Result<Self> {
        fs::create_dir_all(path).map_err(Error::io("create", path))?;
        let folder = Self::lock(path)?;
        if holds_run(path)? {
            return Err(Error::Unfinished { folder: path.to_owned() });
        }
        folder.write_config(config)?;
        Ok(folder)
    }

    /// Prepares the run to continue: removes `DONE` and `result.json`, and writes `config`, which may have more epochs
    /// than before.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn reopen(&self, config: &RunConfig) -> Result<()> {
        for name in [DONE, RESULT] {
            let path = self.path.join(name);
            if fs::exists(&path).map_err(Error::io("read", &path))? {
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
        self.write_config(config)
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

    fn result(&self) -> Result<RunResult> {
        let path = self.path.join(RESULT);
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|error| Error::Damaged { path, message: error.to_string() })
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

    /// Locks the folder. The lock file holds the id of the process, for error messages of others.
    fn lock(path: &Path) -> Result<Self> {
        let file_path = path.join(LOCK);
        let failed = |error| Error::io("lock", &file_path)(error);
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(&file_path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut process = String::new();
                file.read_to_string(&mut process).map_err(failed)?;
                return Err(Error::InUse { folder: path.to_owned(), process: process.trim().to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(format!("{}\n", std::process::id()).as_bytes()))
            .map_err(failed)?;
        Ok(Self { path: path.to_owned(), _lock: file })
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
    Checkpoints::new(path.join("checkpoints"))
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
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
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
fn ensure_same(path: &Path, stored: &RunConfig, requested: &RunConfig, longer: bool) -> Result<()> {
    let is_sample = |config: &RunConfig| config.data == "sample";
    let mut ignored = Vec::new();
    ignored.extend(longer.then_some("epochs"));
    ignored.extend((is_sample(stored) == is_sample(requested)).then_some("data"));
    match first_difference(stored, requested, &ignored)? {
        None => Ok(()),
        Some(difference) => Err(Error::OtherConfiguration {
            folder: path.to_owned(),
            key: difference.key,
            stored: difference.first,
            requested: difference.second,
        }),
    }
}

const CONFIG: &str = "config.toml";
const METRICS: &str = "metrics.jsonl";
const RESULT: &str = "result.json";
const DONE: &str = "DONE";
const LOCK: &str = ".lock";
