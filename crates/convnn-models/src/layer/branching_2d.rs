//! `branching_2d` and `branching_2d_attention`: a ConvNN branch beside a convolution, in a network.

use super::{Conv2dConfig, Layer2d, Layer2dConfig, Slot};
use crate::Choice;
use crate::flops::{matmul, values};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use convnn_core::layers::{Branch, Branching, BranchingConfig};
use convnn_core::{
    Branching2d, Branching2dAttention, Branching2dAttentionConfig, Branching2dConfig, Grid, Kernel, Neighbors, Pass,
    Result, Shuffle, Values,
};
use std::sync::Arc;

impl Layer2dConfig for Branching2dConfig {
    fn build(&self, slot: &Slot, vb: VarBuilder) -> Result<Arc<dyn Layer2d>> {
        let layer = Branching2d::new(slot.in_channels, slot.out_channels, self, vb)?;
        layer.check_grid(slot.grid)?;
        Ok(Arc::new(layer))
    }

    fn flops(&self, slot: &Slot) -> u64 {
        flops(self, slot)
    }

    fn kept(&self, slot: &Slot) -> u64 {
        // One op computes both branches if both aggregate the tokens themselves by a standard kernel.
        let branch = &self.branch;
        let plain = branch.values == Values::Features && branch.shuffle == Shuffle::None;
        kept(self, slot, plain && branch.kernel != Kernel::Depthwise)
    }

    fn choice(&self, slot: &Slot) -> Option<Choice> {
        choice(self, slot)
    }
}

impl Layer2dConfig for Branching2dAttentionConfig {
    fn build(&self, slot: &Slot, vb: VarBuilder) -> Result<Arc<dyn Layer2d>> {
        let layer = Branching2dAttention::new(slot.in_channels, slot.out_channels, self, vb)?;
        layer.check_grid(slot.grid)?;
        Ok(Arc::new(layer))
    }

    fn flops(&self, slot: &Slot) -> u64 {
        flops(self, slot)
    }

    fn kept(&self, slot: &Slot) -> u64 {
        kept(self, slot, false)
    }

    fn choice(&self, slot: &Slot) -> Option<Choice> {
        choice(self, slot)
    }
}

fn flops<C: Layer2dConfig>(config: &BranchingConfig<C>, slot: &Slot) -> u64 {
    let (tokens, outputs) = (slot.grid.tokens(), slot.out_channels);
    let share = config.branch_channels(outputs);
    let neighbors = if share == 0 { 0 } else { config.branch.flops(&Slot { out_channels: share, ..*slot }) };
    let convolution = matmul(tokens, slot.in_channels * config.kernel_size.pow(2), outputs - share);
    neighbors + convolution + matmul(tokens, outputs, outputs)
}

/// What both branches keep, the two side by side unless they are `fused`, and the layer that joins them.
fn kept<C: Layer2dConfig>(config: &BranchingConfig<C>, slot: &Slot, fused: bool) -> u64 {
    let (tokens, outputs) = (slot.grid.tokens(), slot.out_channels);
    let share = config.branch_channels(outputs);
    let joined = values(tokens, outputs);
    let branch = if share == 0 { 0 } else { config.branch.kept(&Slot { out_channels: share, ..*slot }) };
    let convolution = values(tokens, outputs - share);
    let both = share > 0 && share < outputs;
    branch + convolution + if both && !fused { 2 * joined } else { joined }
}

fn choice<C: Layer2dConfig>(config: &BranchingConfig<C>, slot: &Slot) -> Option<Choice> {
    match config.branch_channels(slot.out_channels) {
        0 => Conv2dConfig { kernel_size: config.kernel_size }.choice(slot),
        _ => config.branch.choice(slot),
    }
}

impl<B: Branch + 'static> Layer2d for Branching<B> {
    fn forward_tokens(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<Tensor> {
        self.forward_tokens(x, grid, pass)
    }

    fn neighbors(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<Option<Neighbors>> {
        self.neighbor_branch().map(|branch| branch.neighbors_of_tokens(x, grid, pass)).transpose()
    }

    fn output_grid(&self, grid: Grid) -> Grid {
        self.output_grid(grid)
    }
}
