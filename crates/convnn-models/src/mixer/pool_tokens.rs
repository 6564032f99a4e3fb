//! `pool_tokens`: average pooling, the baseline of PoolFormer (Yu et al., CVPR 2022).

use super::{Slot, TokenMixer, TokenMixerConfig};
use crate::error::{ensure_option, within_option};
use crate::flops::values;
use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use convnn_core::layers::limits;
use convnn_core::{Pass, Result};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Options of `pool_tokens`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct PoolTokensConfig {
    /// Number of tokens averaged: the token itself and as many on either side.
    #[cfg_attr(feature = "schema", schemars(range(min = 3, max = convnn_core::layers::limits::TOKENS)))]
    pub window: usize,
}

impl Default for PoolTokensConfig {
    fn default() -> Self {
        Self { window: 3 }
    }
}

impl TokenMixerConfig for PoolTokensConfig {
    fn build(&self, _: &Slot, vb: VarBuilder) -> Result<Arc<dyn TokenMixer>> {
        Ok(Arc::new(PoolTokens::new(self, &vb)?))
    }

    /// Counts one addition per token of the window, and the subtraction.
    fn flops(&self, slot: &Slot) -> u64 {
        crate::flops::elements(&[slot.tokens, slot.dim, self.window + 1])
    }

    /// The matrix is repeated for every image.
    fn kept(&self, slot: &Slot) -> u64 {
        values(slot.tokens, slot.tokens + slot.dim)
    }
}

/// The mean over the tokens of a window, minus the token itself. It has no parameters.
///
/// The window runs along the sequence, of which the class token is the first; at the ends it is shorter.
#[derive(Clone, Debug)]
pub struct PoolTokens {
    window: usize,
}

impl PoolTokens {
    /// Takes nothing from `vb`, whose path names the layer in errors.
    ///
    /// # Errors
    /// [`Error::Option`](convnn_core::Error::Option) for an option out of its range.
    pub fn new(config: &PoolTokensConfig, vb: &VarBuilder) -> Result<Self> {
        let window = config.window;
        within_option(window, 3, limits::TOKENS, vb, "pool_tokens", "window")?;
        ensure_option(!window.is_multiple_of(2), vb, "pool_tokens", "window", window, "an odd number of at least 3")?;
        Ok(Self { window })
    }

    /// The mixer as a matrix (N, N).
    fn matrix(&self, tokens: usize) -> Result<Tensor> {
        let reach = self.window / 2;
        let mut matrix = vec![0f64; tokens * tokens];
        for (i, row) in matrix.chunks_mut(tokens).enumerate() {
            let (first, end) = (i.saturating_sub(reach), tokens.min(i + reach + 1));
            row[first..end].fill(1.0 / (end - first) as f64);
            row[i] -= 1.0;
        }
        Ok(Tensor::from_vec(matrix, (tokens, tokens), &Device::Cpu)?)
    }
}

impl TokenMixer for PoolTokens {
    fn forward_t(&self, x: &Tensor, _: &Pass) -> Result<Tensor> {
        let (batch, tokens, _) = x.dims3()?;
        let matrix = self.matrix(tokens)?.to_dtype(x.dtype())?.to_device(x.device())?;
        Ok(matrix.unsqueeze(0)?.repeat((batch, 1, 1))?.matmul(x)?)
    }
}
