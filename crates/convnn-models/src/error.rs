//! What can go wrong with a configuration or a folder of weights.

use std::path::PathBuf;

/// The result of everything in this crate that reads a configuration or a file.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of configuration, of a weights folder, or of a layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value of the configuration is out of its range or does not fit the rest.
    #[error("`{key}` is {found}; expected {expected}")]
    Value {
        /// Table and name, such as `layer.branch_ratio`.
        key: &'static str,
        /// The value found.
        found: String,
        /// What would be accepted.
        expected: String,
    },
    /// More neighbors are asked for than a layer has candidates.
    #[error(
        "`layer.neighbors` is {neighbors}, but {layer} has only {candidates} candidates; \
         lower `layer.neighbors`, or widen `layer.candidates`, `layer.padding` or `model.image`"
    )]
    NeighborsExceedCandidates {
        /// Path of the first layer that has too few.
        layer: String,
        /// K.
        neighbors: usize,
        /// M, the token itself counted.
        candidates: usize,
    },
    /// A configuration in words that are no configuration.
    #[error("{0}")]
    Words(serde_json::Error),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of weights or its configuration is damaged.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The tensors of a file are not those of the model.
    #[error("{origin}: {}", names(missing, left_over))]
    Names {
        /// Where the tensors come from.
        origin: String,
        /// Names that the model has and the file lacks.
        missing: Vec<String>,
        /// Names that the file has and the model lacks.
        left_over: Vec<String>,
    },
    /// A tensor has another shape, or is not of a floating-point type.
    #[error("{origin}: `{name}` is {found}; expected {expected}")]
    Tensor {
        /// Where the tensor comes from.
        origin: String,
        /// Its name.
        name: String,
        /// What was found.
        found: String,
        /// What the model has.
        expected: String,
    },
    /// An error of a layer or of Candle.
    #[error(transparent)]
    Core(#[from] convnn_core::Error),
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Core(error.into())
    }
}

/// At most five names of each kind: a checkpoint of another model would otherwise fill the screen.
fn names(missing: &[String], left_over: &[String]) -> String {
    let list = |kind: &str, names: &[String]| {
        let shown = names.iter().take(5).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
        match names.len() {
            0 => None,
            n @ 1..=5 => Some(format!("{n} {kind}: {shown}")),
            n => Some(format!("{n} {kind}: {shown}, …")),
        }
    };
    let parts = [list("missing", missing), list("left over", left_over)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}
