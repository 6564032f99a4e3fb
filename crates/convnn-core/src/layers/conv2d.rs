//! Two-dimensional convolution.

use super::limits::{self, within};
use super::{layer_path, parameter, to_map, to_tokens};
use crate::error::ensure_shape;
use crate::operator::convolution;
use crate::{Grid, Result};
use candle_core::Tensor;
use candle_nn::{Module, VarBuilder};

/// A κ×κ convolution of stride 1 with PyTorch's "same" padding: (B, C, H, W) to (B, O, H, W).
///
/// Parameters: `weight` (O, C, κ, κ) and `bias` (O), with PyTorch's default initial values.
///
/// ```
/// # fn main() -> candle_core::Result<()> {
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{Module, VarBuilder, VarMap};
/// use convnn_core::layers::Conv2d;
/// let parameters = VarMap::new();
/// let vb = VarBuilder::from_varmap(&parameters, DType::F32, &Device::Cpu);
/// let layer = Conv2d::new(3, 8, 3, vb.pp("conv"))?;
/// let images = Tensor::zeros((2, 3, 6, 5), DType::F32, &Device::Cpu)?;
/// assert_eq!(layer.forward(&images)?.dims(), [2, 8, 6, 5]);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Conv2d {
    /// A layer with a bias and a kernel of `kernel_size`×`kernel_size`.
    ///
    /// # Errors
    /// [`Error::Option`](crate::Error::Option) if `kernel_size` is 0, or if `vb` holds tensors of other shapes.
    pub fn new(in_channels: usize, out_channels: usize, kernel_size: usize, vb: VarBuilder<'_>) -> Result<Self> {
        let path = layer_path(&vb, "conv2d");
        check_kernel_size(kernel_size, &path)?;
        within(in_channels, 0, limits::CHANNELS, &path, "in_channels")?;
        let fan_in = in_channels * kernel_size * kernel_size;
        let shape = (out_channels, in_channels, kernel_size, kernel_size);
        let weight = parameter(&vb, shape, "weight", fan_in)?;
        Ok(Self { weight, bias: Some(parameter(&vb, out_channels, "bias", fan_in)?) })
    }

    /// A layer of existing tensors: `weight` (O, C, κ, κ) and `bias` (O).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape).
    pub fn from_tensors(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        let fits = weight.rank() == 4 && weight.dims()[2] == weight.dims()[3] && weight.dims()[2] > 0;
        ensure_shape(fits, "conv2d", "weight", &weight, || "(O, C, κ, κ)".into())?;
        if let Some(bias) = &bias {
            let outputs = weight.dims()[0];
            ensure_shape(bias.dims() == [outputs], "conv2d", "bias", bias, || format!("({outputs})"))?;
        }
        Ok(Self { weight, bias })
    }

    /// (O, C, κ, κ)
    pub const fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// (O), if the layer has one.
    pub const fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// The layer on tokens: (B, H·W, C) on `grid` to (B, H·W, O).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) and [`Error::DType`](crate::Error::DType).
    pub fn forward_tokens(&self, x: &Tensor, grid: Grid) -> Result<Tensor> {
        convolution(x, grid, &self.weight, self.bias.as_ref())
    }
}

impl Module for Conv2d {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (tokens, grid) = to_tokens(x)?;
        Ok(to_map(&self.forward_tokens(&tokens, grid)?, grid)?)
    }
}

pub(super) fn check_kernel_size(kernel_size: usize, layer: &str) -> Result<()> {
    within(kernel_size, 1, limits::KERNEL_SIZE, layer, "kernel_size")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{testing, testing::kernels::variable};
    use candle_core::{DType, Device};

    #[test]
    fn equals_candle() {
        let x = variable((2, 3, 5, 4), DType::F64, 1);
        let (weight, bias) = (variable((6, 3, 3, 3), DType::F64, 2), variable(6, DType::F64, 3));
        let expected = x.conv2d(&weight, 1, 1, 1, 1).unwrap();
        let layer = Conv2d::from_tensors(weight.as_tensor().clone(), None).unwrap();
        testing::compare("without bias", &layer.forward(&x).unwrap(), &expected, 1e-12).unwrap();
        let layer = Conv2d::from_tensors(weight.as_tensor().clone(), Some(bias.as_tensor().clone())).unwrap();
        let expected = expected.broadcast_add(&bias.reshape((1, 6, 1, 1)).unwrap()).unwrap();
        testing::compare("with bias", &layer.forward(&x).unwrap(), &expected, 1e-12).unwrap();
        let tokens = layer.forward_tokens(&x.flatten_from(2).unwrap().t().unwrap(), Grid::new(5, 4)).unwrap();
        let expected = expected.flatten_from(2).unwrap().t().unwrap();
        testing::compare("tokens", &tokens, &expected, 1e-12).unwrap();
        let inputs = [x.clone(), weight, bias];
        testing::gradients("conv2d", &inputs, || Ok(layer.forward(&x)?), 1e-7).unwrap();
    }

    #[test]
    fn bad_arguments_are_named() {
        let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
        let line = Conv2d::new(3, 4, 0, vb.pp("first")).unwrap_err().to_string();
        assert_eq!(line, "first: `kernel_size` is 0; expected at least 1");
        let layer = Conv2d::new(3, 4, 3, vb).unwrap();
        assert!(layer.forward(&Tensor::zeros((1, 2, 5, 5), DType::F32, &Device::Cpu).unwrap()).is_err());
        let weight = Tensor::zeros((4, 3, 3, 2), DType::F32, &Device::Cpu).unwrap();
        let line = Conv2d::from_tensors(weight, None).unwrap_err().to_string();
        assert_eq!(line, "conv2d: `weight` has shape [4, 3, 3, 2]; expected (O, C, κ, κ)");
    }
}
