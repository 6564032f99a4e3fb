//! The training loop: every epoch is followed by an evaluation and a checkpoint.
//!
//! All randomness comes from streams named by epoch and step, so that a resumed run computes the same bits as one that
//! was never interrupted.

use crate::audit::audit;
use crate::checkpoint::{self, Checkpoint, TrainState, TrainingImages};
use crate::config::{RunConfig, differences, first_difference, flat_keys};
use crate::curves;
use crate::environment::Environment;
use crate::evaluated::Evaluated;
use crate::metrics::Tally;
use crate::optimizer::Optimizer;
use crate::progress::Progress;
use crate::results::{EpochMetrics, RunResult, Score, best, mean_of_last};
use crate::run_folder::{Allowed, CHANGEABLE, RunFolder, other_configuration};
use crate::schedule::{LearningRate, epochs_since_best, plateau_drops};
use crate::session::Session;
use crate::stop::StopRequest;
use crate::tensorboard::EventFile;
use crate::text::shell_word;
use crate::weights::preprocessing;
use crate::{Error, Result};
use candle_core::backprop::GradStore;
use convnn_core::{Pass, backward, instruction_set};
use convnn_data::{Batch, Batches, Dataset, DatasetName, Loader};
use convnn_models::ModelCard;
use convnn_models::weights::MODEL_FILE;
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
    /// What may differ from the checkpoint that the run continues from.
    pub allowed: Allowed,
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
    ///
    /// A new run that fails before its first step leaves no folder behind.
    pub fn train(&self, session: &Session) -> Result<RunResult> {
        let mut training = Training::new(self, session).inspect_err(|_| self.folder.abandon())?;
        while training.state.epoch < self.config.epochs && !training.stops_early() {
            if let Err(error) = training.epoch() {
                if training.state.step == 0 {
                    self.folder.abandon();
                }
                return Err(error);
            }
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

fn no_points(error: &Error) {
    tracing::warn!("TensorBoard gets no further points: {error}");
}

/// The state of a run.
struct Training<'a> {
    run: &'a Run<'a>,
    session: &'a Session,
    optimizer: Optimizer,
    evaluated: Evaluated<'a>,
    rates: LearningRate,
    train: Loader,
    validation: Option<Loader>,
    test: Loader,
    /// Created once the run is known to continue; closed if it cannot be written.
    events: Option<EventFile>,
    state: TrainState,
    /// The name of the newest checkpoint, if there is one.
    saved: Option<String>,
    checkpoint_sha256: String,
}

/// Whether the plateau schedule starts over: with another rate, or waiting or dropping otherwise.
fn is_other_plateau(before: &RunConfig, now: &RunConfig) -> bool {
    let plateau =
        |config: &RunConfig| (config.learning_rate, config.schedule, config.plateau_patience, config.plateau_factor);
    plateau(before) != plateau(now)
}

impl<'a> Training<'a> {
    fn new(run: &'a Run<'a>, session: &'a Session) -> Result<Self> {
        let config = run.config;
        config.check_validation(run.data.validation.is_some())?;
        let train = session.training_loader(run.data, config)?;
        let validation = session.validation_loader(run.data, config.batch_size)?;
        let test = session.test_loader(run.data, config.batch_size)?;
        let mut training = Self {
            run,
            session,
            optimizer: Optimizer::new(config, session.parameters.trainable())?,
            evaluated: Evaluated::new(session, config),
            rates: config.learning_rate(train.batches().div_ceil(config.accumulate)),
            train,
            validation,
            test,
            events: None,
            state: TrainState {
                epoch: 0,
                batch: 0,
                step: 0,
                tally: Tally::default(),
                seconds: 0.0,
                history: Vec::new(),
                plateau_from: 0,
                config: config.clone(),
                changes: Vec::new(),
                classes: (run.data.name == DatasetName::Folder).then(|| run.data.classes.to_vec()),
                images: TrainingImages::of(run.data),
                instruction_set: Some(instruction_set()),
            },
            saved: None,
            checkpoint_sha256: String::new(),
        };
        training.resume()?;
        training.drop_rate();
        // The checkpoint is valid; from here on files are written.
        run.folder.reopen(config)?;
        // The error of an earlier go says nothing about this one.
        let _ = std::fs::remove_file(run.folder.path().join(crate::runs::ERROR));
        run.folder.checkpoints().sweep(&training.state.history)?;
        let environment = Environment::read(run.data, run.command.clone(), training.state.step);
        run.folder.write_json("environment.json", &environment)?;
        run.folder.reset_metrics(&training.state.history)?;
        training.events = start_events(run.folder.path(), config, training.state.step).inspect_err(no_points).ok();
        Ok(training)
    }

    /// Continues from the newest valid checkpoint, if there is one.
    fn resume(&mut self) -> Result<()> {
        let allowed = self.run.allowed;
        let (checkpoint, refused) = self.run.folder.checkpoints().newest(allowed.formats())?;
        for line in &refused {
            tracing::warn!("{line}");
        }
        let Some(mut checkpoint) = checkpoint else { return Ok(()) };
        let mut changes = self.ensure_same(&checkpoint)?;
        changes.extend(self.changes_since(&checkpoint.state)?);
        self.session.restore(&checkpoint.model)?;
        self.evaluated.load_state(&mut checkpoint.optimizer)?;
        self.optimizer.load_state(&checkpoint.optimizer, checkpoint.state.step)?;
        let (before, now) = (checkpoint.state.config.epochs, self.run.config.epochs);
        if before != now {
            tracing::info!(
                "{now} epochs instead of {before}: from here on the learning rate follows the longer schedule"
            );
        }
        let TrainState { config, classes, images, instruction_set, .. } = self.state.clone();
        if is_other_plateau(&checkpoint.state.config, &config) {
            checkpoint.state.plateau_from = checkpoint.state.history.len();
        }
        self.state = TrainState { config, classes, images, instruction_set, ..checkpoint.state };
        self.state.changes.extend(changes);
        self.saved = Some(checkpoint::name(self.state.epoch, self.state.batch));
        self.checkpoint_sha256 = checkpoint.model_sha256;
        tracing::info!("resumed from {} at step {}", checkpoint.folder.display(), self.state.step);
        Ok(())
    }

    /// What changes at a checkpoint, so that the configuration alone does not repeat the run.
    fn changes_since(&self, stored: &TrainState) -> Result<Vec<String>> {
        let (before, now, step) = (&stored.config, self.run.config, stored.step);
        // A longer run may have the same rates so far.
        let rates = |config: &RunConfig| config.learning_rate(self.train.batches().div_ceil(config.accumulate));
        let (old, new) = (rates(before), rates(now));
        let is_longer_only = (0..step).all(|step| old.at(step) == new.at(step));
        let matters = |key: &str| key != "data" && !(key == "epochs" && is_longer_only);
        let changed = differences(before, now)?.into_iter().filter(|difference| matters(&difference.key));
        Ok(changed
            .map(|found| format!("`{}` was {} up to step {step}, then {}", found.key, found.first, found.second))
            .collect())
    }

    /// Fails if a checkpoint has another configuration, other images or another instruction set; returns what --force
    /// lets pass.
    fn ensure_same(&self, checkpoint: &Checkpoint) -> Result<Vec<String>> {
        let (stored, now, allowed) = (&checkpoint.state, &self.state, self.run.allowed);
        // What may change has been compared with the folder's own configuration; a run that was stopped before its first
        // checkpoint with other values goes on with them.
        let ignored = [&["epochs", "data"], &CHANGEABLE[..]].concat();
        if let Some(difference) = first_difference(&stored.config, &now.config, &ignored)? {
            return Err(other_configuration(&checkpoint.folder, difference));
        }
        let mut forced = Vec::new();
        let step = stored.step;
        let mut refuse = |what: &'static str, before: &str, now: &str| {
            let (folder, stored, requested) = (checkpoint.folder.clone(), before.to_owned(), now.to_owned());
            let error = Error::OtherRun { folder, what, stored, requested };
            if !allowed.force {
                return Err(error);
            }
            tracing::warn!("{error}");
            forced.push(format!("the {what} was {before} up to step {step}, then {now}"));
            Ok(())
        };
        if !stored.images.are(&now.images) {
            refuse("set of images", &stored.images.origin, &now.images.origin)?;
        }
        match (&stored.instruction_set, &now.instruction_set) {
            (Some(before), Some(now)) if before != now => refuse("instruction set", before, now)?,
            _ => {}
        }
        Ok(forced)
    }

    /// Trains the rest of an epoch, evaluates, and saves a checkpoint.
    fn epoch(&mut self) -> Result<()> {
        let epoch = self.state.epoch;
        let started = Instant::now();
        let earlier = self.state.seconds;
        let (epochs, images) = (self.run.config.epochs, self.train.images());
        let label = format!("epoch {}/{epochs}", epoch + 1);
        self.run.progress.begin(label, images, self.state.tally.images, (epochs - epoch - 1) * images);
        let mut batches = self.train.epoch_from(epoch as u64, self.state.batch)?;
        while batches.len() > 0 {
            self.step(&mut batches)?;
            self.state.seconds = earlier + started.elapsed().as_secs_f64();
            self.run.progress.step(&self.state.tally);
            self.stop_if_asked()?;
        }
        let training_seconds = self.state.seconds;

        self.run.progress.begin_evaluation();
        let proceed = || self.run.stop.signal().is_none();
        self.evaluated.prepare(&self.train, epoch as u64, self.state.step, proceed)?;
        let evaluate = |loader: &Loader| self.evaluated.session().evaluate(loader, |_| proceed());
        let validation = self.validation.as_ref().map(evaluate).transpose()?.flatten();
        let test = evaluate(&self.test)?;
        self.stop_if_asked()?;
        let Some(test) = test else { return Ok(()) };
        for (what, tally) in [("the validation loss", validation), ("the test loss", Some(test))] {
            if let Some(loss) = tally.map(|tally| tally.mean_loss()).filter(|loss| !loss.is_finite()) {
                return Err(self.diverged(what, loss));
            }
        }
        let tally = self.state.tally;
        let metrics = EpochMetrics {
            epoch: epoch + 1,
            train_loss: tally.mean_loss(),
            train_top1: tally.top1_percent(),
            test_loss: test.mean_loss(),
            test_top1: test.top1_percent(),
            test_top5: test.top5_percent(),
            validation_loss: validation.map(|tally| tally.mean_loss()),
            validation_top1: validation.map(|tally| tally.top1_percent()),
            learning_rate: self.rates.at(self.state.step.saturating_sub(1)),
            seconds: earlier + started.elapsed().as_secs_f64(),
            images_per_second: tally.images as f64 / training_seconds.max(1e-9),
        };
        self.run.progress.end_epoch(&metrics, epochs);
        self.record(&metrics)?;
        self.state =
            TrainState { epoch: epoch + 1, batch: 0, tally: Tally::default(), seconds: 0.0, ..self.state.clone() };
        self.state.history.push(metrics);
        self.drop_rate();
        self.save()
    }

    /// The validation accuracies of all epochs.
    fn accuracies(&self) -> impl Iterator<Item = f64> {
        self.state.history.iter().filter_map(|metrics| metrics.validation_top1)
    }

    /// Lets the learning rate of the plateau schedule drop if it is time to.
    fn drop_rate(&mut self) {
        let accuracies = self.accuracies().skip(self.state.plateau_from);
        self.rates.plateau_drops = plateau_drops(accuracies, self.run.config.plateau_patience);
    }

    /// Whether the validation accuracy has not been better for as many epochs as early stopping waits.
    fn stops_early(&self) -> bool {
        let waited = epochs_since_best(self.accuracies());
        let stops = self.run.config.early_stopping.is_some_and(|patience| waited >= patience);
        if stops {
            let epoch = self.state.epoch;
            tracing::info!("stopping early after epoch {epoch}: the best validation accuracy is {waited} epochs old");
        }
        stops
    }

    /// Trains on the next batches: one, or as many as are accumulated, of which the last step of an epoch has fewer.
    fn step(&mut self, batches: &mut Batches) -> Result<()> {
        let config = self.run.config;
        let count = config.accumulate.min(batches.len());
        let images = (self.train.images() - self.state.batch * config.batch_size).min(count * config.batch_size);
        let (mut gradients, mut loss) = (None, 0.0);
        for batch in batches.take(count) {
            let batch = batch?;
            let share = batch.images.dim(0)? as f64 / images as f64;
            let (next, value) = self.gradients(&batch, share)?;
            loss += share * value;
            gradients = Some(match gradients {
                None => next,
                Some(sum) => self.sum(sum, &next)?,
            });
        }
        let Some(gradients) = gradients else { return Ok(()) };
        // In later steps a parameter may have no gradient: all its neighbors are padding, or its ReLU is never active.
        if self.state.step == 0 {
            audit(&self.session.parameters.trainable(), &gradients, config.audit)?;
        }
        let rate = self.rates.at(self.state.step);
        let norm = self.optimizer.step(&gradients, rate)?;
        if !norm.is_finite() {
            return Err(self.diverged("the gradient norm", norm));
        }
        self.evaluated.step()?;
        self.state.step += 1;
        self.scalars(&[("step/loss", loss), ("step/learning_rate", rate), ("step/gradient_norm", norm)]);
        Ok(())
    }

    /// The gradients of `share` times the loss of a batch, and the loss.
    fn gradients(&mut self, batch: &Batch, share: f64) -> Result<(GradStore, f64)> {
        let config = self.run.config;
        // Numbers the passes of the run; without accumulation they are the steps.
        let number = self.state.epoch * self.train.batches() + self.state.batch;
        let pass = Pass::training(&self.session.streams, number as u64);
        let logits = self.session.model.forward_t(&batch.images, &pass)?;
        let targets = batch.targets.as_ref().unwrap_or(&batch.labels);
        let loss = config.loss.of(&logits, targets, config.label_smoothing)?;
        let value = f64::from(loss.to_scalar::<f32>()?);
        if !value.is_finite() {
            return Err(self.diverged("the training loss", value));
        }
        self.state.tally.add(&logits.detach(), &batch.labels, value)?;
        self.state.batch += 1;
        let loss = if share < 1.0 { (loss * share)? } else { loss };
        Ok((backward(&loss)?, value))
    }

    /// The sum of the gradients of every parameter.
    fn sum(&self, mut sum: GradStore, next: &GradStore) -> Result<GradStore> {
        for (_, var) in self.session.parameters.trainable() {
            let gradient = match (sum.get(&var), next.get(&var)) {
                (Some(sum), Some(next)) => (sum + next)?,
                (None, Some(next)) => next.clone(),
                (_, None) => continue,
            };
            sum.insert(&var, gradient);
        }
        Ok(sum)
    }

    /// Appends to `metrics.jsonl` and TensorBoard, and draws the curves. This happens before the checkpoint: when resuming,
    /// the first is rewritten, and TensorBoard is told from which step on points are written again.
    fn record(&mut self, metrics: &EpochMetrics) -> Result<()> {
        self.run.folder.append_metrics(metrics)?;
        let mut scalars = vec![
            ("loss/train", metrics.train_loss),
            ("loss/test", metrics.test_loss),
            ("top1/train", metrics.train_top1),
            ("top1/test", metrics.test_top1),
            ("top5/test", metrics.test_top5),
            ("epoch", metrics.epoch as f64),
            ("learning_rate", metrics.learning_rate),
            ("images_per_second", metrics.images_per_second),
        ];
        scalars.extend(metrics.validation_loss.map(|loss| ("loss/validation", loss)));
        scalars.extend(metrics.validation_top1.map(|top1| ("top1/validation", top1)));
        self.scalars(&scalars);
        let history: Vec<_> = self.state.history.iter().chain([metrics]).cloned().collect();
        // A picture is not worth a run.
        if let Err(error) = curves::draw(self.run.folder.path(), &self.run.config.preset, &history) {
            tracing::warn!("the curves are not drawn: {error}");
        }
        Ok(())
    }

    /// Appends scalars of the current step to TensorBoard. If that fails, the run goes on without.
    fn scalars(&mut self, scalars: &[(&str, f64)]) {
        let step = self.state.step;
        let written = self.events.as_mut().map_or(Ok(()), |events| events.scalars(step, SystemTime::now(), scalars));
        if let Err(error) = written {
            no_points(&error);
            self.events = None;
        }
    }

    fn save(&mut self) -> Result<()> {
        let tensors = self.session.tensors();
        let mut others = self.optimizer.state();
        others.extend(self.evaluated.state());
        let saved = self.run.folder.checkpoints().save(&self.state, &tensors, &others);
        // A step with a finite gradient can still overflow the weights; the checkpoints before it are worth more.
        self.checkpoint_sha256 = saved.map_err(|error| match error {
            Error::Models(convnn_models::Error::Tensor { .. }) => {
                let epoch = self.state.epoch + usize::from(self.state.batch > 0);
                self.diverged_in(epoch, "a parameter", f64::NAN)
            }
            error => error,
        })?;
        self.saved = Some(checkpoint::name(self.state.epoch, self.state.batch));
        Ok(())
    }

    /// If a signal asked to stop, saves the current epoch and returns [`Error::Stopped`].
    fn stop_if_asked(&mut self) -> Result<()> {
        let Some(signal) = self.run.stop.signal() else { return Ok(()) };
        self.save()?;
        let folder = shell_word(&self.run.folder.path().display().to_string());
        let kept = format!("everything is saved; `convnn train --out {folder} --resume` continues");
        Err(Error::Stopped { signal, step: self.state.step, kept })
    }

    fn diverged(&self, what: &'static str, value: f64) -> Error {
        self.diverged_in(self.state.epoch + 1, what, value)
    }

    fn diverged_in(&self, epoch: usize, what: &'static str, value: f64) -> Error {
        let kept = match &self.saved {
            Some(name) => format!("the checkpoint {name} is kept"),
            None => "there is no checkpoint yet".to_owned(),
        };
        let step = self.state.step;
        Error::Diverged { what, value, step, epoch, learning_rate: self.rates.at(step), kept }
    }

    /// Writes the weights folder, in the layout of the Hugging Face hub; returns the SHA-256 of its model.
    fn export(&self, score: &Score) -> Result<String> {
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
            preprocessing: Some(preprocessing(config)),
            labels: self.run.data.classes.to_vec(),
            ..ModelCard::default()
        };
        let parameters = &self.evaluated.session().parameters;
        let digests = self.run.folder.replace_folder("weights", |folder| {
            Ok(convnn_models::weights::save(folder, &config.model, parameters, &card)?)
        })?;
        Ok(digests.get(MODEL_FILE).unwrap_or_default().to_owned())
    }

    /// Exports the weights and writes `result.json`.
    fn finish(mut self) -> Result<RunResult> {
        if let Some(Err(error)) = self.events.as_mut().map(|events| events.finish(SystemTime::now())) {
            no_points(&error);
        }
        let (config, history) = (self.run.config, &self.state.history);
        let missing =
            || Error::Damaged { path: self.run.folder.path().to_owned(), message: "no epoch was trained".to_owned() };
        let last = Score::from(history.last().ok_or_else(missing)?);
        let weights_sha256 = self.export(&last)?;
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
            train_images: self.run.data.train.len() as u64,
            validation_images: self.run.data.validation.as_ref().map_or(0, |held_out| held_out.len() as u64),
            weights_sha256,
            checkpoint_sha256: self.checkpoint_sha256,
        };
        self.run.folder.finish(&result)?;
        Ok(result)
    }
}
