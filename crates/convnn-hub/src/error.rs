//! Errors: what went wrong, and what to do about it.

use std::io;
use std::path::PathBuf;

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of a transfer. Each prints as one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not the name of a model or a branch.
    #[error("`{found}` is not the name of {what}; expected {expected}")]
    Name {
        /// What was to be named.
        what: &'static str,
        /// The text given.
        found: String,
        /// What is accepted.
        expected: &'static str,
    },
    /// The model does not exist, or the token does not give access to it.
    #[error(
        "{endpoint} has no model {model}, or it is private; check the name and the revision, or set HF_TOKEN to a token \
         that may read it"
    )]
    Missing {
        /// The model with its revision.
        model: String,
        /// URL of the hub, without credentials.
        endpoint: String,
    },
    /// The model does not hold a file that is needed.
    #[error("{model} holds no {file}; expected the repository of a weights folder")]
    File {
        /// The model with its revision.
        model: String,
        /// The file.
        file: &'static str,
    },
    /// The hub sent an invalid response.
    #[error("{endpoint} {found} for {model}; expected {expected}")]
    Answer {
        /// URL of the hub, without credentials.
        endpoint: String,
        /// The model.
        model: String,
        /// What was found.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// A file cannot be downloaded or uploaded.
    #[error("{what} failed with {endpoint}: {reason}")]
    Transfer {
        /// What was being done.
        what: String,
        /// URL of the hub, without credentials.
        endpoint: String,
        /// Why not.
        reason: String,
    },
    /// The model is not in the cache, and connections are disabled.
    #[error("{what} and connections are disabled (HF_HUB_OFFLINE)")]
    Offline {
        /// What is missing.
        what: String,
    },
    /// Uploading needs a token.
    #[error("no token to upload with; set HF_TOKEN to one that may write (https://huggingface.co/settings/tokens)")]
    NoToken,
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Error {
    #[cfg(feature = "client")]
    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}
