//! The training loop: every epoch is followed by an evaluation and a checkpoint.
//!
//! All randomness comes from streams named by epoch and step, so that a resumed run computes the same bits as one that
//! was never interrupted.

use crate::audit::audit;
use crate::checkpoint::{Checkpoint, TrainState, TrainingImages};
use crate::config::{Difference, RunConfig, first_difference, flat_keys};
use crate::curves;
use crate::environment::Environment;
use crate::metrics::Tally;
use crate::optimizer::Optimizer;
use crate::progress::Progress;
use crate::results::{EpochMetrics, RunResult, Score, best, mean_of_last};
use crate::run_folder::RunFolder;
use crate::schedule::LearningRate;
use crate::session::Session;
use crate::stop::StopRequest;
use crate::tensorboard::EventFile;
use crate::{Error, Result};
use convnn_core::{Pass, backward, nn};
use convnn_data::{Batch, Dataset, Loader};
use convnn_models::ModelCard;
use std::path::Path;
use std::time::{Instant, SystemTime};

/// A run: the configuration, the data, and the folder.
pub struct Run<'a> {
    /// The configuration.
    pub config: &'a RunConfig,
    /// The images.
    pub data: &'a Dataset,
    /// The folder.
    pub folder: &'a RunFolder,
    /// Checked after every step.
    pub stop: &'a StopRequest,
    /// Where progress is shown.
    pub progress: &'a Progress,
    /// The command line, for `environment.json`.
    pub command: Vec<String>,
}

impl Run<'_> {
    /// Trains `session` to the end, from the newest checkpoint if there is one.
    ///
    /// # Errors
    /// [`Error::Diverged`] if training diverges, [`Error::Audit`] if the first step leaves parameters untrained,
    /// [`Error::Stopped`] if a signal asks to stop, or an error of the files.
    pub fn train(&self, session: &Session) -> Result<RunResult> {
        let mut training = Training::new(self, session)?;
        let environment = Environment::read(self.data, self.command.clone(), training.state.step);
        self.folder.write_json("environment.json", &environment)?;
        while training.state.epoch < self.config.epochs {
            training.epoch()?;
        }
        training.finish()
    }
}

/// Starts a TensorBoard file for a run that has done `steps` steps, and writes its hyperparameters.
fn start_events(folder: &Path, config: &RunConfig, steps: u64) -> Result<EventFile> {
    let now = SystemTime::now();
    let mut events = EventFile::create(&folder.join("tensorboard"), now, steps)?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    events.hyperparameters(now, &name, &flat_keys(config)?, &["top1/test", "loss/test"])?;
    Ok(events)
}

/// The state of a run.
struct Training<'a> {
    run: &'a Run<'a>,
    session: &'a Session,
    optimizer: Optimizer,
    rates: LearningRate,
    train: Loader,
    test: Loader,
    /// Opened when it is known from which step on.
    events: Option<EventFile>,
    state: TrainState,
    weights_sha256: String,
}

impl<'a> Training<'a> {
    fn new(run: &'a Run<'a>, session: &'a Session) -> Result<Self> {
        let config = run.config;
        let train = session.training_loader(run.data, config)?;
        let test = session.test_loader(run.data, config.batch_size)?;
        let mut training = Self {
            run,
            session,
            optimizer: Optimizer::new(config, session.parameters.trainable())?,
            rates: config.learning_rate(train.batches()),
            train,
            test,
            events: None,
            state: TrainState {
                epoch: 0,
                batch: 0,
                step: 0,
                tally: Tally::default(),
                seconds: 0.0,
                history: Vec::new(),
                config: config.clone(),
                images: TrainingImages::of(run.data),
            },
            weights_sha256: String::new(),
        };
        training.resume()?;
        run.folder.reset_metrics(&training.state.history)?;
        training.events = Some(start_events(run.folder.path(), config, training.state.step)?);
        Ok(training)
    }

