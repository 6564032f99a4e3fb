//! `conv_nn_attention`: [`ConvNnAttention`] in a network.

use super::{Slot, TokenMixer, TokenMixerConfig};
use crate::flops::{elements, matmul};
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
        let candidates = match c.candidates {
            Candidates::Random { n } => n.min(tokens),
            Candidates::Spatial { n, .. } => n,
            _ => tokens,
        };
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
}

impl TokenMixer for ConvNnAttention {
    fn forward_t(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.forward_t(x, pass)
    }

    fn neighbors(&self, x: &Tensor) -> Result<Option<Neighbors>> {
        self.neighbors(x).map(Some)
    }
}
