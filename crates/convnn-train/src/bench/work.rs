//! The work of a case.

use super::cases::Work;
use crate::session::Session;
use crate::{Error, Result};
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Shape, Tensor, Var};
use convnn_core::operator::{self, Neighbors, Rho, Selection, Weights};
use convnn_core::optim::{AdamW, AdamWConfig};
use convnn_core::{Pass, Streams, backward, nn, random::streams};
use convnn_models::ModelConfig;

/// Seed of all random numbers.
const SEED: u64 = 0;

const CLASSES: usize = 10;

/// Work that can be repeated.
type Repeatable = Box<dyn FnMut() -> Result<()>>;

impl Work {
    /// Builds the model and its input.
    pub(super) fn prepare(&self) -> Result<Repeatable> {
        match *self {
            Self::Step { ref model, batch } => step(model, batch),
            Self::Infer { ref model, batch } => infer(model, batch),
            Self::Select { batch, channels, tokens, neighbors } => {
                let x = normal((batch, tokens, channels), "tokens")?;
                let own = Some((0..tokens as u32).collect());
                let selection = Selection { neighbors, own, ..Selection::default() };
                Ok(Box::new(move || operator::select(&x, &x, &selection).map(drop).map_err(Error::from)))
            }
            Self::Aggregate { batch, channels, tokens, neighbors, outputs } => {
                aggregate([batch, channels, tokens, neighbors, outputs])
            }
        }
    }
}

/// A training step as the engine computes it.
fn step(model: &ModelConfig, batch: usize) -> Result<Repeatable> {
    let session = Session::new(model, SEED)?;
    let config = AdamWConfig { learning_rate: 1e-4, clip_grad_norm: Some(1.0), ..AdamWConfig::default() };
    let mut optimizer = AdamW::named(session.parameters.trainable(), config)?;
    let images = images(model, batch)?;
    let labels = Tensor::from_vec(below(CLASSES, batch, "labels"), batch, &Device::Cpu)?;
    let mut step = 0;
    Ok(Box::new(move || {
        let logits = session.model.forward_t(&images, &Pass::training(&session.streams, step))?;
        let loss = nn::cross_entropy(&logits, &labels)?;
        optimizer.update(&backward(&loss)?)?;
        step += 1;
        Ok(())
    }))
}

/// An evaluation as the engine computes it.
fn infer(config: &ModelConfig, batch: usize) -> Result<Repeatable> {
    let model = Session::new(config, SEED)?.model_to_evaluate()?;
    let images = images(config, batch)?;
    Ok(Box::new(move || model.forward_t(&images, &Pass::evaluation()).map(drop).map_err(Error::from)))
}

fn aggregate([batch, channels, tokens, neighbors, outputs]: [usize; 5]) -> Result<Repeatable> {
    let values = Var::from_tensor(&normal((batch, tokens, channels), "values")?)?;
    let weight = Var::from_tensor(&normal((outputs, channels, neighbors), "weight")?)?;
    let bias = Var::from_tensor(&normal(outputs, "bias")?)?;
    let index = below(tokens, batch * tokens * neighbors, "index");
    let index = Tensor::from_vec(index, (batch, tokens, neighbors), &Device::Cpu)?;
    let chosen = Neighbors::new(&index, tokens)?;
    let weights = Weights::Standard(weight.as_tensor().clone());
    let gradient = normal((batch, tokens, outputs), "gradient")?;
    Ok(Box::new(move || {
        let y = operator::aggregate(&values, &chosen, &Rho::One, &weights, Some(&bias))?;
        let gradients = backward(&y.apply_op1(Arriving(gradient.clone()))?)?;
        let given = [&values, &weight, &bias].map(|var| gradients.get(var).is_some());
        assert_eq!(given, [true; 3], "a gradient of the aggregation is missing");
        Ok(())
    }))
}

/// A function that costs nothing and whose gradient is the given tensor.
struct Arriving(Tensor);

impl CustomOp1 for Arriving {
    fn name(&self) -> &'static str {
        "arriving gradient"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(())))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(self.0.clone()))
    }
}

fn images(model: &ModelConfig, batch: usize) -> Result<Tensor> {
    normal((batch, 3, model.image_size(), model.image_size()), "images")
}

/// Standard normal numbers from the stream `name`.
pub(super) fn normal(shape: impl Into<Shape>, name: &str) -> Result<Tensor> {
    let shape = shape.into();
    let mut generator = Streams::new(SEED).generator(name);
    let values: Vec<f32> = (0..shape.elem_count()).map(|_| streams::normal(&mut generator) as f32).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// `count` integers below `end` from the stream `name`.
fn below(end: usize, count: usize, name: &str) -> Vec<u32> {
    let mut generator = Streams::new(SEED).generator(name);
    (0..count).map(|_| streams::below(&mut generator, end) as u32).collect()
}
