//! What can stop a run, each case with the names and numbers a reader needs to mend it.

use std::io;
use std::path::{Path, PathBuf};

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of configuration, data, files or numbers. Each prints as one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration key or value that cannot be used, with the file and line or the argument it comes from.
    #[error("{place}: {message}")]
    Config {
        /// `FILE:LINE`, or the argument as given.
        place: String,
        /// What was found and what was expected.
        message: String,
    },
    /// The resolved configuration holds a value outside its range.
    #[error("`{key}` is {found}; expected {expected}")]
    Value {
        /// The key, as in `layer.neighbors`.
        key: String,
        /// The value found.
        found: String,
        /// What would be accepted.
        expected: String,
    },
    /// Another process writes to the run folder.
    #[error("the run folder {} is in use by process {process}; wait for it, or choose another --out", folder.display())]
    InUse {
        /// The run folder.
        folder: PathBuf,
        /// Identity of the process that holds the lock.
        process: String,
    },
    /// The run folder holds a run with another configuration.
    #[error(
        "the run folder {} holds a run with another configuration: `{key}` is {stored} there and {requested} here; \
         choose another --out",
        folder.display()
    )]
    OtherConfiguration {
        /// The run folder.
        folder: PathBuf,
        /// The first key that differs.
        key: String,
        /// Its value in the run folder.
        stored: String,
        /// Its value as asked for.
        requested: String,
    },
    /// The run folder holds an interrupted run, and nothing said to go on with it.
    #[error("the run folder {} holds an unfinished run; add --resume to go on with it, or choose another --out", folder.display())]
    Unfinished {
        /// The run folder.
        folder: PathBuf,
    },
    /// The folder is not one of ours.
    #[error("{} {found}; expected {expected}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What was found.
        found: String,
        /// What was expected, and what to do.
        expected: String,
    },
    /// Loss or gradients are no longer finite.
    #[error(
        "{what} is {value} at step {step} (epoch {epoch}, learning rate {learning_rate:e}): training has diverged; \
         {kept}; lower `learning_rate` or `clip_grad_norm`, or lengthen `warmup_epochs`"
    )]
    Diverged {
        /// What is not finite.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The step, counted from 0 over the whole run.
        step: u64,
        /// The epoch, counted from 1.
        epoch: usize,
        /// The learning rate of that step.
        learning_rate: f64,
        /// What remains on disk.
        kept: String,
    },
    /// Parameters that the first step does not train.
    #[error("the first step does not train {}", .0)]
    Audit(String),
    /// Golden tensors that are not reached.
    #[error("{failed} of {cases} cases differ from their golden tensors")]
    Parity {
        /// Cases that differ.
        failed: usize,
        /// Cases compared.
        cases: usize,
    },
    /// A signal asked the run to stop, and it did so with everything saved.
    #[error("stopped by signal {signal} at step {step}; {kept}")]
    Stopped {
        /// The signal's number.
        signal: i32,
        /// Steps done over the whole run.
        step: u64,
        /// What remains on disk, and how to go on.
        kept: String,
    },
    /// The device, a quota or a limit leaves no room for a file.
    #[error("no space left to {action} {}: {source}; what was saved before is intact: free some space and add --resume", path.display())]
    NoSpace {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file or folder cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file of ours does not hold what it should.
    #[error("{}: {message}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        message: String,
    },
    /// An error of the operations or layers.
    #[error(transparent)]
    Core(#[from] convnn_core::Error),
    /// An error of the models.
    #[error(transparent)]
    Models(#[from] convnn_models::Error),
    /// An error of the data.
    #[error(transparent)]
    Data(#[from] convnn_data::Error),
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Core(error.into())
    }
}

impl Error {
    /// Wraps a failure of the file system; a lack of room becomes [`Error::NoSpace`].
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::NoSpace { action, path, source }
            }
            _ => Self::Io { action, path, source },
        }
    }

    /// The exit code of a program that ends with this error: 2 for input that cannot be used, 128 plus the signal for
    /// a stop, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Diverged { .. } | Self::Audit(_) | Self::Parity { .. } => 1,
            Self::Stopped { signal, .. } => 128u8.saturating_add(u8::try_from(*signal).unwrap_or(0)),
            Self::Core(convnn_core::Error::Candle(_)) => 1,
            _ => 2,
        }
    }
}
