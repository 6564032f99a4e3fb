//! Trained weights: of a run, a checkpoint, or a weights folder.

use crate::checkpoint::{Checkpoint, Formats, STATE};
use crate::config::RunConfig;
use crate::evaluated::{evaluated, lacks_statistics};
use crate::hub;
use crate::run_folder::{CHECKPOINTS, checkpoints, holds_run, stored_config};
use crate::session::Session;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use convnn_data::{Dataset, DatasetName, Directory, Labels};
use convnn_models::digests::SUMS_FILE;
use convnn_models::weights::Stored;
use convnn_models::{Model, ModelConfig, Preprocessing};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The weights folder that is embedded in the program.
const EMBEDDED_CONFIG: &[u8] = include_bytes!("../embedded/config.json");
const EMBEDDED_MODEL: &[u8] = include_bytes!("../embedded/model.safetensors");

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
    /// What the model's input must look like, if known.
    pub preprocessing: Option<Preprocessing>,
    /// The names of the classes, if known.
    pub labels: Option<Vec<String>>,
    tensors: BTreeMap<String, Tensor>,
}

impl Weights {
    /// Reads the newest checkpoint of a run folder, a checkpoint folder, a weights folder, or `hub:OWNER/NAME[@REVISION]`.
    ///
    /// # Errors
    /// [`Error::Folder`] if `path` is something else or holds no valid checkpoint; those of reading and downloading.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(name) = path.to_str().and_then(|path| path.strip_prefix(hub::PREFIX)) {
            return Self::open(&hub::folder(name)?);
        }
        if path.join(STATE).exists() {
            let mut weights = Self::from_checkpoint(Checkpoint::read(path, Formats::Known)?);
            if let Some(checkpoints) = path.parent().filter(|parent| parent.ends_with(CHECKPOINTS)) {
                weights.name_classes(&checkpoints.join(".."))?;
            }
            return Ok(weights);
        }
        if path.join("config.json").exists() {
            let stored = convnn_models::weights::load(path)?;
            if !path.join(SUMS_FILE).exists() {
                tracing::warn!("{} has no {SUMS_FILE}: damaged weights would not be noticed", path.display());
            }
            let mut weights = Self::stored(path.to_owned(), stored);
            // Of a folder without a test part, the run says which pictures it did not train on.
            let run = [path, path.parent().unwrap_or(path)].into_iter().find(|run| run.join("config.toml").is_file());
            if let Some(config) = run.and_then(|run| stored_config(run).ok()) {
                weights.test_share = config.test_share;
            }
            return Ok(weights);
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
        let mut weights = newest.map(Self::from_checkpoint).ok_or_else(|| foreign("holds no valid checkpoint"))?;
        weights.name_classes(path)?;
        Ok(weights)
    }

    /// The hybrid for CIFAR-10 that is embedded in this program.
    ///
    /// # Errors
    /// Those of [`convnn_models::weights::decode`].
    pub fn embedded() -> Result<Self> {
        let origin = PathBuf::from("the built-in model");
        let stored = convnn_models::weights::decode(&origin, EMBEDDED_CONFIG, EMBEDDED_MODEL)?;
        Ok(Self { dataset: Some(DatasetName::Cifar10), ..Self::stored(origin, stored) })
    }

    /// Takes the names of the classes from the weights folder of `run`, if they are those of a folder of pictures and the
    /// checkpoint was written before it held them.
    ///
    /// # Errors
    /// Those of [`convnn_models::weights::load`].
    pub(crate) fn name_classes(&mut self, run: &Path) -> Result<()> {
        let exported = run.join("weights");
        if self.labels.is_none() && exported.join("config.json").exists() {
            self.labels = convnn_models::weights::load(&exported)?.labels;
        }
        Ok(())
    }

    /// What `stored` holds, read from `origin`.
    pub(crate) fn stored(origin: PathBuf, stored: Stored) -> Self {
        let test_share = Directory::from(&*origin).test_share;
        let Stored { config, labels, tensors, preprocessing } = stored;
        Self { origin, config, data: None, dataset: None, test_share, preprocessing, labels, tensors }
    }

    /// What the model's input must look like.
    ///
    /// # Errors
    /// [`Error::Folder`] if the weights do not say it.
    pub fn known_preprocessing(&self) -> Result<Preprocessing> {
        self.preprocessing.ok_or_else(|| Error::Folder {
            folder: self.origin.clone(),
            found: "does not say how pictures are normalized".to_owned(),
            expected: "`preprocessing` in config.json, with the keys `size`, `mean` and `sd`".to_owned(),
        })
    }

    /// The model with these weights as constants of type `dtype`.
    ///
    /// # Errors
    /// If a name or shape is not that of the model.
    pub fn model(&self, dtype: DType) -> Result<Model> {
        let vb = VarBuilder::from_tensors(self.tensors.clone().into_iter().collect(), dtype, &Device::Cpu);
        Ok(Model::new(&self.config, vb)?)
    }

    /// The tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// A session with these weights.
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
        let known = self.labels.iter().flatten();
        match known.zip(data.classes.iter()).enumerate().find(|(_, (trained, found))| trained != found) {
            None => Ok(()),
            Some((label, (trained, found))) => Err(Error::Value {
                key: format!("class {label} of {}", data.origin),
                found: format!("`{found}`"),
                expected: format!("`{trained}`, as in {}", self.origin.display()),
            }),
        }
    }

    /// What the run of a checkpoint evaluated.
    pub(crate) fn from_checkpoint(checkpoint: Checkpoint) -> Self {
        if lacks_statistics(&checkpoint) {
            tracing::warn!(
                "{}: the run was stopped within an epoch, and its running statistics do not fit the weights it would \
                 evaluate; finish it with --resume for its accuracy",
                checkpoint.folder.display()
            );
        }
        let config = checkpoint.state.config;
        let names = config.dataset.class_names(Labels::Fine);
        let known = names.map(|names| names.iter().map(|&name| name.to_owned()).collect());
        Self {
            origin: checkpoint.folder,
            preprocessing: Some(preprocessing(&config)),
            labels: known.or(checkpoint.state.classes),
            data: Some(config.data).filter(|data| data != "search"),
            dataset: Some(config.dataset),
            test_share: config.test_share,
            config: config.model,
            tensors: evaluated(checkpoint.model, checkpoint.optimizer),
        }
    }
}

/// What the input of the model of a run must look like.
pub fn preprocessing(config: &RunConfig) -> Preprocessing {
    Preprocessing::new(config.model.image_size(), config.dataset.normalization())
}
