//! `local_attention`: attention within neighboring windows, with rotary positions.

use super::heads::{attend, join, mask, scores, split};
use super::{Slot, TokenMixer, TokenMixerConfig};
use crate::error::ensure_option;
use crate::flops::matmul;
use candle_core::Tensor;
use candle_nn::{Module, VarBuilder};
use convnn_core::nn::Linear;
use convnn_core::{Pass, Result};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const KIND: &str = "local_attention";

/// Options of `local_attention`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocalAttentionConfig {
    /// Number of heads.
    pub heads: usize,
    /// Tokens per window, and the farthest that a token attends.
    pub window: usize,
    /// Width of one head; heads · dim_head may differ from the width of the model.
    pub dim_head: usize,
}

impl Default for LocalAttentionConfig {
    fn default() -> Self {
        Self { heads: 1, window: 128, dim_head: 64 }
    }
}

impl TokenMixerConfig for LocalAttentionConfig {
    fn build(&self, slot: &Slot, vb: VarBuilder) -> Result<Arc<dyn TokenMixer>> {
        Ok(Arc::new(LocalAttention::new(slot.dim, self, vb)?))
    }

    /// Counts each window with the two beside it, over a sequence filled up to whole windows.
    fn flops(&self, slot: &Slot) -> u64 {
        let Slot { tokens, dim, .. } = *slot;
        let inner = self.heads * self.dim_head;
        let padded = tokens.div_ceil(self.window) * self.window;
        let seen = 3 * self.window;
        let projections = matmul(tokens, dim, 3 * inner) + matmul(tokens, inner, dim);
        let scale = padded * inner;
        // Two products, a sum and two scalings per rotated element, of the queries and of three windows of keys.
        let rotation = 5 * (padded + 3 * padded) * inner;
        projections + 2 * matmul(padded, inner, seen) + (scale + rotation) as u64
    }
}

/// Self-attention among positions i, j with |i − j| ≤ window, in the same or adjacent windows, with rotary positions on
/// queries and keys: `to_qkv` (3·heads·dim_head, D) and `to_out` (D, heads·dim_head), without biases or dropout.
#[derive(Clone, Debug)]
pub struct LocalAttention {
    qkv: Linear,
    out: Linear,
    heads: usize,
    window: usize,
}

impl LocalAttention {
    /// For tokens of width `dim`.
    pub fn new(dim: usize, config: &LocalAttentionConfig, vb: VarBuilder) -> Result<Self> {
        let LocalAttentionConfig { heads, window, dim_head } = *config;
        ensure_option(heads > 0, &vb, KIND, "heads", heads, "at least 1")?;
        ensure_option(window > 0, &vb, KIND, "window", window, "at least 1")?;
        let even = dim_head >= 2 && dim_head.is_multiple_of(2);
        let expected = "an even number of at least 2, for the rotary positions";
        ensure_option(even, &vb, KIND, "dim_head", dim_head, expected)?;
        let inner = heads * dim_head;
        Ok(Self {
            qkv: Linear::without_bias(dim, 3 * inner, vb.pp("to_qkv"))?,
            out: Linear::without_bias(inner, dim, vb.pp("to_out"))?,
            heads,
            window,
        })
    }
}

impl TokenMixer for LocalAttention {
    fn forward_t(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let part = |i| split(&self.qkv.part(i, 3)?.forward(x)?, self.heads); // (B, h, N, d)
        let (queries, keys) = (part(0)?, part(1)?);
        let rotation = Rotation::new(&queries)?;
        let window = self.window;
        let allowed = |i: usize, j: usize| i.abs_diff(j) <= window && (i / window).abs_diff(j / window) <= 1;
        let scores = scores(&rotation.apply(&queries)?, &rotation.apply(&keys)?)?.broadcast_add(&mask(x, allowed)?)?;
        Ok(self.out.forward(&join(&attend(&scores, &part(2)?, None, pass)?)?)?)
    }
}

/// Rotates features f and f + d/2 of token t, as a pair, by the angle t · 10000^(−2f/d).
struct Rotation {
    cosine: Tensor, // (N, d)
    sine: Tensor,   // (N, d)
}

impl Rotation {
    /// For tensors shaped like `like` (B, h, N, d).
    fn new(like: &Tensor) -> Result<Self> {
        let (_, _, tokens, width) = like.dims4()?;
        // Angles are computed in f32, as in PyTorch.
        let frequency = |f: usize| 1.0 / 10000f32.powf((2 * (f % (width / 2))) as f32 / width as f32);
        let angles: Vec<f32> = (0..tokens * width).map(|at| (at / width) as f32 * frequency(at % width)).collect();
        let table = |f: fn(f32) -> f32| -> Result<Tensor> {
            let values: Vec<f32> = angles.iter().map(|&angle| f(angle)).collect();
            Ok(Tensor::from_vec(values, (tokens, width), like.device())?.to_dtype(like.dtype())?)
        };
        Ok(Self { cosine: table(f32::cos)?, sine: table(f32::sin)? })
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let half = x.dim(3)? / 2;
        let (first, second) = (x.narrow(3, 0, half)?, x.narrow(3, half, half)?);
        let turned = Tensor::cat(&[&second.neg()?, &first], 3)?;
        Ok((x.broadcast_mul(&self.cosine)? + turned.broadcast_mul(&self.sine)?)?)
    }
}
