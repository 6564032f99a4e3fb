//! One-dimensional convolution.

use super::conv2d::check_kernel_size;
use super::{layer_path, parameter};
use crate::error::ensure_shape;
use crate::operator::{Neighbors, Rho, Weights, aggregate};
use crate::{Result, nn};
use candle_core::Tensor;
use candle_nn::{Module, VarBuilder};

/// A convolution over κ tokens of a sequence, stride 1, with PyTorch's "same" padding: (B, C, N) to (B, O, N).
///
/// Parameters: `weight` (O, C, κ) and `bias` (O), with PyTorch's default initial values.
#[derive(Clone, Debug)]
pub struct Conv1d {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Conv1d {
    /// A layer with a bias and a kernel of `kernel_size` tokens.
    ///
    /// # Errors
    /// [`Error::Option`](crate::Error::Option) if `kernel_size` is 0, or if `vb` holds tensors of other shapes.
    pub fn new(in_channels: usize, out_channels: usize, kernel_size: usize, vb: VarBuilder<'_>) -> Result<Self> {
        check_kernel_size(kernel_size, &layer_path(&vb, "conv1d"))?;
        let fan_in = in_channels * kernel_size;
        let weight = parameter(&vb, (out_channels, in_channels, kernel_size), "weight", fan_in)?;
        Ok(Self { weight, bias: Some(parameter(&vb, out_channels, "bias", fan_in)?) })
    }

    /// A layer of existing tensors: `weight` (O, C, κ) and `bias` (O).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape).
    pub fn from_tensors(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        let fits = weight.rank() == 3 && weight.dims()[2] > 0;
        ensure_shape(fits, "conv1d", "weight", &weight, || "(O, C, κ)".into())?;
        if let Some(bias) = &bias {
            let outputs = weight.dims()[0];
            ensure_shape(bias.dims() == [outputs], "conv1d", "bias", bias, || format!("({outputs})"))?;
        }
        Ok(Self { weight, bias })
    }

    /// The layer on tokens: (B, N, C) to (B, N, O).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) and [`Error::DType`](crate::Error::DType).
    pub fn forward_tokens(&self, x: &Tensor) -> Result<Tensor> {
        ensure_shape(x.rank() == 3, "conv1d", "x", x, || "(B, N, C)".into())?;
        let (tokens, size) = (x.dim(1)?, self.weight.dim(2)?);
        if size == 1 {
            return nn::linear(x, &self.weight.squeeze(2)?, self.bias.as_ref());
        }
        // For even κ the extra token is at the end. N stands for the zero token outside the sequence.
        let before = (size - 1) / 2;
        let neighbor = |i: usize| i.checked_sub(before).filter(|&i| i < tokens).unwrap_or(tokens) as u32;
        let index: Vec<u32> = (0..tokens).flat_map(|i| (i..i + size).map(neighbor)).collect();
        let index = Tensor::from_vec(index, (1, tokens, size), x.device())?;
        let neighbors = Neighbors::trusted(index, tokens);
        aggregate(x, &neighbors, &Rho::One, &Weights::Standard(self.weight.clone()), self.bias.as_ref())
    }
}

impl Module for Conv1d {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        ensure_shape(x.rank() == 3, "conv1d", "x", x, || "(B, C, N)".into())?;
        self.forward_tokens(&x.t()?)?.t()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{testing, testing::kernels::variable};
    use candle_core::DType;

    #[test]
    fn equals_candle() {
        for (tokens, size) in [(7, 3), (5, 1), (6, 4), (2, 5)] {
            let x = variable((2, 3, tokens), DType::F64, 1);
            let (weight, bias) = (variable((6, 3, size), DType::F64, 2), variable(6, DType::F64, 3));
            let padded = x.pad_with_zeros(2, (size - 1) / 2, size / 2).unwrap();
            let expected = padded.conv1d(&weight, 0, 1, 1, 1).unwrap();
            let expected = expected.broadcast_add(&bias.reshape((1, 6, 1)).unwrap()).unwrap();
            let layer = Conv1d::from_tensors(weight.as_tensor().clone(), Some(bias.as_tensor().clone())).unwrap();
            let label = format!("{tokens} tokens, kernel {size}");
            testing::compare(&label, &layer.forward(&x).unwrap(), &expected, 1e-12).unwrap();
            let inputs = [x.clone(), weight, bias];
            testing::gradients(&label, &inputs, || Ok(layer.forward(&x)?), 1e-7).unwrap();
        }
    }
}
