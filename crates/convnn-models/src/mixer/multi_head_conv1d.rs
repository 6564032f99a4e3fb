//! A convolution along the sequence within each head, between two linear layers: a branch of `branching_tokens`.

use super::heads::{check, join, split};
use super::{Slot, TokenMixer};
use crate::flops::{matmul, values};
use candle_core::Tensor;
use candle_nn::{Module, VarBuilder};
use convnn_core::nn::{Linear, linear};
use convnn_core::{Pass, Result, fan_in_uniform};

/// `W_x` (D, D), a "same" convolution `conv` (d, d, κ) shared by all heads, and `W_o` (D, D), all with biases.
#[derive(Clone, Debug)]
pub(super) struct MultiHeadConv1d {
    before: Linear,
    weight: Tensor, // (d, d, κ)
    bias: Tensor,   // (d)
    after: Linear,
    heads: usize,
}

impl MultiHeadConv1d {
    pub(super) fn new(dim: usize, heads: usize, kernel_size: usize, vb: VarBuilder) -> Result<Self> {
        check(&vb, "conv1d", dim, heads, 0.0)?;
        let width = dim / heads;
        let (conv, init) = (vb.pp("conv"), fan_in_uniform(width * kernel_size));
        Ok(Self {
            before: Linear::new(dim, dim, vb.pp("W_x"))?,
            weight: conv.get_with_hints((width, width, kernel_size), "weight", init)?,
            bias: conv.get_with_hints(width, "bias", init)?,
            after: Linear::new(dim, dim, vb.pp("W_o"))?,
            heads,
        })
    }

    pub(super) const fn flops(slot: &Slot, heads: usize, kernel_size: usize) -> u64 {
        let (dim, head) = (slot.dim, slot.dim / heads);
        2 * matmul(slot.tokens, dim, dim) + matmul(slot.tokens * heads, kernel_size * head, head)
    }

    /// Two linear layers, the padded sequence, its windows twice, the convolution, and copies for several heads.
    pub(super) const fn kept(slot: &Slot, heads: usize, kernel_size: usize) -> u64 {
        let copies = if heads > 1 { 2 } else { 0 };
        values(slot.tokens, (3 + copies + 2 * kernel_size) * slot.dim) + values(slot.tokens + kernel_size - 1, slot.dim)
    }
}

impl TokenMixer for MultiHeadConv1d {
    fn forward_t(&self, x: &Tensor, _: &Pass) -> Result<Tensor> {
        let (width, _, kernel_size) = self.weight.dims3()?;
        let x = split(&self.before.forward(x)?, self.heads)?; // (B, h, N, d)
        let tokens = x.dim(2)?;
        // An even kernel has its extra zero at the end, as in PyTorch.
        let left = (kernel_size - 1) / 2;
        let padded = x.pad_with_zeros(2, left, kernel_size - 1 - left)?;
        let shifted =
            (0..kernel_size).map(|at| padded.narrow(2, at, tokens)).collect::<candle_core::Result<Vec<_>>>()?;
        let windows = Tensor::cat(&shifted, 3)?; // (B, h, N, κ·d)
        let weight = self.weight.transpose(1, 2)?.contiguous()?.reshape((width, kernel_size * width))?;
        Ok(self.after.forward(&join(&linear(&windows, &weight, Some(&self.bias))?)?)?)
    }
}
