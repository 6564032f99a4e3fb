//! `local_attention`: attention within neighboring windows, with rotary positions.

use super::heads::{attend, join, mask, scores, split};
use super::{Slot, TokenMixer, TokenMixerConfig};
use crate::error::{ensure_option, within_option};
use crate::flops::{elements, matmul, values};
use candle_core::Tensor;
use candle_nn::{Module, VarBuilder};
use convnn_core::nn::Linear;
use convnn_core::{Pass, Result};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const KIND: &str = "local_attention";
/// The largest values of the options.
const MOST_HEADS: usize = 1 << 10;
const MOST_WINDOW: usize = 1 << 12;
const MOST_WIDTH: usize = 1 << 12;

/// Options of `local_attention`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct LocalAttentionConfig {
    /// Number of heads.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MOST_HEADS)))]
    pub heads: usize,
    /// Tokens per window, and the farthest that a token attends.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MOST_WINDOW)))]
    pub window: usize,
    /// Width of one head; heads · dim_head may differ from the width of the model.
    #[cfg_attr(feature = "schema", schemars(range(min = 2, max = MOST_WIDTH)))]
    pub dim_head: usize,
    /// Whether to compute what the published runs did instead of the standard definition: the rotary phase of a query
    /// is one window ahead, and the zero tokens that fill the last window are attended with score 0.
    pub published: bool,
}

impl Default for LocalAttentionConfig {
    fn default() -> Self {
        Self { heads: 1, window: 128, dim_head: 64, published: false }
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
        let scale = elements(&[padded, inner]);
        // Two products, a sum and two scalings per rotated element, of the queries and of three windows of keys.
        let rotation = elements(&[5, padded + 3 * padded, inner]);
        projections + 2 * matmul(padded, inner, seen) + scale + rotation
    }

    fn kept(&self, slot: &Slot) -> u64 {
        let Slot { tokens, dim, .. } = *slot;
        let inner = self.heads * self.dim_head;
        let padded = if self.published { tokens.next_multiple_of(self.window) } else { tokens };
        let copies = if self.heads > 1 { 3 } else { 0 };
        let split = values(tokens, (3 + copies) * inner) + values(padded - tokens, 2 * inner);
        // Half a copy with its sign changed, the turned copy, two products and their sum; the queries are scaled.
        let rotation = values(2 * (tokens + padded), 2 * inner) + values(tokens, inner);
        let maps = values(tokens * self.heads, 3 * padded);
        split + rotation + maps + values(tokens, inner + dim)
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
    published: bool,
}

impl LocalAttention {
    /// For tokens of width `dim`.
    ///
    /// # Errors
    /// [`Error::Option`](convnn_core::Error::Option) for an option out of its range, and those of `vb`.
    pub fn new(dim: usize, config: &LocalAttentionConfig, vb: VarBuilder) -> Result<Self> {
        let LocalAttentionConfig { heads, window, dim_head, published } = *config;
        within_option(heads, 1, MOST_HEADS, &vb, KIND, "heads")?;
        within_option(window, 1, MOST_WINDOW, &vb, KIND, "window")?;
        within_option(dim_head, 2, MOST_WIDTH, &vb, KIND, "dim_head")?;
        let even = dim_head >= 2 && dim_head.is_multiple_of(2);
        let expected = "an even number of at least 2, for the rotary positions";
        ensure_option(even, &vb, KIND, "dim_head", dim_head, expected)?;
        let inner = heads * dim_head;
        Ok(Self {
            qkv: Linear::without_bias(dim, 3 * inner, vb.pp("to_qkv"))?,
            out: Linear::without_bias(inner, dim, vb.pp("to_out"))?,
            heads,
            window,
            published,
        })
    }
}

impl TokenMixer for LocalAttention {
    fn forward_t(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let Self { heads, window, published, .. } = *self;
        let part = |i| split(&self.qkv.part(i, 3)?.forward(x)?, heads); // (B, h, N, d)
        let (queries, mut keys, mut values) = (part(0)?, part(1)?, part(2)?);
        let tokens = queries.dim(2)?;
        if published {
            let fill = tokens.next_multiple_of(window) - tokens;
            keys = keys.pad_with_zeros(2, 0, fill)?; // (B, h, M, d)
            values = values.pad_with_zeros(2, 0, fill)?;
        }
        let ahead = if published { window } else { 0 };
        let scores = scores(&rotate(&queries, ahead)?, &rotate(&keys, 0)?)?; // (B, h, N, M)
        let allowed = |i: usize, j: usize| i.abs_diff(j) <= window && (i / window).abs_diff(j / window) <= 1;
        let scores = scores.broadcast_add(&mask(&scores, allowed)?)?;
        Ok(self.out.forward(&join(&attend(&scores, &values, None, pass)?)?)?)
    }
}

/// Rotates features f and f + d/2 of token t, as a pair, by the angle (t + ahead) · 10000^(−2f/d): (B, h, N, d).
fn rotate(x: &Tensor, ahead: usize) -> Result<Tensor> {
    let (_, _, tokens, width) = x.dims4()?;
    let half = width / 2;
    // Angles are computed in f32, as in PyTorch.
    let frequency = |f: usize| 1.0 / 10000f32.powf((2 * (f % half)) as f32 / width as f32);
    let angle = |at: usize| (at / width + ahead) as f32 * frequency(at % width);
    let table = |f: fn(f32) -> f32| -> Result<Tensor> {
        let values: Vec<f32> = (0..tokens * width).map(|at| f(angle(at))).collect();
        Ok(Tensor::from_vec(values, (tokens, width), x.device())?.to_dtype(x.dtype())?)
    };
    let (first, second) = (x.narrow(3, 0, half)?, x.narrow(3, half, half)?);
    let turned = Tensor::cat(&[&second.neg()?, &first], 3)?;
    Ok((x.broadcast_mul(&table(f32::cos)?)? + turned.broadcast_mul(&table(f32::sin)?)?)?)
}
