//! The first training steps of a case.

use super::{Case, Error, Result};
use crate::optim::{AdamW, AdamWConfig};
use crate::{Parameters, Pass, Streams, backward, nn};
use candle_core::{DType, Device, Tensor};

/// How a case trains: on the same images in every step.
pub(super) struct Training {
    config: AdamWConfig,
    targets: Tensor,
    steps: usize,
}

impl Training {
    /// Reads `target`, `losses`, and the options `optimizer`, `lr`, `weight_decay` and `clip_grad_norm`.
    pub fn read(case: &Case, classes: usize) -> Result<Self> {
        if let Some(optimizer) = case.config.get("optimizer").filter(|&value| value != "adamw") {
            return Err(Error::new(format!("config: option `optimizer` is {optimizer}; expected adamw")));
        }
        let required = |name: &str| {
            let missing = || Error::new(format!("config: option `{name}` is missing; expected a number"));
            case.number(name)?.ok_or_else(missing)
        };
        let config = AdamWConfig {
            learning_rate: required("lr")?,
            weight_decay: required("weight_decay")?,
            clip_grad_norm: case.number("clip_grad_norm")?,
            ..AdamWConfig::default()
        };
        let targets = case.integers("target", classes, "class labels")?;
        let images = case.values("input")?.dim(0)?;
        if targets.len() != images {
            let found = targets.len();
            return Err(Error::new(format!("tensor `target` has shape [{found}]; expected [{images}]")));
        }
        let steps = case.values("losses")?.elem_count();
        case.tensor("losses", &[steps])?;
        Ok(Self { config, targets: Tensor::from_vec(targets, images, &Device::Cpu)?, steps })
    }

    /// The loss before each step, (steps); `forward` computes the logits.
    pub fn losses(
        &self,
        parameters: &Parameters,
        forward: impl Fn(&Pass) -> crate::Result<Tensor>,
    ) -> crate::Result<Tensor> {
        let mut optimizer = AdamW::named(parameters.trainable(), self.config)?;
        let streams = Streams::new(0);
        let mut losses = Vec::with_capacity(self.steps);
        for step in 0..self.steps as u64 {
            let loss = nn::cross_entropy(&forward(&Pass::training(&streams, step))?, &self.targets)?;
            losses.push(loss.to_dtype(DType::F64)?.to_scalar::<f64>()?);
            optimizer.update(&backward(&loss)?)?;
        }
        Ok(Tensor::from_vec(losses, self.steps, self.targets.device())?)
    }
}
