//! `conv_nn_attention`: [`ConvNnAttention`] in a network.

use super::{Slot, TokenMixer, TokenMixerConfig};
use crate::Choice;
use crate::flops::{elements, matmul, values};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use convnn_core::{Candidates, ConvNnAttention, ConvNnAttentionConfig, Kernel, Modulation, Neighbors, Pass, Result};
use std::sync::Arc;

impl TokenMixerConfig for ConvNnAttentionConfig {
    fn build(&self, slot: &Slot, vb: VarBuilder) -> Result<Arc<dyn TokenMixer>> {
        let mixer = ConvNnAttention::new(slot.dim, self, vb)?;
        mixer.check_tokens(slot.tokens)?;
        Ok(Arc::new(mixer))
    }

    fn flops(&self, slot: &Slot) -> u64 {
        let (c, Slot { tokens, dim, .. }) = (self, *slot);
        let candidates = candidates(c.candidates, tokens);
        // Only the candidates among the queries are projected.
        let projections = 3 * matmul(tokens, dim, dim) + matmul(candidates, dim, dim);
        let (head, rows) = (dim / c.heads, tokens * c.heads);
        let width = if c.positions { head + 1 } else { head };
        let modulation = if c.modulation == Modulation::None { 0 } else { elements(&[rows, c.neighbors, width]) };
        let aggregation = match c.kernel {
            Kernel::Standard => matmul(rows, c.neighbors * width, head),
            Kernel::DepthwiseSeparable => matmul(rows, c.neighbors, width) + matmul(rows, width, head),
            _ => matmul(rows, c.neighbors, width),
        };
        projections + matmul(rows, width, candidates) + modulation + aggregation
    }

    fn kept(&self, slot: &Slot) -> u64 {
        let (c, Slot { tokens, dim, .. }) = (self, *slot);
        let (rows, width) = (tokens * c.heads, dim / c.heads + usize::from(c.positions));
        // Keys, queries and values: projected, split into heads, with positions.
        let split = if c.heads > 1 { values(tokens, dim) } else { 0 };
        let positions = if c.positions { values(rows, width) } else { 0 };
        let projections = 3 * (values(tokens, dim) + split + positions);
        let modulation = if c.modulation == Modulation::None { 0 } else { 2 };
        let choice = values(rows, (1 + modulation) * c.neighbors);
        let separable = if c.kernel == Kernel::DepthwiseSeparable { values(rows, width) } else { 0 };
        let dropout = if c.dropout > 0.0 { values(tokens, dim) } else { 0 };
        projections + choice + separable + dropout + split + values(tokens, 2 * dim)
    }

    fn choice(&self, slot: &Slot) -> Option<Choice> {
        Some(Choice { candidates: candidates(self.candidates, slot.tokens), neighbors: self.neighbors })
    }
}

/// M
fn candidates(candidates: Candidates, tokens: usize) -> usize {
    match candidates {
        Candidates::Random { n } => n.min(tokens),
        Candidates::Spatial { n, .. } => n.min(tokens),
        _ => tokens,
    }
}

impl TokenMixer for ConvNnAttention {
    fn forward_t(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.forward_t(x, pass)
    }

    fn neighbors(&self, x: &Tensor) -> Result<Option<Neighbors>> {
        self.neighbors(x).map(Some)
    }
}
