//! What a forward pass needs beside its input: whether it trains, and where its randomness comes from.

use crate::random::streams::{Generator, Streams};

/// One forward pass.
///
/// In training each layer draws from streams of its own, named by purpose, step and layer path. In evaluation dropout
/// is off, and candidates come from a fixed stream that does not depend on the seed of the run, so that evaluating
/// twice, or the same weights elsewhere, gives the same numbers.
#[derive(Clone, Debug)]
pub struct Pass {
    streams: Streams,
    step: Option<u64>,
    momentum: f64,
}

/// PyTorch's default momentum of running statistics.
const MOMENTUM: f64 = 0.1;

impl Pass {
    /// The forward pass of training step `step`.
    pub fn training(streams: &Streams, step: u64) -> Self {
        Self { streams: streams.clone(), step: Some(step), momentum: MOMENTUM }
    }

    /// The `number`-th pass, counted from 1, of a series like [`Self::training`] that leaves running statistics at the
    /// means of those of its batches: without the batches before the series, and all batches counting the same.
    pub fn averaging(streams: &Streams, step: u64, number: u64) -> Self {
        Self { momentum: 1.0 / number.max(1) as f64, ..Self::training(streams, step) }
    }

    /// A forward pass in evaluation.
    pub const fn evaluation() -> Self {
        Self { streams: Streams::new(0), step: None, momentum: 0.0 }
    }

    /// Whether batch statistics and dropout are in use.
    pub const fn is_training(&self) -> bool {
        self.step.is_some()
    }

    /// How far running statistics move towards those of the batch: 0.1 in training, 0 in evaluation.
    pub const fn momentum(&self) -> f64 {
        self.momentum
    }

    /// The generator of `purpose` (`dropout`, `candidates`) for the layer at path `layer`.
    pub fn generator(&self, purpose: &str, layer: &str) -> Generator {
        let name = match self.step {
            Some(step) => format!("{purpose}/{step}/{layer}"),
            None => format!("{purpose}/evaluation/{layer}"),
        };
        self.streams.generator(&name)
    }
}
