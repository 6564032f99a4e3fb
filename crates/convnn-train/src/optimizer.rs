//! AdamW and SGD over named parameters, with clipping of the gradient's norm.

use crate::config::{OptimizerKind, RunConfig};
use crate::{Error, Result};
use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use convnn_core::ops::{AdamWStep, Moments, Momentum, SgdStep, adamw_step, gradient_norm, sgd_step};
use std::collections::BTreeMap;

/// Updates parameters in the order of their names.
///
/// Weight decay applies to every parameter, as PyTorch's default does; one without a gradient stays as it is.
#[derive(Debug)]
pub struct Optimizer {
    momentum: Momentum,
    weight_decay: f64,
    clip: Option<f64>,
    parameters: Vec<Slot>,
}

/// A parameter with what the optimizer remembers of it.
#[derive(Debug)]
struct Slot {
    name: String,
    var: Var,
    memory: Memory,
}

#[derive(Debug)]
enum Memory {
    /// Of AdamW.
    Moments(Moments),
    /// Of SGD; there is none before the first step with momentum.
    Velocity(Option<Var>),
}

impl Optimizer {
    /// An optimizer before its first step. `parameters` are in the order of their names.
    ///
    /// # Errors
    /// Where Candle fails.
    pub fn new(config: &RunConfig, parameters: Vec<(String, Var)>) -> Result<Self> {
        let momentum = if config.momentum == 0.0 { Momentum::None } else { Momentum::Heavy(config.momentum) };
        let slot = |(name, var): (String, Var)| {
            let memory = match config.optimizer {
                OptimizerKind::AdamW => Memory::Moments(Moments::zeros(&var)?),
                OptimizerKind::Sgd => Memory::Velocity(None),
            };
            Ok(Slot { name, var, memory })
        };
        let parameters = parameters.into_iter().map(slot).collect::<Result<_>>()?;
        Ok(Self { momentum, weight_decay: config.weight_decay, clip: config.clip_grad_norm, parameters })
    }

    /// Updates every parameter; gives the norm of the whole gradient before clipping. Nothing is updated where that is
    /// not finite. `step` counts from 0.
    ///
    /// # Errors
    /// Where a gradient does not have its parameter's shape.
    pub fn step(&mut self, mut gradients: GradStore, lr: f64, step: u64) -> Result<f64> {
        let gradients: Vec<_> = self.parameters.iter().map(|slot| gradients.remove(&slot.var)).collect();
        let present: Vec<&Tensor> = gradients.iter().flatten().collect();
        let norm = gradient_norm(&present)?;
        if !norm.is_finite() {
            return Ok(norm);
        }
        // As torch.nn.utils.clip_grad_norm_.
        let grad_scale = self.clip.map_or(1.0, |clip| (clip / (norm + 1e-6)).min(1.0));
        let (momentum, weight_decay) = (self.momentum, self.weight_decay);
        let adamw = AdamWStep { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay, step: step + 1, grad_scale };
        let sgd = SgdStep { lr, momentum, weight_decay, grad_scale };
        for (slot, gradient) in self.parameters.iter_mut().zip(gradients) {
            let Some(gradient) = gradient else { continue };
            match &mut slot.memory {
                Memory::Moments(moments) => adamw_step(&slot.var, &gradient, moments, &adamw)?,
                Memory::Velocity(velocity) => sgd_step(&slot.var, &gradient, velocity, &sgd)?,
            }
        }
        Ok(norm)
    }

    /// What it remembers, by name.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        let mut tensors = Vec::new();
        for Slot { name, memory, .. } in &self.parameters {
            match memory {
                Memory::Moments(moments) => {
                    tensors.push((format!("{name}{FIRST}"), moments.first().clone()));
                    tensors.push((format!("{name}{SECOND}"), moments.second().clone()));
                }
                Memory::Velocity(Some(velocity)) => {
                    tensors.push((format!("{name}{VELOCITY}"), velocity.as_tensor().clone()));
                }
                Memory::Velocity(None) => {}
            }
        }
        tensors
    }

    /// Takes up what [`Self::tensors`] gave.
    ///
    /// # Errors
    /// Where a tensor is missing, left over, or of another shape.
    pub fn restore(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let fault = |message: String| Error::Damaged { path: "optimizer state".into(), message };
        let mut used = 0;
        for Slot { name, var, memory } in &mut self.parameters {
            let mut find = |suffix: &str| {
                let found = tensors.get(&format!("{name}{suffix}"));
                used += usize::from(found.is_some());
                match found {
                    Some(tensor) if tensor.dims() != var.dims() => {
                        let (found, expected) = (tensor.dims(), var.dims());
                        Err(fault(format!("`{name}{suffix}` has shape {found:?}; expected {expected:?}")))
                    }
                    found => Ok(found),
                }
            };
            match memory {
                Memory::Moments(moments) => {
                    let (Some(first), Some(second)) = (find(FIRST)?, find(SECOND)?) else {
                        return Err(fault(format!("the moments of `{name}` are missing")));
                    };
                    *moments = Moments::from_tensors(first, second)?;
                }
                // A parameter without a gradient so far has no velocity.
                Memory::Velocity(velocity) => *velocity = find(VELOCITY)?.map(Var::from_tensor).transpose()?,
            }
        }
        match used == tensors.len() {
            true => Ok(()),
            false => Err(fault(format!("{} tensors found, {used} expected", tensors.len()))),
        }
    }
}

const FIRST: &str = ".first_moment";
const SECOND: &str = ".second_moment";
const VELOCITY: &str = ".velocity";
