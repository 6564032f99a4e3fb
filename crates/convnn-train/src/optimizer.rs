//! The optimizer that a configuration asks for.

use crate::Result;
use crate::config::{OptimizerKind, RunConfig};
use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use candle_nn::Optimizer as _;
use convnn_core::optim::{AdamW, AdamWConfig, Momentum, Muon, MuonConfig, Sgd, SgdConfig};
use std::collections::BTreeMap;

/// One of the optimizers of the configuration.
#[derive(Debug)]
pub enum Optimizer {
    /// AdamW or Adam.
    AdamW(AdamW),
    /// Stochastic gradient descent.
    Sgd(Sgd),
    /// Muon, with AdamW for norms and biases.
    Muon(Muon),
}

impl Optimizer {
    /// The optimizer of `parameters` before its first step.
    pub fn new(config: &RunConfig, parameters: Vec<(String, Var)>) -> Result<Self> {
        let &RunConfig { learning_rate, weight_decay, decay_norms_and_biases, .. } = config;
        let &RunConfig { clip_grad_norm, clip_grad_value, momentum, .. } = config;
        let adamw = AdamWConfig {
            learning_rate,
            weight_decay,
            decoupled: config.optimizer != OptimizerKind::Adam,
            decay_norms_and_biases,
            clip_grad_norm,
            clip_grad_value,
            ..AdamWConfig::default()
        };
        Ok(match config.optimizer {
            OptimizerKind::AdamW | OptimizerKind::Adam => Self::AdamW(AdamW::named(parameters, adamw)?),
            OptimizerKind::Muon => Self::Muon(Muon::named(parameters, MuonConfig { momentum, adamw })?),
            OptimizerKind::Sgd => {
                let momentum = match (momentum, config.nesterov) {
                    (0.0, _) => Momentum::None,
                    (momentum, true) => Momentum::Nesterov(momentum),
                    (momentum, false) => Momentum::HeavyBall(momentum),
                };
                let config = SgdConfig {
                    learning_rate,
                    momentum,
                    weight_decay,
                    decay_norms_and_biases,
                    clip_grad_norm,
                    clip_grad_value,
                };
                Self::Sgd(Sgd::named(parameters, config)?)
            }
        })
    }

    /// Updates every parameter that has a gradient; returns the norm of the whole gradient before clipping. If it is not
    /// finite, nothing is updated.
    pub fn step(&mut self, gradients: &GradStore, learning_rate: f64) -> Result<f64> {
        Ok(match self {
            Self::AdamW(adamw) => {
                adamw.set_learning_rate(learning_rate);
                adamw.update(gradients)?
            }
            Self::Sgd(sgd) => {
                sgd.set_learning_rate(learning_rate);
                sgd.update(gradients)?
            }
            Self::Muon(muon) => {
                muon.set_learning_rate(learning_rate);
                muon.update(gradients)?
            }
        })
    }

    /// What it remembers, by name.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        match self {
            Self::AdamW(adamw) => adamw.state(),
            Self::Sgd(sgd) => sgd.state(),
            Self::Muon(muon) => muon.state(),
        }
    }

    /// Continues after `steps` steps with what [`Self::state`] returned then.
    ///
    /// # Errors
    /// [`convnn_core::Error::OptimizerState`] if a tensor is missing, belongs to no parameter or has another shape.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>, steps: u64) -> Result<()> {
        match self {
            Self::AdamW(adamw) => adamw.load_state(state, steps)?,
            Self::Sgd(sgd) => sgd.load_state(state, steps)?,
            Self::Muon(muon) => muon.load_state(state, steps)?,
        }
        Ok(())
    }
}
