//! What a run will need, said before its first step.

use crate::Result;
use crate::config::{OptimizerKind, RunConfig};
use crate::text::bytes;
use convnn_models::Memory;

/// The memory and the disk space of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Peak memory in bytes.
    pub memory: u64,
    /// Size of a checkpoint in bytes.
    pub checkpoint: u64,
    /// Most disk space at a time in bytes.
    pub disk: u64,
}

/// Checkpoints that exist at the same time: the newest two, the best, and the one being written.
const CHECKPOINTS: u64 = 4;

impl Expected {
    /// What a run with `config` needs, `data` bytes of images included.
    ///
    /// # Errors
    /// If the configuration is not that of a model.
    pub fn of(config: &RunConfig, data: u64) -> Result<Self> {
        let (memory, slots) = (config.model.memory()?, slots(config));
        let weights = memory.parameters.saturating_mul(4);
        let checkpoint = weights.saturating_mul(1 + slots);
        Ok(Self {
            memory: memory.training(config.batch_size, slots).saturating_add(data),
            checkpoint,
            disk: checkpoint.saturating_mul(CHECKPOINTS).saturating_add(weights),
        })
    }

    /// One line for people.
    pub fn line(&self) -> String {
        format!(
            "expected: {} of memory, {} of disk ({} per checkpoint)",
            bytes(self.memory),
            bytes(self.disk),
            bytes(self.checkpoint)
        )
    }
}

/// Values that are kept for each weight: the averages of the optimizer, and that of the weights. See [`Memory::fixed`].
pub fn slots(config: &RunConfig) -> u64 {
    let optimizer = match config.optimizer {
        OptimizerKind::Sgd if config.momentum == 0.0 => 0,
        // Almost all weights are in matrices.
        OptimizerKind::Sgd | OptimizerKind::Muon => 1,
        _ => 2,
    };
    optimizer + u64::from(config.ema_decay.is_some())
}

/// What training takes with batches of `batch_size` images, as a clause.
pub fn at_batch_size(memory: &Memory, config: &RunConfig) -> String {
    let slots = slots(config);
    format!(
        "{} at batch size {}: {} fixed, {} per image",
        bytes(memory.training(config.batch_size, slots)),
        config.batch_size,
        bytes(memory.fixed(slots)),
        bytes(memory.per_image())
    )
}
