//! `state.json`: the state of a run, and the SHA-256 of every file of its checkpoint.
//!
//! In every version of the format, `sha256` is the SHA-256 of the other entries as compact JSON, so that damage can be
//! told from a format that this version does not know.

use super::{MODEL, OPTIMIZER, STATE};
use crate::config::RunConfig;
use crate::metrics::Tally;
use crate::results::EpochMetrics;
use crate::tensor_file::hex;
use crate::{Error, Result};
use convnn_data::{Dataset, DatasetName, Labels, Split};
use convnn_models::files::read_regular;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The version of the format that is written. Those before had no version; they are read too.
pub const FORMAT: u64 = 2;

/// The most bytes of `state.json`; a thousand epochs take 400 KB.
const BYTES: u64 = 64 << 20;

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
    /// The number of epochs that the plateau schedule does not look at, since its options were others then.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub plateau_from: usize,
    /// The configuration of the run.
    pub config: RunConfig,
    /// What was changed when the run was resumed, so that its configuration alone does not repeat it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// The names of the classes of a folder of pictures; those of other data sets are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<String>>,
    /// The training images.
    pub images: TrainingImages,
    /// The instruction set that computed the latest steps, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instruction_set: Option<String>,
}

/// Identifies the images of a run and their order.
///
/// The sources of CIFAR order the images differently, and a run can only continue with the same order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingImages {
    /// Where they come from, for messages.
    pub origin: String,
    /// SHA-256 of the training labels in order; checkpoints of the first format have nothing else.
    pub labels_sha256: String,
    /// SHA-256 of all images and labels, training before test; those for validation, if a folder
    /// has them, are in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// SHA-256 of the images and labels that are held out of the training images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out_sha256: Option<String>,
}

impl TrainingImages {
    /// Identifies the images of `data`.
    pub fn of(data: &Dataset) -> Self {
        let is_folder = data.name == DatasetName::Folder;
        let own = data.validation.as_ref().filter(|_| is_folder);
        let held_out = data.validation.as_ref().filter(|_| !is_folder);
        Self {
            origin: data.origin.clone(),
            labels_sha256: hex(&Sha256::digest(low_bytes(data.train.labels(Labels::Fine).unwrap_or_default()))),
            sha256: Some(digest_of([Some(&data.train), own, Some(&data.test)].into_iter().flatten())),
            held_out_sha256: held_out.map(|split| digest_of([split])),
        }
    }

    /// Whether both are the same images in the same order, as far as both tell.
    pub fn are(&self, other: &Self) -> bool {
        let same = |one: &Option<String>, other: &Option<String>| {
            one.as_ref().zip(other.as_ref()).is_none_or(|(one, other)| one == other)
        };
        self.labels_sha256 == other.labels_sha256
            && same(&self.sha256, &other.sha256)
            && same(&self.held_out_sha256, &other.held_out_sha256)
    }
}

/// SHA-256 of images and labels.
fn digest_of<'a>(splits: impl IntoIterator<Item = &'a Arc<Split>>) -> String {
    let mut all = Sha256::new();
    for split in splits {
        let labels = split.labels(Labels::Fine).unwrap_or_default();
        all.update((split.len() as u64).to_le_bytes());
        all.update(split.images());
        all.update(low_bytes(labels));
        // Only data sets of more than 256 classes have others.
        if labels.iter().any(|&label| label > 255) {
            all.update(labels.iter().map(|&label| (label >> 8) as u8).collect::<Vec<_>>());
        }
    }
    hex(&all.finalize())
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

fn low_bytes(labels: &[u16]) -> Vec<u8> {
    labels.iter().map(|&label| label as u8).collect()
}

/// Which formats of checkpoints are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Formats {
    /// Those that this version knows.
    #[default]
    Known,
    /// Any that can be read as one of them.
    Any,
}

/// What `state.json` holds.
pub(super) struct StateFile {
    pub(super) state: TrainState,
    /// SHA-256 of the other files, by name.
    pub(super) files: BTreeMap<String, String>,
}

impl StateFile {
    /// The text of the file.
    pub(super) fn text(&self) -> serde_json::Result<Vec<u8>> {
        let mut value = Map::new();
        value.insert("format".to_owned(), FORMAT.into());
        value.insert("state".to_owned(), serde_json::to_value(&self.state)?);
        value.insert("files".to_owned(), serde_json::to_value(&self.files)?);
        value.insert("sha256".to_owned(), digest(&Value::Object(value.clone())).into());
        serde_json::to_vec_pretty(&value)
    }

    /// Reads and checks the file of the checkpoint in `folder`.
    pub(super) fn read(folder: &Path, formats: Formats) -> Result<Self> {
        let path = folder.join(STATE);
        let damaged = |message: String| Error::Damaged { path: path.clone(), message };
        let bytes = read_regular(&path, BYTES).map_err(Error::io("read", &path))?;
        let mut value: Map<String, Value> =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        let expected = value.shift_remove("sha256");
        let covered = match value.contains_key("format") {
            true => Value::Object(value.clone()),
            false => Value::Array(value.values().cloned().collect()),
        };
        let found = digest(&covered);
        if expected.as_ref().and_then(Value::as_str) != Some(&found) {
            let expected = expected.map_or("none".to_owned(), |expected| expected.to_string());
            return Err(damaged(format!("its SHA-256 is {found}; expected {expected}")));
        }
        let format = value.get("format").map_or(Some(1), Value::as_u64);
        let forced = formats == Formats::Any;
        let other = |reason: String| Error::OtherFormat { path: path.clone(), reason, forced };
        if formats == Formats::Known && format.is_none_or(|format| format > FORMAT) {
            let format = format.map_or("unknown".to_owned(), |format| format.to_string());
            return Err(other(format!("its format is {format}, and this version reads 1 to {FORMAT}")));
        }
        let mut take = |key: &str| value.remove(key).unwrap_or_default();
        let (state, mut files) = (take("state"), take("files"));
        if format == Some(1) {
            let names = [(MODEL, "model_sha256"), (OPTIMIZER, "optimizer_sha256")];
            files = names.into_iter().map(|(name, key)| (name.to_owned(), take(key))).collect::<Map<_, _>>().into();
        }
        let unknown = |error: serde_json::Error| other(error.to_string());
        Ok(Self {
            state: serde_json::from_value(state).map_err(unknown)?,
            files: serde_json::from_value(files).map_err(unknown)?,
        })
    }

    /// The SHA-256 of the file `name`, which the checkpoint in `folder` must have.
    pub(super) fn digest_of(&self, folder: &Path, name: &str) -> Result<&str> {
        let missing = || Error::Damaged { path: folder.join(STATE), message: format!("it names no SHA-256 of {name}") };
        self.files.get(name).map(String::as_str).ok_or_else(missing)
    }
}

fn digest(value: &Value) -> String {
    hex(&Sha256::digest(value.to_string()))
}
