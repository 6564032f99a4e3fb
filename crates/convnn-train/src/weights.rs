//! Trained weights: of a run, a checkpoint, or a weights folder.

use crate::checkpoint::{Checkpoint, Formats, STATE};
use crate::run_folder::{checkpoints, holds_run, stored_config};
use crate::session::Session;
use crate::{Error, Result};
use candle_core::Tensor;
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
            return Ok(Self { origin: path.to_owned(), config, data: None, tensors });
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

    fn from_checkpoint(checkpoint: Checkpoint) -> Self {
        let config = checkpoint.state.config;
        Self {
            origin: checkpoint.folder,
            data: Some(config.data).filter(|data| data != "search"),
            config: config.model,
            tensors: checkpoint.model,
        }
    }
}
