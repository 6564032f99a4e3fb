//! A convolution along the token sequence, a head each, between two linear layers.

use super::heads::{join, split};
use crate::nn::Linear;
use candle_core::Tensor;
use candle_nn::VarBuilder;
use convnn_core::{Result, fan_in_uniform, ops};

/// `W_x` (D, D), the "same" convolution `conv` (d, d, κ) that all heads share, and `W_o` (D, D), all with a bias.
#[derive(Clone, Debug)]
pub struct MultiHeadConv1d {
    before: Linear,
    weight: Tensor, // (d, d, κ)
    bias: Tensor,   // (d)
    after: Linear,
    heads: usize,
}

impl MultiHeadConv1d {
    /// Over tokens of width `dim`.
    ///
    /// # Errors
    /// Where `builder` holds other shapes.
    pub fn new(dim: usize, heads: usize, kernel_size: usize, builder: VarBuilder) -> Result<Self> {
        let width = dim / heads;
        let (conv, init) = (builder.pp("conv"), fan_in_uniform(width * kernel_size));
        Ok(Self {
            before: Linear::new(dim, dim, builder.pp("W_x"))?,
            weight: conv.get_with_hints((width, width, kernel_size), "weight", init)?,
            bias: conv.get_with_hints(width, "bias", init)?,
            after: Linear::new(dim, dim, builder.pp("W_o"))?,
            heads,
        })
    }

    /// (B, N, D) → (B, N, D)
    ///
    /// # Errors
    /// Where the last dimension is not D.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (width, _, kernel_size) = self.weight.dims3()?;
        let x = split(&self.before.forward(x)?, self.heads)?; // (B, h, N, d)
        let tokens = x.dim(2)?;
        // The extra zero of an even kernel stands at the end, as in PyTorch.
        let left = (kernel_size - 1) / 2;
        let padded = x.pad_with_zeros(2, left, kernel_size - 1 - left)?;
        let shifted =
            (0..kernel_size).map(|at| padded.narrow(2, at, tokens)).collect::<candle_core::Result<Vec<_>>>()?;
        let windows = Tensor::cat(&shifted, 3)?; // (B, h, N, κ·d)
        let weight = self.weight.transpose(1, 2)?.contiguous()?.reshape((width, kernel_size * width))?;
        self.after.forward(&join(&ops::linear(&windows, &weight, Some(&self.bias))?)?)
    }
}
