//! Patches and positions.

use super::VitConfig;
use candle_core::{Device, Tensor};
use candle_nn::{Module, VarBuilder};
use convnn_core::nn::{LayerNorm, linear};
use convnn_core::{Result, fan_in_uniform};

/// Sine and cosine of the positions at falling frequencies, on even and odd features: (1, N, D), f64.
pub(super) fn sine_cosine(tokens: usize, dim: usize, device: &Device) -> Result<Tensor> {
    let value = |position: usize, feature: usize| {
        // Frequencies and angles are rounded to f32, as in PyTorch.
        let even = (feature / 2 * 2) as f32;
        let angle = position as f32 * (even * (-(10000f64.ln()) / dim as f64) as f32).exp();
        f64::from(if feature.is_multiple_of(2) { angle.sin() } else { angle.cos() })
    };
    let values: Vec<f64> = (0..tokens).flat_map(|p| (0..dim).map(move |f| value(p, f))).collect();
    Ok(Tensor::from_vec(values, (1, tokens, dim), device)?)
}

/// P×P patches through a linear layer and a layer norm.
#[derive(Clone, Debug)]
pub(super) struct PatchEmbedding {
    weight: Tensor, // (D, 3, P, P)
    bias: Tensor,   // (D)
    norm: LayerNorm,
    patch: usize,
}

impl PatchEmbedding {
    pub(super) fn new(config: &VitConfig, vb: VarBuilder) -> Result<Self> {
        let (dim, patch) = (config.dim, config.patch);
        let init = fan_in_uniform(3 * patch * patch);
        let projection = vb.pp("linear_projection");
        Ok(Self {
            weight: projection.get_with_hints((dim, 3, patch, patch), "weight", init)?,
            bias: projection.get_with_hints(dim, "bias", init)?,
            norm: LayerNorm::new(dim, vb.pp("norm"))?,
            patch,
        })
    }

    /// (B, 3, S, S) → (B, (S/P)², D)
    pub(super) fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = images.dims4()?;
        let (p, rows, columns) = (self.patch, height / self.patch, width / self.patch);
        let patches = images
            .reshape(&[batch, channels, rows, p, columns, p][..])?
            .permute(&[0, 2, 4, 1, 3, 5][..])?
            .contiguous()?
            .reshape((batch, rows * columns, channels * p * p))?;
        Ok(self.norm.forward(&linear(&patches, &self.weight.flatten_from(1)?, Some(&self.bias))?)?)
    }
}
