//! `conv_nn_2d_attention`: [`ConvNn2dAttention`] in a network.

use super::conv_nn_2d::{Map, shuffled};
use super::{Layer2d, Layer2dConfig, Slot};
use crate::Choice;
use crate::flops::{elements, matmul, values};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use convnn_core::{ConvNn2dAttention, ConvNn2dAttentionConfig, Grid, Neighbors, Pass, Result, Values};
use std::sync::Arc;

impl Layer2dConfig for ConvNn2dAttentionConfig {
    fn build(&self, slot: &Slot, vb: VarBuilder) -> Result<Arc<dyn Layer2d>> {
        let layer = ConvNn2dAttention::new(slot.in_channels, slot.out_channels, self, vb)?;
        layer.check_grid(slot.grid)?;
        Ok(Arc::new(layer))
    }

    fn flops(&self, slot: &Slot) -> u64 {
        let (c, map) = (self, Map::new(slot, self.padding, self.shuffle, self.shuffle_scale));
        let (padded, candidates) = (map.padded, map.candidates(c.candidates));
        let width = if c.values == Values::FeaturesPosition { map.in_channels + 2 } else { map.in_channels };
        let projections = matmul(2 * padded + candidates, width, width);
        let modulation = elements(&[padded, c.neighbors, width]);
        let aggregation = matmul(map.tokens, c.neighbors, width);
        let after =
            matmul(map.tokens, width, map.out_channels) + matmul(map.tokens, map.out_channels, map.out_channels);
        projections + matmul(padded, width, candidates) + modulation + aggregation + after
    }

    fn kept(&self, slot: &Slot) -> u64 {
        let map = Map::new(slot, self.padding, self.shuffle, self.shuffle_scale);
        let positions = if self.values == Values::FeaturesPosition { 2 } else { 0 };
        let width = map.in_channels + positions;
        let with_positions = if positions > 0 { values(map.padded, width) } else { 0 };
        let cropped = if self.padding > 0 { values(map.tokens, width) } else { 0 };
        let projections = values(map.tokens + 2 * map.padded, width);
        // Two indices, scores without and with that of the token itself, and their softmax.
        let choice = values(map.tokens, 5 * self.neighbors);
        // The bias is added in a separate step.
        let after = values(map.tokens, 2 * width) + values(map.tokens, 2 * map.out_channels);
        let before = map.shuffles(self.shuffle) + map.padding(self.padding) + with_positions + cropped;
        before + projections + choice + after
    }

    fn choice(&self, slot: &Slot) -> Option<Choice> {
        let map = Map::new(slot, self.padding, self.shuffle, self.shuffle_scale);
        Some(Choice { candidates: map.candidates(self.candidates), neighbors: self.neighbors })
    }
}

impl Layer2d for ConvNn2dAttention {
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
