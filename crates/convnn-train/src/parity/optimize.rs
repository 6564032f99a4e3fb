//! The first steps of training, as a case has them.

use super::fixture::Fixture;
use crate::Result;
use crate::config::{OptimizerKind, RunConfig};
use crate::optimizer::Optimizer;
use candle_core::{DType, Tensor};
use convnn_core::{Parameters, Pass, Streams, backward, ops};

/// How a case trains.
pub(super) struct Settings {
    learning_rate: f64,
    weight_decay: f64,
    clip_grad_norm: Option<f64>,
}

impl Settings {
    /// Reads the options `optimizer`, `lr`, `weight_decay` and `clip_grad_norm`.
    ///
    /// # Errors
    /// For another optimizer than AdamW, or without a learning rate.
    pub(super) fn read(fixture: &Fixture) -> Result<Self> {
        match fixture.config.get("optimizer").map(|value| (value, value.as_str())) {
            None | Some((_, Some("adamw"))) => {}
            Some((value, _)) => {
                return Err(fixture.wrong(format!("config: option `optimizer` is {value}; expected adamw")));
            }
        }
        let required = |name: &str| {
            let missing = || fixture.wrong(format!("config: option `{name}` is missing; expected a number"));
            fixture.number(name)?.ok_or_else(missing)
        };
        Ok(Self {
            learning_rate: required("lr")?,
            weight_decay: required("weight_decay")?,
            clip_grad_norm: fixture.number("clip_grad_norm")?,
        })
    }
}

/// The loss before each step, on the same images: (steps).
pub(super) fn losses(
    settings: &Settings,
    parameters: &Parameters,
    forward: impl Fn(&Pass) -> convnn_core::Result<Tensor>,
    targets: &Tensor,
    steps: usize,
) -> Result<Tensor> {
    let config = RunConfig {
        optimizer: OptimizerKind::AdamW,
        weight_decay: settings.weight_decay,
        clip_grad_norm: settings.clip_grad_norm,
        ..RunConfig::from_preset("vgg11")?
    };
    let mut optimizer = Optimizer::new(&config, parameters.trainable())?;
    let streams = Streams::new(0);
    let mut losses = Vec::with_capacity(steps);
    for step in 0..steps as u64 {
        let loss = ops::cross_entropy(&forward(&Pass::training(&streams, step))?, targets)?;
        losses.push(loss.to_dtype(DType::F64)?.to_scalar::<f64>()?);
        optimizer.step(backward(&loss)?, settings.learning_rate, step)?;
    }
    Ok(Tensor::from_vec(losses, steps, targets.device())?)
}
