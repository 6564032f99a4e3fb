//! Trained weights: of a run, a checkpoint, or a weights folder.

use crate::checkpoint::{Checkpoint, Formats, STATE};
use crate::evaluated::evaluated;
use crate::run_folder::{checkpoints, holds_run, stored_config};
use crate::session::Session;
use crate::{Error, Result};
use candle_core::Tensor;
use convnn_data::{Dataset, DatasetName, Directory};
use convnn_models::ModelConfig;
use convnn_models::digests::SUMS_FILE;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The parameters and running statistics of a model, with its configuration.
#[derive(Debug)]
pub struct Weights {
    /// The folder that they were read from.
    pub origin: PathBuf,
    /// The model.
    pub config: ModelConfig,
    /// Where the run read its images from, if known.
    pub data: Option<String>,
    /// The data set of the run, if known.
    pub dataset: Option<DatasetName>,
    /// Share of the pictures of a folder that are test pictures, if it has no test part of its own.
    pub test_share: f64,
    /// The names of the classes, if known.
    pub classes: Option<Vec<String>>,
    tensors: BTreeMap<String, Tensor>,
}

impl Weights {
    /// Reads the newest checkpoint of a run folder, a checkpoint folder, or a weights folder.
    ///
    /// # Errors
    /// If `path` is none of these, or holds no valid checkpoint.
    pub fn open(path: &Path) -> Result<Self> {
        if path.join(STATE).exists() {
            return Ok(Self::from_checkpoint(Checkpoint::read(path, Formats::Known)?));
        }
        if path.join("config.json").exists() {
            let (config, tensors) = convnn_models::weights::load(path)?;
            if !path.join(SUMS_FILE).exists() {
                tracing::warn!("{} has no {SUMS_FILE}: damaged weights would not be noticed", path.display());
            }
            let classes = convnn_models::weights::classes(path)?;
            let (data, dataset, test_share) = (None, None, Directory::from(path).test_share);
            return Ok(Self { origin: path.to_owned(), config, data, dataset, test_share, classes, tensors });
        }
        let foreign = |found: &str| Error::Folder {
            folder: path.to_owned(),
            found: found.to_owned(),
            expected: "a run folder, a checkpoint folder, or a folder with model.safetensors and config.json"
                .to_owned(),
        };
        if !path.is_dir() {
            return Err(foreign("is not a folder"));
        }
        if !path.join("config.toml").exists() || !holds_run(path)? {
            return Err(foreign("holds no weights"));
        }
        // An unreadable configuration is the better message if there is no checkpoint either.
        stored_config(path)?;
        let (newest, refused) = checkpoints(path).newest(Formats::Known)?;
        for line in &refused {
            tracing::warn!("{line}");
        }
        newest.map(Self::from_checkpoint).ok_or_else(|| foreign("holds no valid checkpoint"))
    }

    /// The model with these weights.
    ///
    /// # Errors
    /// If a name or shape is not that of the model.
    pub fn session(&self) -> Result<Session> {
        let session = Session::new(&self.config, 0)?;
        session.restore(&self.tensors)?;
        Ok(session)
    }

    /// Checks that `data` has the classes that the model was trained on, in the same order.
    ///
    /// # Errors
    /// [`Error::Value`] for the first class with another name.
    pub fn check_classes(&self, data: &Dataset) -> Result<()> {
        let known = self.classes.iter().flatten();
        match known.zip(data.classes.iter()).enumerate().find(|(_, (trained, found))| trained != found) {
            None => Ok(()),
            Some((label, (trained, found))) => Err(Error::Value {
                key: format!("class {label} of {}", data.origin),
                found: format!("`{found}`"),
                expected: format!("`{trained}`, as in {}", self.origin.display()),
            }),
        }
    }

    fn from_checkpoint(checkpoint: Checkpoint) -> Self {
        let config = checkpoint.state.config;
        Self {
            origin: checkpoint.folder,
            data: Some(config.data).filter(|data| data != "search"),
            dataset: Some(config.dataset),
            test_share: config.test_share,
            classes: None,
            config: config.model,
            tensors: evaluated(checkpoint.model, checkpoint.optimizer),
        }
    }
}
