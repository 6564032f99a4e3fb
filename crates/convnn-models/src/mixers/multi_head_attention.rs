//! Multi-head self-attention, the paper's baseline.

use crate::config::MultiHeadAttentionConfig;
use crate::nn::{Dropout, Linear};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use convnn_core::ops::{self, Attention};
use convnn_core::{Pass, Result};

/// softmax(Q Kᵀ / √d) V, a head each, and an output projection: `W_q`, `W_k`, `W_v`, `W_o` (D, D), no bias.
#[derive(Clone, Debug)]
pub struct MultiHeadAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    heads: usize,
    dropout: Dropout,
}

impl MultiHeadAttention {
    /// Over tokens of width `dim`.
    ///
    /// # Errors
    /// Where `builder` holds other shapes.
    pub fn new(dim: usize, config: &MultiHeadAttentionConfig, builder: VarBuilder) -> Result<Self> {
        let linear = |name| Linear::without_bias(dim, dim, builder.pp(name));
        Ok(Self {
            query: linear("W_q")?,
            key: linear("W_k")?,
            value: linear("W_v")?,
            out: linear("W_o")?,
            heads: config.heads,
            dropout: Dropout::new(config.dropout, builder.prefix()),
        })
    }

    /// Number of heads.
    pub const fn heads(&self) -> usize {
        self.heads
    }

    /// W_q (D, D).
    pub const fn query(&self) -> &Linear {
        &self.query
    }

    /// W_k (D, D).
    pub const fn key(&self) -> &Linear {
        &self.key
    }

    /// W_v (D, D).
    pub const fn value(&self) -> &Linear {
        &self.value
    }

    /// W_o (D, D).
    pub const fn out(&self) -> &Linear {
        &self.out
    }

    /// (B, N, D) → (B, N, D)
    ///
    /// # Errors
    /// Where the last dimension is not D.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        // One product in place of three, whose gradients for x would have to be added up.
        let weight = Tensor::cat(&[&self.query, &self.key, &self.value].map(Linear::weight), 0)?; // (3D, D)
        let qkv = ops::linear(x, &weight, None)?;
        let options = Attention { heads: self.heads, neighbors: None, dropout: self.dropout.mask(pass)? };
        self.out.forward(&ops::attention(&qkv, options)?)
    }
}
