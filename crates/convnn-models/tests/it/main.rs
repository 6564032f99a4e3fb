//! The integration tests of the crate, one binary.
#![allow(clippy::unwrap_used)]

mod config;
mod costs;
mod exact;
mod gradients;
mod memory;
mod parity;
mod pool_tokens;
mod pooling;
mod presets;
mod snapshots;
mod weights;

use candle_core::{DType, Device, Tensor};
use convnn_core::{Parameters, Streams, random::streams};
use convnn_models::MixerConfig;
use convnn_models::mixer::{Slot, TokenMixer};
use std::path::PathBuf;
use std::sync::Arc;

/// A file or folder beside these tests.
fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// An empty set of parameters with seed 0.
fn parameters(dtype: DType) -> Parameters {
    Parameters::new(&Streams::new(0), dtype, &Device::Cpu)
}

/// The mixer of `config` for sequences of `tokens` tokens of width `dim`.
fn mixer(config: &MixerConfig, tokens: usize, dim: usize, parameters: &Parameters) -> Arc<dyn TokenMixer> {
    config.options().build(&Slot { index: 0, tokens, dim }, parameters.builder()).unwrap()
}

/// Samples of the standard normal distribution.
fn normal(name: &str, shape: &[usize], dtype: DType) -> Tensor {
    let mut generator = Streams::new(0).generator(name);
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| streams::normal(&mut generator)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// Classes 0, 1, … in turn.
fn targets(batch: usize, classes: usize) -> Tensor {
    let targets: Vec<u32> = (0..batch).map(|i| (i % classes) as u32).collect();
    Tensor::from_vec(targets, batch, &Device::Cpu).unwrap()
}
