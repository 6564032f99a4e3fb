//! The weights that a run evaluates and exports.
//!
//! They are those of the last step, or their moving average, with running statistics of batch norm that fit them. The
//! statistics of training follow the weights too slowly to fit after a few steps, and do not fit an average at all. They
//! are then estimated from training images, in a copy of the model: training itself does not change.

use crate::Result;
use crate::checkpoint::Checkpoint;
use crate::config::RunConfig;
use crate::session::Session;
use candle_core::Tensor;
use convnn_core::optim::WeightAverage;
use convnn_core::{Pass, is_running_statistic};
use convnn_data::Loader;
use std::collections::BTreeMap;

/// Number of steps after which the statistics of training fit: their share in the initial ones is then 0.9¹⁰⁰ = 3e-5.
const SETTLED: u64 = 100;
/// The largest number of batches that statistics are estimated from.
const BATCHES: usize = 32;

/// Prefix of the averages of the weights among the tensors of a checkpoint.
const AVERAGE: &str = "average/";
/// Prefix of the statistics that were estimated for the last evaluation.
const STATISTICS: &str = "statistics/";

/// The weights that are evaluated, beside those that are trained.
pub struct Evaluated<'a> {
    trained: &'a Session,
    config: &'a RunConfig,
    average: Option<WeightAverage>,
    /// What is evaluated instead of the trained model.
    copy: Option<Session>,
    warned: bool,
}

impl<'a> Evaluated<'a> {
    /// The weights of `trained` before the first step.
    pub fn new(trained: &'a Session, config: &'a RunConfig) -> Self {
        let average = config.ema_decay.map(|decay| WeightAverage::new(trained.parameters.all(), decay));
        Self { trained, config, average, copy: None, warned: false }
    }

    /// Updates the average of the weights after a training step.
    pub fn step(&mut self) -> Result<()> {
        self.copy = None;
        Ok(self.average.as_mut().map_or(Ok(()), WeightAverage::update)?)
    }

    /// Prepares the evaluation after `step` steps, with images of `epoch`. If `proceed` returns `false`, it stops early.
    ///
    /// # Errors
    /// If a batch cannot be read or computed.
    pub fn prepare(&mut self, loader: &Loader, epoch: u64, step: u64, mut proceed: impl FnMut() -> bool) -> Result<()> {
        let has_statistics = self.trained.parameters.all().iter().any(|(name, _)| is_running_statistic(name));
        let lag = has_statistics && step < SETTLED;
        if !lag && self.average.is_none() {
            return Ok(());
        }
        if lag && !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(
                "after {step} steps the running statistics of batch norm do not fit the weights yet: until step {SETTLED} \
                 they are estimated from training images before each evaluation; a `batch_size` smaller than {} makes \
                 more steps of the same images",
                self.config.batch_size
            );
        }
        let copy = self.copy_with(self.average.iter().flat_map(WeightAverage::state))?;
        if has_statistics {
            let mut number = 0;
            for batch in loader.epoch(epoch)?.take(BATCHES) {
                let images = batch?.images;
                if !proceed() {
                    return Ok(());
                }
                // The last batch may be small, with statistics far off.
                if number == 0 || images.dim(0)? == self.config.batch_size {
                    number += 1;
                    copy.model.forward_t(&images, &Pass::averaging(&self.trained.streams, step, number))?;
                }
            }
        }
        self.copy = Some(copy);
        Ok(())
    }

    /// The model to evaluate and export.
    pub fn session(&self) -> &Session {
        self.copy.as_ref().unwrap_or(self.trained)
    }

    /// What a checkpoint must hold besides the trained model.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let named = |prefix: &str, (name, tensor): (String, Tensor)| (format!("{prefix}{name}"), tensor);
        let average = self.average.iter().flat_map(WeightAverage::state).map(|entry| named(AVERAGE, entry));
        let statistics = self.copy.iter().flat_map(Session::tensors).filter(|(name, _)| is_running_statistic(name));
        average.chain(statistics.map(|entry| named(STATISTICS, entry))).collect()
    }

    /// Continues with the weights of a checkpoint: the trained ones have been restored, and `other` are the remaining
    /// tensors, of which those that [`Self::state`] returned are removed.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load_state(&mut self, other: &mut BTreeMap<String, Tensor>) -> Result<()> {
        let (average, statistics) = (take(other, AVERAGE), take(other, STATISTICS));
        if !average.is_empty() || !statistics.is_empty() {
            self.copy = Some(self.copy_with(average.clone().into_iter().chain(statistics))?);
        }
        match &mut self.average {
            Some(own) => Ok(own.load_state(&average)?),
            None => Ok(()),
        }
    }

    /// The trained model with some tensors replaced.
    fn copy_with(&self, replaced: impl Iterator<Item = (String, Tensor)>) -> Result<Session> {
        let copy = Session::new(&self.config.model, self.config.seed)?;
        let mut tensors: BTreeMap<_, _> = self.trained.tensors().into_iter().collect();
        tensors.extend(replaced);
        copy.restore(&tensors)?;
        Ok(copy)
    }
}

/// Whether a checkpoint is one within an epoch, for which running statistics that fit were not estimated.
pub fn lacks_statistics(checkpoint: &Checkpoint) -> bool {
    let state = &checkpoint.state;
    let wanted = state.config.ema_decay.is_some() || state.step < SETTLED;
    state.batch > 0 && wanted && checkpoint.model.keys().any(|name| is_running_statistic(name))
}

/// The weights of a checkpoint that its run evaluated: `model`, with what replaces it among the `other` tensors.
pub fn evaluated(mut model: BTreeMap<String, Tensor>, mut other: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    model.extend(take(&mut other, AVERAGE));
    model.extend(take(&mut other, STATISTICS));
    model
}

/// Removes the tensors whose names begin with `prefix`; returns them without it.
fn take(tensors: &mut BTreeMap<String, Tensor>, prefix: &str) -> BTreeMap<String, Tensor> {
    let (taken, left) =
        std::mem::take(tensors).into_iter().partition::<BTreeMap<_, _>, _>(|(name, _)| name.starts_with(prefix));
    *tensors = left;
    taken.into_iter().map(|(name, tensor)| (name[prefix.len()..].to_owned(), tensor)).collect()
}
