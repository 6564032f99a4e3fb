//! Attention to a fixed pattern of positions: a band, or every so many tokens.

use super::heads::{attend, join, scores, split};
use crate::config::{SparseAttentionConfig, SparseMode};
use crate::nn::{Dropout, Linear};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use convnn_core::{Pass, Result};

/// Self-attention among positions i, j with |i − j| ≤ window / 2 (`local`) or |i − j| a multiple of the window
/// (`strided`): `q_proj`, `k_proj`, `v_proj`, `out_proj` (D, D), no bias.
#[derive(Clone, Debug)]
pub struct SparseAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    heads: usize,
    mode: SparseMode,
    window: usize,
    dropout: Dropout,
}

impl SparseAttention {
    /// Over tokens of width `dim`.
    ///
    /// # Errors
    /// Where `builder` holds other shapes.
    pub fn new(dim: usize, config: &SparseAttentionConfig, builder: VarBuilder) -> Result<Self> {
        let linear = |name| Linear::without_bias(dim, dim, builder.pp(name));
        Ok(Self {
            query: linear("q_proj")?,
            key: linear("k_proj")?,
            value: linear("v_proj")?,
            out: linear("out_proj")?,
            heads: config.heads,
            mode: config.mode,
            window: config.window,
            dropout: Dropout::new(config.dropout, builder.prefix()),
        })
    }

    /// (B, N, D) → (B, N, D)
    ///
    /// # Errors
    /// Where the last dimension is not D.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let project = |linear: &Linear| split(&linear.forward(x)?, self.heads); // (B, h, N, d)
        let window = self.window;
        let mask = match self.mode {
            SparseMode::Local => mask(x, |i, j| i.abs_diff(j) <= window / 2)?,
            SparseMode::Strided => mask(x, |i, j| i.abs_diff(j).is_multiple_of(window))?,
        };
        let scores = scores(&project(&self.query)?, &project(&self.key)?)?.broadcast_add(&mask)?;
        self.out.forward(&join(&attend(&scores, &project(&self.value)?, Some(&self.dropout), pass)?)?)
    }
}

/// (N, N) for the tokens of `x` (B, N, D): 0 where `allowed`, minus infinity elsewhere.
pub(super) fn mask(x: &Tensor, allowed: impl Fn(usize, usize) -> bool) -> Result<Tensor> {
    let tokens = x.dim(1)?;
    let value = |i, j| if allowed(i, j) { 0f32 } else { f32::NEG_INFINITY };
    let values: Vec<f32> = (0..tokens * tokens).map(|at| value(at / tokens, at % tokens)).collect();
    Ok(Tensor::from_vec(values, (tokens, tokens), x.device())?.to_dtype(x.dtype())?)
}
