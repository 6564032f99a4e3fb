//! Weights folders to publish: what a run trained, with everything that is needed to use, check and repeat it.

mod card;
mod pytorch;

use crate::checkpoint::{Checkpoint, Formats};
use crate::config::RunConfig;
use crate::curves::CURVES;
use crate::import::folder::write_whole;
use crate::metrics::Tally;
use crate::progress::Progress;
use crate::results::{RunResult, best};
use crate::run_folder::{CONFIG, METRICS, checkpoints, finished, holds_run, stored_config};
use crate::statistics::wilson;
use crate::view::View;
use crate::weights::{Weights, preprocessing};
use crate::{Error, Result, images};
use candle_core::DType;
use card::Origin;
use convnn_data::DatasetName;
use convnn_models::ModelCard;
use convnn_models::files::read_regular;
use convnn_models::weights::{self, CARD_FILE, CONFIG_FILE, Files, MODEL_FILE};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file of the measured accuracy.
pub const EVALUATION_FILE: &str = "evaluation.json";

/// Which weights of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Epoch {
    /// Those after the last epoch.
    #[default]
    Last,
    /// Those of the best checkpoint; without validation images the test images chose it.
    Best,
}

/// What to export.
#[derive(Clone, Debug)]
pub struct Export<'a> {
    /// The folder of a finished run.
    pub run: &'a Path,
    /// Which of its weights.
    pub epoch: Epoch,
    /// Whether to store 16 bits of a number instead of 32.
    pub half: bool,
    /// Where the test images are, instead of where the run read its images.
    pub data: Option<&'a Path>,
    /// Whether to measure the mean over every image and its mirror image as well.
    pub flips: bool,
    /// Whether to add the model as a PyTorch program, with logits to compare it with.
    pub pytorch: bool,
    /// The license of the weights, as model hubs name it.
    pub license: Option<&'a str>,
}

/// The contents of `evaluation.json`: the accuracy of the stored weights on the test images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Top-1 in percent.
    pub top1: f64,
    /// The 95 % interval of top-1 in percent.
    pub interval: [f64; 2],
    /// Top-1 in percent of the mean over every image and its mirror image, if it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top1_flips: Option<f64>,
    /// Number of test images.
    pub images: u64,
    /// The data set.
    pub dataset: DatasetName,
}

