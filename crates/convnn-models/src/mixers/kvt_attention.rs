//! KVT: attention to the K largest scores of each row (Wang et al., ECCV 2022).

use crate::config::KvtAttentionConfig;
use crate::nn::{Dropout, Linear};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use convnn_core::ops::{self, Attention};
use convnn_core::{Error, Pass, Result};

/// Self-attention whose softmax runs over the K largest scores of each row: `qkv` (3D, D) and `proj` (D, D), no bias.
///
/// Which scores are kept has no gradient; those kept have. Among equal scores the lower token index is kept.
#[derive(Clone, Debug)]
pub struct KvtAttention {
    qkv: Linear,
    out: Linear,
    heads: usize,
    neighbors: usize,
    dropout: Dropout,
    path: String,
}

impl KvtAttention {
    /// Over tokens of width `dim`.
    ///
    /// # Errors
    /// Where `builder` holds other shapes.
    pub fn new(dim: usize, config: &KvtAttentionConfig, builder: VarBuilder) -> Result<Self> {
        Ok(Self {
            qkv: Linear::without_bias(dim, 3 * dim, builder.pp("qkv"))?,
            out: Linear::without_bias(dim, dim, builder.pp("proj"))?,
            heads: config.heads,
            neighbors: config.neighbors,
            dropout: Dropout::new(config.dropout, builder.prefix()),
            path: builder.prefix(),
        })
    }

    /// Number of heads.
    pub const fn heads(&self) -> usize {
        self.heads
    }

    /// K.
    pub const fn neighbors(&self) -> usize {
        self.neighbors
    }

    /// Queries, keys and values in one: (3D, D).
    pub const fn qkv(&self) -> &Linear {
        &self.qkv
    }

    /// The output projection (D, D).
    pub const fn out(&self) -> &Linear {
        &self.out
    }

    /// (B, N, D) → (B, N, D)
    ///
    /// # Errors
    /// Where the last dimension is not D, or K is larger than N.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let candidates = x.dim(1)?;
        if self.neighbors > candidates {
            let (layer, neighbors) = (self.path.clone(), self.neighbors);
            return Err(Error::NeighborsExceedCandidates { layer, neighbors, candidates });
        }
        let options =
            Attention { heads: self.heads, neighbors: Some(self.neighbors), dropout: self.dropout.mask(pass)? };
        self.out.forward(&ops::attention(&self.qkv.forward(x)?, options)?)
    }
}
