//! How fast a run would train, measured before it is started.

use crate::config::RunConfig;
use crate::evaluated::Evaluated;
use crate::optimizer::Optimizer;
use crate::session::Session;
use crate::{Error, Result};
use convnn_core::{Pass, backward};
use convnn_data::Dataset;
use std::time::{Duration, Instant};

/// How long steps are repeated; the fastest counts.
const LONG_ENOUGH: Duration = Duration::from_secs(2);

/// The seconds that an epoch of the run takes: training steps on its own images, and the forward pass over the test images at
/// a third of a step.
///
/// # Errors
/// If the first batch cannot be read or computed.
pub fn seconds_per_epoch(session: &Session, data: &Dataset, config: &RunConfig) -> Result<f64> {
    let loader = session.training_loader(data, config)?;
    let mut optimizer = Optimizer::new(config, session.parameters.trainable())?;
    let mut evaluated = Evaluated::new(session, config);
    let started = Instant::now();
    let mut fastest: Option<f64> = None;
    let mut number = 0;
    for batch in loader.epoch(0)?.take(50) {
        let batch = batch?;
        let images = batch.images.dim(0)? as f64;
        let since = Instant::now();
        let logits = session.model.forward_t(&batch.images, &Pass::training(&session.streams, number))?;
        let targets = batch.targets.as_ref().unwrap_or(&batch.labels);
        let loss = config.loss.of(&logits, targets, config.label_smoothing)?;
        // A rate of zero computes everything and changes nothing that matters.
        optimizer.step(&backward(&loss)?, 0.0)?;
        evaluated.step()?;
        number += 1;
        let seconds = since.elapsed().as_secs_f64() / images;
        // The first step also allocates.
        if number > 1 {
            fastest = Some(fastest.map_or(seconds, |before| before.min(seconds)));
        }
        if number > 1 && started.elapsed() >= LONG_ENOUGH {
            break;
        }
    }
    let per_image = fastest.ok_or_else(|| Error::Value {
        key: "batch_size".to_owned(),
        found: format!("{}, all training images in one batch", config.batch_size),
        expected: "at least two batches, to measure the second".to_owned(),
    })?;
    let (train, test) = (data.train.len() as f64, data.test.len() as f64);
    Ok(per_image * (train + test / 3.0))
}
