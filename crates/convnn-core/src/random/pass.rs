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
}

impl Pass {
    /// The forward pass of training step `step`.
    pub fn training(streams: &Streams, step: u64) -> Self {
        Self { streams: streams.clone(), step: Some(step) }
    }

    /// A forward pass in evaluation.
    pub const fn evaluation() -> Self {
        Self { streams: Streams::new(0), step: None }
    }

    /// Whether batch statistics and dropout are in use.
    pub const fn is_training(&self) -> bool {
        self.step.is_some()
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
