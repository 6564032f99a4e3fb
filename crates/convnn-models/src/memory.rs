//! The memory that training a model takes, estimated from its configuration.

use crate::summary::LayerSummary;
use std::collections::BTreeMap;

/// What the memory of a training process depends on, in values of 4 bytes.
///
/// The estimate adds up what has to be in memory at the same time: weights, gradients, the optimizer's averages, and
/// what each image of a batch leaves behind for the backward pass. Measured peaks of the presets are within 15 % of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Weights and running statistics.
    pub parameters: u64,
    /// The largest tensor among them.
    pub largest: u64,
    /// What a training step keeps of one image for the backward pass.
    pub kept: u64,
    /// What the backward pass needs besides for one image: the gradients of the widest layer, and copies of some.
    pub working: u64,
    /// One image.
    pub image: u64,
}

/// The program with its threads, in bytes.
const PROGRAM: u64 = 24 << 20;

/// Batches that the loader keeps ready: what its threads hold, and the one in use.
const BATCHES: u64 = 5;

impl Memory {
    pub(crate) fn new(shapes: &BTreeMap<String, Vec<usize>>, layers: &[LayerSummary], side: usize) -> Self {
        let size = |shape: &Vec<usize>| shape.iter().fold(1u64, |size, &n| size.saturating_mul(n as u64));
        Self {
            parameters: shapes.values().map(size).fold(0, u64::saturating_add),
            largest: shapes.values().map(size).max().unwrap_or(0),
            kept: layers.iter().map(|layer| layer.kept).fold(0, u64::saturating_add),
            working: layers.iter().map(|layer| layer.kept.saturating_mul(3) / 2).max().unwrap_or(0),
            image: 3 * (side as u64).saturating_mul(side as u64),
        }
    }

    /// Bytes that do not depend on the batch size. The optimizer keeps `slots` values per weight: 2 for Adam, 1 for
    /// momentum, 1 more for an average of the weights.
    pub const fn fixed(&self, slots: u64) -> u64 {
        // Weights, gradients and averages; the writer of checkpoints holds two copies of one tensor.
        let values = self.parameters.saturating_mul(2 + slots).saturating_add(self.largest.saturating_mul(2));
        PROGRAM.saturating_add(values.saturating_mul(4))
    }

    /// Bytes for each image of a batch.
    pub const fn per_image(&self) -> u64 {
        let values = self.kept.saturating_add(self.working).saturating_add(self.image.saturating_mul(BATCHES));
        values.saturating_mul(4)
    }

    /// Expected peak in bytes of training with batches of `batch_size` images, the data set not counted.
    pub const fn training(&self, batch_size: usize, slots: u64) -> u64 {
        self.fixed(slots).saturating_add(self.per_image().saturating_mul(batch_size as u64))
    }

    /// Bytes that an evaluation takes whatever the batch size, weights that were read from a file not counted.
    pub const fn fixed_to_evaluate(&self) -> u64 {
        PROGRAM.saturating_add(self.parameters.saturating_mul(4))
    }

    /// Bytes that an evaluation takes for each image of a batch. Nothing is kept for a backward pass, so that the widest
    /// layer decides.
    pub const fn per_image_to_evaluate(&self) -> u64 {
        self.working.saturating_add(self.image.saturating_mul(BATCHES)).saturating_mul(4)
    }
}
