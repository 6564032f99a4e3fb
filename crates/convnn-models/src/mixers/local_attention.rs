//! Attention to neighboring windows with rotary positions, as in the local-attention package the paper compares with.

use super::heads::{attend, join, scores, split};
use super::sparse_attention::mask;
use crate::config::LocalAttentionConfig;
use crate::nn::Linear;
use candle_core::Tensor;
use candle_nn::VarBuilder;
use convnn_core::{Pass, Result};

/// Self-attention among positions i, j with |i − j| ≤ window, in the same or adjacent windows, queries and keys turned
/// by their position: `to_qkv` (3·heads·dim_head, D) and `to_out` (D, heads·dim_head), no bias, no dropout.
#[derive(Clone, Debug)]
pub struct LocalAttention {
    qkv: Linear,
    out: Linear,
    heads: usize,
    window: usize,
}

impl LocalAttention {
    /// Over tokens of width `dim`.
    ///
    /// # Errors
    /// Where `builder` holds other shapes.
    pub fn new(dim: usize, config: &LocalAttentionConfig, builder: VarBuilder) -> Result<Self> {
        let inner = config.heads * config.dim_head;
        Ok(Self {
            qkv: Linear::without_bias(dim, 3 * inner, builder.pp("to_qkv"))?,
            out: Linear::without_bias(inner, dim, builder.pp("to_out"))?,
            heads: config.heads,
            window: config.window,
        })
    }

    /// (B, N, D) → (B, N, D)
    ///
    /// # Errors
    /// Where the last dimension is not D.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let part = |i| split(&self.qkv.part(i, 3)?.forward(x)?, self.heads); // (B, h, N, d)
        let (queries, keys) = (part(0)?, part(1)?);
        let rotation = Rotation::new(&queries)?;
        let window = self.window;
        let allowed = |i: usize, j: usize| i.abs_diff(j) <= window && (i / window).abs_diff(j / window) <= 1;
        let scores = scores(&rotation.apply(&queries)?, &rotation.apply(&keys)?)?.broadcast_add(&mask(x, allowed)?)?;
        self.out.forward(&join(&attend(&scores, &part(2)?, None, pass)?)?)
    }
}

/// Turns features f and f + d/2 of token t, as a pair, by the angle t · 10000^(−2f/d).
struct Rotation {
    cosine: Tensor, // (N, d)
    sine: Tensor,   // (N, d)
}

impl Rotation {
    /// For tensors of the shape of `like` (B, h, N, d).
    fn new(like: &Tensor) -> Result<Self> {
        let (_, _, tokens, width) = like.dims4()?;
        // PyTorch's peer computes the angles in f32.
        let frequency = |f: usize| 1.0 / 10000f32.powf((2 * (f % (width / 2))) as f32 / width as f32);
        let angles: Vec<f32> = (0..tokens * width).map(|at| (at / width) as f32 * frequency(at % width)).collect();
        let place = |f: fn(f32) -> f32| -> Result<Tensor> {
            let values: Vec<f32> = angles.iter().map(|&angle| f(angle)).collect();
            Ok(Tensor::from_vec(values, (tokens, width), like.device())?.to_dtype(like.dtype())?)
        };
        Ok(Self { cosine: place(f32::cos)?, sine: place(f32::sin)? })
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let half = x.dim(3)? / 2;
        let (first, second) = (x.narrow(3, 0, half)?, x.narrow(3, half, half)?);
        let turned = Tensor::cat(&[&second.neg()?, &first], 3)?;
        Ok((x.broadcast_mul(&self.cosine)? + turned.broadcast_mul(&self.sine)?)?)
    }
}
