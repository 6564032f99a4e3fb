//! One block of a Vision Transformer.

use super::VitConfig;
use crate::mixer::TokenMixer;
use candle_core::Tensor;
use candle_nn::{Module, VarBuilder};
use convnn_core::nn::{Dropout, LayerNorm, Linear, add_dropout, gelu};
use convnn_core::{Pass, Result};
use std::sync::Arc;

/// A mixer and an MLP, each after a norm and inside a residual connection.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) mixer: Arc<dyn TokenMixer>,
    norms: [LayerNorm; 2],
    hidden: Linear,
    out: Linear,
    dropouts: [Dropout; 3],
}

impl Block {
    pub(super) fn new(config: &VitConfig, mixer: Arc<dyn TokenMixer>, vb: VarBuilder) -> Result<Self> {
        let dim = config.dim;
        let dropout = |name| Dropout::new(config.dropout, &vb.pp(name));
        Ok(Self {
            mixer,
            norms: [LayerNorm::new(dim, vb.pp("norm1"))?, LayerNorm::new(dim, vb.pp("norm2"))?],
            hidden: Linear::new(dim, config.mlp, vb.pp("mlp.0"))?,
            out: Linear::new(config.mlp, dim, vb.pp("mlp.3"))?,
            dropouts: [dropout("dropout1")?, dropout("mlp.2")?, dropout("dropout2")?],
        })
    }

    /// The first half, which mixes the tokens: (B, N, D) → (B, N, D). `observe` gets what the mixer sees.
    pub(super) fn mix(&self, x: &Tensor, pass: &Pass, observe: impl FnOnce(&Tensor) -> Result<()>) -> Result<Tensor> {
        let normed = self.norms[0].forward(x)?;
        observe(&normed)?;
        let mixed = self.mixer.forward_t(&normed, pass)?;
        add_dropout(x, &mixed, self.dropouts[0].mask(pass)?)
    }

    /// The second half, which transforms each token on its own: (B, N, D) → (B, N, D).
    pub(super) fn transform(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let hidden = self.hidden.forward(&self.norms[1].forward(x)?)?;
        let out = self.out.forward(&gelu(&hidden, self.dropouts[1].mask(pass)?)?)?;
        add_dropout(x, &out, self.dropouts[2].mask(pass)?)
    }
}
