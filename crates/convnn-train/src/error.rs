//! Errors: what can stop a run, and what to do about it.

use crate::exit::Exit;
use crate::text::bytes;
use std::io;
use std::path::{Path, PathBuf};

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the configuration, the data, a file or a computation. Each prints as one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration key or value that cannot be used, and where it comes from.
    #[error("{place}: {message}")]
    Config {
        /// `FILE:LINE`, or the argument.
        place: String,
        /// What was found and what was expected.
        message: String,
    },
    /// A value outside its range.
    #[error("`{key}` is {found}; expected {expected}")]
    Value {
        /// The key, such as `layer.neighbors`.
        key: String,
        /// The value found.
        found: String,
        /// What is accepted.
        expected: String,
    },
    /// A run or an evaluation needs more memory than there is.
    #[error(
        "{work} at batch size {batch_size} needs about {} of memory, more than {from} leaves, {}; {advice}",
        bytes(*needed), bytes(*left)
    )]
    Memory {
        /// What was to be done.
        work: &'static str,
        /// Memory needed, in bytes.
        needed: u64,
        /// The batch size asked for.
        batch_size: usize,
        /// Memory left, in bytes.
        left: u64,
        /// What limits it.
        from: &'static str,
        /// What to do.
        advice: String,
    },
    /// Another process is using the run folder.
    #[error("the run folder {} is in use by {holder}; wait for it, or choose another --out", folder.display())]
    InUse {
        /// The run folder.
        folder: PathBuf,
        /// The process that holds the lock.
        holder: String,
    },
    /// Whether another process uses the run folder cannot be told from here.
    #[error("the run folder {} may be in use: {} {found}; if nothing uses it any more, remove that file", folder.display(), lock.display())]
    Locked {
        /// The run folder.
        folder: PathBuf,
        /// The lock file.
        lock: PathBuf,
        /// What was found there.
        found: String,
    },
    /// The run folder holds a run with another configuration.
    #[error(
        "the run folder {} holds a run with another configuration: `{key}` is {stored} there and {requested} here; \
         {}choose another --out",
        folder.display(),
        match (changeable, finished) {
            (false, _) => "",
            (true, false) => "add --override to change it from here on, or ",
            (true, true) => "the run is finished: extend it with --resume, --override and a larger --epochs, or ",
        }
    )]
    OtherConfiguration {
        /// The run folder.
        folder: PathBuf,
        /// The first key that differs.
        key: String,
        /// Its value in the run folder.
        stored: String,
        /// The value requested.
        requested: String,
        /// Whether `--override` may change it.
        changeable: bool,
        /// Whether the run is finished.
        finished: bool,
    },
    /// Resuming would not continue with the same bits.
    #[error(
        "the checkpoint {} was made with another {what}: {stored} there, {requested} here; the run would not continue \
         with the same bits; add --force to go on all the same",
        folder.display()
    )]
    OtherRun {
        /// The checkpoint.
        folder: PathBuf,
        /// What differs.
        what: &'static str,
        /// What it was there.
        stored: String,
        /// What it is here.
        requested: String,
    },
    /// A checkpoint of another version of this program.
    #[error(
        "{} is of another version of convnn: {reason}; nothing was changed; use the version that wrote it{}",
        path.display(),
        if *forced { "" } else { ", or resume with `train --force`" }
    )]
    OtherFormat {
        /// Its `state.json`.
        path: PathBuf,
        /// What was found and what is read.
        reason: String,
        /// Whether it was to be read whatever its version.
        forced: bool,
    },
    /// There are checkpoints, but none is valid.
    #[error(
        "no checkpoint in {} is valid ({first}); nothing was changed; restore one from a copy, or start again with another \
         --out",
        folder.display()
    )]
    NoCheckpoint {
        /// The folder of the checkpoints.
        folder: PathBuf,
        /// What is wrong with the newest.
        first: String,
    },
    /// The run folder holds an unfinished run, and resuming it was not asked for.
    #[error("the run folder {} holds an unfinished run; add --resume to continue it, or choose another --out", folder.display())]
    Unfinished {
        /// The run folder.
        folder: PathBuf,
    },
    /// The folder is not what it should be.
    #[error("{} {found}; expected {expected}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What was found.
        found: String,
        /// What was expected, or what to do.
        expected: String,
    },
    /// The loss or the gradient is no longer finite.
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
        /// The learning rate of the step.
        learning_rate: f64,
        /// What is left on disk.
        kept: String,
    },
    /// The first step does not train some parameters.
    #[error("the first step does not train {}", .0)]
    Audit(String),
    /// Some cases differ from their golden tensors.
    #[error("{failed} of {cases} cases differ from their golden tensors")]
    Parity {
        /// Cases that differ.
        failed: usize,
        /// Cases compared.
        cases: usize,
    },
    /// A signal stopped the run after everything was saved.
    #[error("stopped by signal {signal} at step {step}; {kept}")]
    Stopped {
        /// The number of the signal.
        signal: i32,
        /// Steps done over the whole run.
        step: u64,
        /// What is left on disk, and how to continue.
        kept: String,
    },
    /// There is no room for a file on the device, or within a quota or limit.
    #[error("no space left to {action} {}: {source}; what was saved before is intact; free some space, then repeat the command (`train` with --resume)", path.display())]
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
    /// A file does not hold what it should.
    #[error("{}: {message}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        message: String,
    },
    /// A picture cannot be read.
    #[error("{name}: {source}")]
    Picture {
        /// The file.
        name: String,
        /// The cause.
        source: convnn_image::PictureError,
    },
    /// Some of several pictures cannot be read; each was named when it was met.
    #[error("{unreadable} of {pictures} pictures cannot be read; the others are done")]
    Pictures {
        /// Pictures that cannot be read.
        unreadable: usize,
        /// Pictures given.
        pictures: usize,
    },
    /// An error of an operation or layer.
    #[error(transparent)]
    Core(#[from] convnn_core::Error),
    /// An error of a model.
    #[error(transparent)]
    Models(#[from] convnn_models::Error),
    /// An error of the Hugging Face hub.
    #[error(transparent)]
    Hub(#[from] convnn_hub::Error),
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
    /// Wraps an I/O error: [`Error::NoSpace`] if there is no room, else [`Error::Io`]. `action` is a verb.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            kind if is_full(kind) => Self::NoSpace { action, path, source },
            _ => Self::Io { action, path, source },
        }
    }

    /// The same of a finished run.
    pub(crate) fn of_finished(mut self) -> Self {
        if let Self::OtherConfiguration { finished, .. } = &mut self {
            *finished = true;
        }
        self
    }

    /// How a program ends with this error.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Diverged { .. } => Exit::Diverged,
            // In a model, Candle's own words say that its tensors would be too large.
            Self::Audit(_)
            | Self::Parity { .. }
            | Self::Core(convnn_core::Error::Candle(_))
            | Self::Data(convnn_data::Error::Candle(_)) => Exit::Failure,
            Self::Stopped { signal, .. } => Exit::Signal(*signal),
            Self::NoSpace { .. } => Exit::NoSpace,
            Self::Io { source, .. }
            | Self::Models(convnn_models::Error::Io { source, .. })
            | Self::Hub(convnn_hub::Error::Io { source, .. })
            | Self::Data(convnn_data::Error::Io { source, .. }) => exit_of(source),
            Self::Hub(convnn_hub::Error::Transfer { .. } | convnn_hub::Error::Answer { .. })
            | Self::Data(convnn_data::Error::Hub { .. }) => Exit::Files,
            _ => Exit::Input,
        }
    }

    /// Whether it is an error of Candle, whose message continues with a backtrace.
    pub fn is_of_candle(&self) -> bool {
        matches!(
            self,
            Self::Core(convnn_core::Error::Candle(_))
                | Self::Models(convnn_models::Error::Core(convnn_core::Error::Candle(_)))
                | Self::Data(convnn_data::Error::Candle(_))
        )
    }

    /// The code of [`Self::exit`].
    pub fn exit_code(&self) -> u8 {
        self.exit().code()
    }
}

/// A path that cannot be used as it was given is unusable input; anything else is a failure of the device.
fn exit_of(source: &io::Error) -> Exit {
    use io::ErrorKind::{
        AlreadyExists, InvalidFilename, InvalidInput, IsADirectory, NotADirectory, NotFound, PermissionDenied,
        ReadOnlyFilesystem,
    };
    match source.kind() {
        NotFound | PermissionDenied | NotADirectory | IsADirectory | AlreadyExists | InvalidFilename | InvalidInput
        | ReadOnlyFilesystem => Exit::Input,
        kind if is_full(kind) => Exit::NoSpace,
        _ => Exit::Files,
    }
}

fn is_full(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}