    /// Continues from the newest valid checkpoint, if there is one.
    fn resume(&mut self) -> Result<()> {
        let (checkpoint, refused) = self.run.folder.checkpoints().newest()?;
        for line in &refused {
            tracing::warn!("{line}");
        }
        let Some(checkpoint) = checkpoint else {
            if !refused.is_empty() {
                tracing::warn!("there is no valid checkpoint: the run starts from the beginning");
            }
            return Ok(());
        };
        self.ensure_same(&checkpoint)?;
        self.session.restore(&checkpoint.model)?;
        self.optimizer.load_state(&checkpoint.optimizer, checkpoint.state.step)?;
        let (before, now) = (checkpoint.state.config.epochs, self.run.config.epochs);
        if before != now {
            tracing::info!(
                "{now} epochs instead of {before}: from here on the learning rate follows the longer schedule"
            );
        }
        let (config, images) = (self.run.config.clone(), self.state.images.clone());
        self.state = TrainState { config, images, ..checkpoint.state };
        self.weights_sha256 = checkpoint.model_sha256;
        tracing::info!("resumed from {} at step {}", checkpoint.folder.display(), self.state.step);
        Ok(())
    }

    /// Fails if a checkpoint has another configuration or other images.
    fn ensure_same(&self, checkpoint: &Checkpoint) -> Result<()> {
        let (stored, now) = (&checkpoint.state, &self.state);
        let mut difference = first_difference(&stored.config, &now.config, &["epochs", "data"])?;
        if stored.images.labels_sha256 != now.images.labels_sha256 {
            let (first, second) = (stored.images.origin.clone(), now.images.origin.clone());
            difference = Some(Difference { key: "data".to_owned(), first, second });
        }
        match difference {
            None => Ok(()),
            Some(Difference { key, first, second }) => Err(Error::OtherConfiguration {
                folder: checkpoint.folder.clone(),
                key,
                stored: first,
                requested: second,
            }),
        }
    }

    /// Trains the rest of an epoch, evaluates, and saves a checkpoint.
    fn epoch(&mut self) -> Result<()> {
        let epoch = self.state.epoch;
        let started = Instant::now();
        let earlier = self.state.seconds;
        let (epochs, images) = (self.run.config.epochs, self.train.images());
        let label = format!("epoch {}/{epochs}", epoch + 1);
        self.run.progress.begin(label, images, self.state.tally.images, (epochs - epoch - 1) * images);
        for batch in self.train.epoch_from(epoch as u64, self.state.batch)? {
            self.step(&batch?)?;
            self.state.seconds = earlier + started.elapsed().as_secs_f64();
            self.run.progress.step(&self.state.tally);
            self.stop_if_asked()?;
        }
        let training_seconds = self.state.seconds;

        self.run.progress.begin_evaluation();
        let Some(test) = self.session.evaluate(&self.test, |_| self.run.stop.signal().is_none())? else {
            return self.stop_if_asked();
        };
        if !test.mean_loss().is_finite() {
            return Err(self.diverged("the test loss", test.mean_loss()));
        }
        let tally = self.state.tally;
        let metrics = EpochMetrics {
            epoch: epoch + 1,
            train_loss: tally.mean_loss(),
            train_top1: tally.top1_percent(),
            test_loss: test.mean_loss(),
            test_top1: test.top1_percent(),
            test_top5: test.top5_percent(),
            learning_rate: self.rates.at(self.state.step.saturating_sub(1)),
            seconds: earlier + started.elapsed().as_secs_f64(),
            images_per_second: tally.images as f64 / training_seconds.max(1e-9),
        };
        self.run.progress.end_epoch(&metrics, epochs);
        self.record(&metrics)?;
        self.state =
            TrainState { epoch: epoch + 1, batch: 0, tally: Tally::default(), seconds: 0.0, ..self.state.clone() };
        self.state.history.push(metrics);
        self.save()
    }

    fn step(&mut self, batch: &Batch) -> Result<()> {
        let pass = Pass::training(&self.session.streams, self.state.step);
        let logits = self.session.model.forward_t(&batch.images, &pass)?;
        let loss = nn::cross_entropy(&logits, &batch.labels)?;
        let value = f64::from(loss.to_scalar::<f32>()?);
        if !value.is_finite() {
            return Err(self.diverged("the training loss", value));
        }
        let gradients = backward(&loss)?;
        // In later steps a parameter may have no gradient: all its neighbors are padding, or its ReLU is never active.
        if self.state.step == 0 {
            audit(&self.session.parameters.trainable(), &gradients, self.run.config.audit)?;
        }
        let rate = self.rates.at(self.state.step);
        let norm = self.optimizer.step(&gradients, rate)?;
        if !norm.is_finite() {
            return Err(self.diverged("the gradient norm", norm));
        }
        self.state.tally.add(&logits.detach(), &batch.labels, value)?;
        self.state.batch += 1;
        self.state.step += 1;
        self.scalars(&[("step/loss", value), ("step/learning_rate", rate), ("step/gradient_norm", norm)])
    }

