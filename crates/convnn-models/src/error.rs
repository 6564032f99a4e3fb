//! Errors, and the checks that raise them.

use crate::limits;
use candle_nn::VarBuilder;
use std::path::PathBuf;

/// Result of reading a configuration, a file of weights, or of building a model.
pub type Result<T> = std::result::Result<T, Error>;

/// An error in a configuration, a folder of weights, or a layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option of the model is out of range or does not fit the others.
    #[error("`{key}` is {found}; expected {expected}")]
    Value {
        /// Table and name, such as `model.classes`.
        key: &'static str,
        /// The value found.
        found: String,
        /// What would be accepted.
        expected: String,
    },
    /// JSON that is not a valid configuration.
    #[error("{0}")]
    Words(serde_json::Error),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file of weights or its configuration cannot be understood.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file has other tensors than the model.
    #[error("{origin}: {}", names(missing, unexpected))]
    Names {
        /// Where the tensors come from.
        origin: String,
        /// Names in the model but not in the file.
        missing: Vec<String>,
        /// Names in the file but not in the model.
        unexpected: Vec<String>,
    },
    /// A tensor has another shape than the model's, or is not floating-point.
    #[error("{origin}: `{name}` is {found}; expected {expected}")]
    Tensor {
        /// Where the tensor comes from.
        origin: String,
        /// Its name.
        name: String,
        /// What was found.
        found: String,
        /// What the model expects.
        expected: String,
    },
    /// A model cannot be downloaded from the hub.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(#[from] convnn_hub::Error),
    /// An error in a layer or in Candle.
    #[error(transparent)]
    Core(#[from] convnn_core::Error),
}

impl Error {
    /// The configuration key that the error is about, such as `layer.neighbors`.
    pub fn key(&self) -> Option<String> {
        match self {
            Self::Value { key, .. } => Some((*key).to_owned()),
            Self::Core(convnn_core::Error::Option { option, .. }) => Some(format!("layer.{option}")),
            Self::Core(convnn_core::Error::NeighborsExceedCandidates { .. }) => Some("layer.neighbors".to_owned()),
            _ => None,
        }
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Core(error.into())
    }
}

/// Lists at most five names of each kind: a checkpoint of another model would fill the screen.
fn names(missing: &[String], unexpected: &[String]) -> String {
    let list = |kind: &str, names: &[String]| {
        let shown = names.iter().take(5).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
        match names.len() {
            0 => None,
            n @ 1..=5 => Some(format!("{n} {kind}: {shown}")),
            n => Some(format!("{n} {kind}: {shown}, …")),
        }
    };
    let parts = [list("missing", missing), list("unexpected", unexpected)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// Fails with [`Error::Value`] unless `holds`.
pub(crate) fn ensure(holds: bool, key: &'static str, found: impl ToString, expected: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Value { key, found: found.to_string(), expected: expected.to_owned() }) }
}

/// Fails unless `n` is from `least` to `most`, with the bound that it misses.
pub(crate) fn within(key: &'static str, n: usize, least: usize, most: usize) -> Result<()> {
    ensure((least..=most).contains(&n), key, n, &bound(n, least, most))
}

/// The same for an option of a layer.
pub(crate) fn within_option(
    n: usize,
    least: usize,
    most: usize,
    vb: &VarBuilder,
    kind: &str,
    option: &'static str,
) -> convnn_core::Result<()> {
    ensure_option((least..=most).contains(&n), vb, kind, option, n, bound(n, least, most))
}

fn bound(n: usize, least: usize, most: usize) -> String {
    if n < least { format!("at least {least}") } else { format!("at most {most}") }
}

pub(crate) fn dropout(key: &'static str, p: f64) -> Result<()> {
    ensure((0.0..1.0).contains(&p), key, p, "a probability from 0 to below 1")
}

pub(crate) fn gain(key: &'static str, x: f64) -> Result<()> {
    let expected = format!("a number above 0, at most {}", limits::GAIN);
    ensure(x > 0.0 && x <= limits::GAIN, key, x, &expected)
}

/// The name of a layer in messages: its path, or its kind if it is the whole model.
pub(crate) fn layer_name(vb: &VarBuilder, kind: &str) -> String {
    let path = vb.prefix();
    if path.is_empty() { kind.to_owned() } else { path }
}

/// Fails with [`convnn_core::Error::Option`] unless `holds`.
pub(crate) fn ensure_option(
    holds: bool,
    vb: &VarBuilder,
    kind: &str,
    option: &'static str,
    found: impl ToString,
    expected: impl Into<String>,
) -> convnn_core::Result<()> {
    if holds {
        return Ok(());
    }
    let (layer, found, expected) = (layer_name(vb, kind), found.to_string(), expected.into());
    Err(convnn_core::Error::Option { layer, option, found, expected })
}