impl Export<'_> {
    /// Evaluates the weights as they will be stored, and writes them with their documents into `folder`, which must be a
    /// weights folder, empty or new.
    ///
    /// # Errors
    /// If the run is not finished, its images cannot be read, or `folder` holds something else; then nothing is written.
    pub fn write(&self, folder: &Path, progress: &Progress) -> Result<Measured> {
        let replaces = check_target(folder)?;
        let (files, measured) = self.files(progress)?;
        match replaces {
            true => weights::write(folder, &files).map(drop)?,
            false => write_whole(folder, |aside| Ok(weights::write(aside, &files).map(drop)?))?,
        }
        Ok(measured)
    }

    fn files(&self, progress: &Progress) -> Result<(Files, Measured)> {
        let (config, result) = self.run()?;
        if self.pytorch {
            pytorch::check(&config.model)?;
        }
        let checkpoint = self.checkpoint()?;
        let (epoch, trained_on) = (checkpoint.state.epoch, checkpoint.state.images.origin.clone());
        let changes = checkpoint.state.changes.clone();
        let mut weights = Weights::from_checkpoint(checkpoint);
        weights.name_classes(self.run)?;
        let named = self.data.or(weights.data.as_deref().map(Path::new));
        let data = images::open(named, config.dataset, &config.model, config.test_share)?;
        weights.check_classes(&data)?;

        let mut card = ModelCard {
            title: format!("{} on {}", config.preset, config.dataset.title()),
            preprocessing: Some(preprocessing(&config)),
            labels: weights.labels.clone().unwrap_or_else(|| data.classes.to_vec()),
            license: self.license.map(str::to_owned),
            ..ModelCard::default()
        };
        let dtype = if self.half { DType::F16 } else { DType::F32 };
        let mut files = weights::encode(&config.model, weights.tensors().clone(), &card, dtype)?;
        let rounded = weights::decode(self.run, &files[CONFIG_FILE], &files[MODEL_FILE])?;
        let session = Weights::stored(self.run.to_owned(), rounded.clone()).session()?;
        let loader = session.test_loader_for(&weights, &data, 100)?;
        let evaluate = |view: View| {
            progress.begin("evaluating".to_owned(), loader.images(), 0, 0);
            let tally = session.predict(&loader, view, |tally, _, _| {
                progress.step(tally);
                Ok(true)
            });
            progress.finish();
            Ok::<Tally, Error>(tally?.unwrap_or_default())
        };
        let tally = evaluate(View::Image)?;
        let flips = if self.flips { Some(evaluate(View::Flips)?) } else { None };
        let (low, high) = wilson(tally.top1, tally.images).unwrap_or((0.0, 100.0));
        let measured = Measured {
            top1: tally.top1_percent(),
            interval: [low, high],
            top1_flips: flips.map(|tally| tally.top1_percent()),
            images: tally.images,
            dataset: config.dataset,
        };

        if self.pytorch {
            pytorch::add(&mut files, rounded, &session, &data)?;
        }
        for name in [METRICS, CURVES] {
            let path = self.run.join(name);
            // The curves of a run may be missing.
            if name == METRICS || path.exists() {
                files.insert(name.to_owned(), read_regular(&path, 64 << 20).map_err(Error::io("read", &path))?);
            }
        }
        let origin = Origin {
            config: &config,
            epoch,
            best: self.epoch == Epoch::Best,
            trained_on: &trained_on,
            changes: &changes,
            images: match result.train_images {
                0 => data.train.len().saturating_sub(config.holdout),
                images => images as usize,
            },
            validation_images: result.validation_images,
            half: self.half,
            pytorch: self.pytorch,
            has_curves: files.contains_key(CURVES),
        };
        card.metrics = origin.rows(&measured, flips.as_ref());
        card.sections = origin.sections(self.license)?;
        files.insert(CARD_FILE.to_owned(), card.text(&config.model)?.into_bytes());
        files.insert(CONFIG.to_owned(), published(&config).to_toml()?.into_bytes());
        let text = serde_json::to_string_pretty(&measured).map_err(convnn_models::Error::Words)? + "\n";
        files.insert(EVALUATION_FILE.to_owned(), text.into_bytes());
        Ok((files, measured))
    }

    /// The configuration and the result of the run, if it is finished.
    fn run(&self) -> Result<(RunConfig, RunResult)> {
        let wrong = |found: &str, expected: &str| Error::Folder {
            folder: self.run.to_owned(),
            found: found.to_owned(),
            expected: expected.to_owned(),
        };
        let finished_run = "the folder of a finished run";
        if !self.run.is_dir() {
            return Err(wrong("is not a folder", finished_run));
        }
        if !self.run.join(CONFIG).exists() || !holds_run(self.run)? {
            return Err(wrong("holds no run", finished_run));
        }
        let config = stored_config(self.run)?;
        match finished(self.run, &config) {
            Some(result) => Ok((config, result)),
            None if self.run.join(MODEL_FILE).exists() => Err(wrong("holds weights, not a run", finished_run)),
            None => Err(wrong("holds an unfinished run", "a finished one; `convnn train --resume` finishes it")),
        }
    }

    fn checkpoint(&self) -> Result<Checkpoint> {
        let checkpoints = checkpoints(self.run);
        let (newest, refused) = checkpoints.newest(Formats::Known)?;
        refused.iter().for_each(|line| tracing::warn!("{line}"));
        let newest = newest.ok_or_else(|| Error::Folder {
            folder: self.run.to_owned(),
            found: "holds no valid checkpoint".to_owned(),
            expected: "a run folder with its checkpoints".to_owned(),
        })?;
        match (self.epoch, best(&newest.state.history)) {
            (Epoch::Best, Some(best)) if best.epoch != newest.state.epoch => checkpoints.after(best.epoch),
            _ => Ok(newest),
        }
    }
}

/// The configuration for other machines: a folder of this one means nothing there.
fn published(config: &RunConfig) -> RunConfig {
    let data = if config.has_folder() { "search" } else { &config.data };
    RunConfig { data: data.to_owned(), ..config.clone() }
}

/// Whether `folder` is a weights folder, whose files are replaced; `false` if it is new or empty.
fn check_target(folder: &Path) -> Result<bool> {
    if folder.join(CONFIG_FILE).is_file() && folder.join(MODEL_FILE).is_file() {
        return Ok(true);
    }
    let wrong = |found: String| Error::Folder {
        folder: folder.to_owned(),
        found,
        expected: "a weights folder to replace, an empty folder, or a new one".to_owned(),
    };
    match std::fs::read_dir(folder).map(|mut entries| entries.next()) {
        Ok(None) => Ok(false),
        Ok(Some(Ok(entry))) => Err(wrong(format!("holds `{}` but no weights", entry.file_name().to_string_lossy()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Err(wrong("is not a folder".to_owned())),
        Ok(Some(Err(error))) | Err(error) => Err(Error::io("list", folder)(error)),
    }
}
