//! `conv_nn_2d`: [`ConvNn2d`] in a network.

use super::{Layer2d, Layer2dConfig, Slot};
use crate::Choice;
use crate::flops::{matmul, values};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use convnn_core::{
    Candidates, Compare, ConvNn2d, ConvNn2dConfig, Grid, Kernel, Neighbors, Pass, Result, Shuffle, Values,
};
use std::sync::Arc;

impl Layer2dConfig for ConvNn2dConfig {
    fn build(&self, slot: &Slot, vb: VarBuilder) -> Result<Arc<dyn Layer2d>> {
        let layer = ConvNn2d::new(slot.in_channels, slot.out_channels, self, vb)?;
        layer.check_grid(slot.grid)?;
        Ok(Arc::new(layer))
    }

    fn flops(&self, slot: &Slot) -> u64 {
        let (c, map) = (self, Map::new(slot, self.padding, self.shuffle, self.shuffle_scale));
        let compared = match c.compare {
            Compare::Position => 2,
            Compare::Blend(_) => map.in_channels + 2,
            _ => map.in_channels,
        };
        let carried = if c.values == Values::FeaturesPosition { map.in_channels + 2 } else { map.in_channels };
        let aggregation = match c.kernel {
            Kernel::Depthwise => matmul(map.tokens, c.neighbors, map.out_channels),
            _ => matmul(map.tokens, c.neighbors * carried, map.out_channels),
        };
        // The published code also searches neighbors for the padding, whose rows it then drops.
        matmul(map.padded, compared, map.candidates(c.candidates)) + aggregation
    }

    fn kept(&self, slot: &Slot) -> u64 {
        let map = Map::new(slot, self.padding, self.shuffle, self.shuffle_scale);
        let carried = match self.values {
            Values::FeaturesPosition => map.padding(self.padding) + values(map.padded, map.in_channels + 2),
            _ => 0,
        };
        let index = values(map.tokens, self.neighbors);
        map.shuffles(self.shuffle) + carried + index + values(map.tokens, map.out_channels)
    }

    fn choice(&self, slot: &Slot) -> Option<Choice> {
        let map = Map::new(slot, self.padding, self.shuffle, self.shuffle_scale);
        Some(Choice { candidates: map.candidates(self.candidates), neighbors: self.neighbors })
    }
}

impl Layer2d for ConvNn2d {
    fn forward_tokens(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<Tensor> {
        self.forward_tokens(x, grid, pass)
    }

    fn neighbors(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<Option<Neighbors>> {
        self.neighbors_of_tokens(x, grid, pass).map(Some)
    }

    fn output_grid(&self, grid: Grid) -> Grid {
        shuffled(grid, self.config().shuffle, self.config().shuffle_scale)
    }
}

/// What a ConvNN layer sees of its slot: the map after any pixel-unshuffle, with padding.
pub(super) struct Map {
    grid: Grid,
    pub(super) tokens: usize,
    pub(super) padded: usize,
    pub(super) in_channels: usize,
    pub(super) out_channels: usize,
}

impl Map {
    pub(super) const fn new(slot: &Slot, padding: usize, shuffle: Shuffle, scale: usize) -> Self {
        let (down, up) = (if shuffle.before() { scale } else { 1 }, if shuffle.after() { scale } else { 1 });
        let grid = Grid::new(slot.grid.height / down, slot.grid.width / down);
        Self {
            grid,
            tokens: grid.tokens(),
            padded: grid.padded(padding).tokens(),
            in_channels: slot.in_channels * down * down,
            out_channels: slot.out_channels * up * up,
        }
    }

    /// What padding keeps: the map with rows added, then with columns added.
    pub(super) fn padding(&self, padding: usize) -> u64 {
        match padding {
            0 => 0,
            _ => values(self.padded + self.grid.padded(padding).height * self.grid.width, self.in_channels),
        }
    }

    /// What pixel shuffles keep: the map before, and the result.
    pub(super) fn shuffles(&self, shuffle: Shuffle) -> u64 {
        let before = if shuffle.before() { values(self.tokens, self.in_channels) } else { 0 };
        before + if shuffle.after() { values(self.tokens, self.out_channels) } else { 0 }
    }

    /// M
    pub(super) fn candidates(&self, candidates: Candidates) -> usize {
        match candidates {
            Candidates::Random { n } => n.min(self.padded),
            // On a map with fewer rows or columns than the lattice, every place is a candidate.
            Candidates::Spatial { n, .. } if n <= self.grid.height.min(self.grid.width) => n * n,
            _ => self.padded,
        }
    }
}

/// Size of the output map.
pub(super) const fn shuffled(grid: Grid, shuffle: Shuffle, scale: usize) -> Grid {
    let (down, up) = (if shuffle.before() { scale } else { 1 }, if shuffle.after() { scale } else { 1 });
    Grid::new(grid.height / down * up, grid.width / down * up)
}