    /// Appends to `metrics.jsonl` and TensorBoard, and draws the curves. This happens before the checkpoint: when resuming,
    /// the first is rewritten, and TensorBoard is told from which step on points are written again.
    fn record(&mut self, metrics: &EpochMetrics) -> Result<()> {
        self.run.folder.append_metrics(metrics)?;
        let scalars = [
            ("loss/train", metrics.train_loss),
            ("loss/test", metrics.test_loss),
            ("top1/train", metrics.train_top1),
            ("top1/test", metrics.test_top1),
            ("top5/test", metrics.test_top5),
            ("epoch", metrics.epoch as f64),
            ("learning_rate", metrics.learning_rate),
            ("images_per_second", metrics.images_per_second),
        ];
        self.scalars(&scalars)?;
        let history: Vec<_> = self.state.history.iter().chain([metrics]).cloned().collect();
        curves::draw(self.run.folder.path(), &self.run.config.preset, &history)
    }

    /// Appends scalars of the current step to TensorBoard.
    fn scalars(&mut self, scalars: &[(&str, f64)]) -> Result<()> {
        let step = self.state.step;
        self.events.as_mut().map_or(Ok(()), |events| events.scalars(step, SystemTime::now(), scalars))
    }

    fn save(&mut self) -> Result<()> {
        let tensors = self.session.tensors();
        self.weights_sha256 = self.run.folder.checkpoints().save(&self.state, &tensors, &self.optimizer.state())?;
        Ok(())
    }

    /// If a signal asked to stop, saves the current epoch and returns [`Error::Stopped`].
    fn stop_if_asked(&mut self) -> Result<()> {
        let Some(signal) = self.run.stop.signal() else { return Ok(()) };
        self.save()?;
        let kept = format!("everything is saved in {}; add --resume to continue", self.run.folder.path().display());
        Err(Error::Stopped { signal, step: self.state.step, kept })
    }

    fn diverged(&self, what: &'static str, value: f64) -> Error {
        let kept = match self.state.history.last() {
            Some(last) => format!("the checkpoint after epoch {} is kept", last.epoch),
            None => "there is no checkpoint yet".to_owned(),
        };
        let (step, epoch) = (self.state.step, self.state.epoch + 1);
        Error::Diverged { what, value, step, epoch, learning_rate: self.rates.at(step), kept }
    }

    /// Writes the weights folder, in the layout of the Hugging Face hub.
    fn export(&self, score: &Score) -> Result<()> {
        let config = self.run.config;
        let row = |what: &str, value: String| (what.to_owned(), value);
        let card = ModelCard {
            title: format!("{} on {}", config.preset, config.dataset.title()),
            metrics: vec![
                row("trained on", self.run.data.origin.clone()),
                row("epochs, seed", format!("{}, {}", score.epoch, config.seed)),
                row("test top-1", format!("{:.2} %", score.top1)),
                row("test top-5", format!("{:.2} %", score.top5)),
                row("test loss", format!("{:.4}", score.loss)),
            ],
        };
        let folder = self.run.folder.path().join("weights");
        Ok(convnn_models::weights::save(&folder, &config.model, &self.session.parameters, &card)?)
    }

    /// Exports the weights and writes `result.json`.
    fn finish(mut self) -> Result<RunResult> {
        if let Some(events) = &mut self.events {
            events.finish(SystemTime::now())?;
        }
        let (config, history) = (self.run.config, &self.state.history);
        let missing =
            || Error::Damaged { path: self.run.folder.path().to_owned(), message: "no epoch was trained".to_owned() };
        let last = Score::from(history.last().ok_or_else(missing)?);
        self.export(&last)?;
        let result = RunResult {
            last5: mean_of_last(history, 5).ok_or_else(missing)?,
            best: Score::from(best(history).ok_or_else(missing)?),
            last,
            params: self.session.parameters.count(),
            gflops: config.model.flops()? as f64 / 1e9,
            seconds_per_epoch: history.iter().map(|metrics| metrics.seconds).sum::<f64>() / history.len() as f64,
            preset: config.preset.clone(),
            dataset: config.dataset,
            data: self.run.data.origin.clone(),
            seed: config.seed,
            epochs: config.epochs,
            test_images: self.run.data.test.len() as u64,
            weights_sha256: self.weights_sha256,
        };
        self.run.folder.finish(&result)?;
        Ok(result)
    }
}
