//! `conv2d`: an ordinary convolution, the baseline.

use super::{Layer2d, Layer2dConfig, Slot};
use crate::Choice;
use crate::flops::{matmul, values};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use convnn_core::layers::Conv2d;
use convnn_core::{ConvNn2d, Grid, Pass, Result};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Options of `conv2d`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Conv2dConfig {
    /// Side of the kernel, κ.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = convnn_core::layers::limits::KERNEL_SIZE)))]
    pub kernel_size: usize,
}

impl Default for Conv2dConfig {
    fn default() -> Self {
        Self { kernel_size: 3 }
    }
}

impl Layer2dConfig for Conv2dConfig {
    fn build(&self, slot: &Slot, vb: VarBuilder) -> Result<Arc<dyn Layer2d>> {
        Ok(Arc::new(Conv2d::new(slot.in_channels, slot.out_channels, self.kernel_size, vb)?))
    }

    fn flops(&self, slot: &Slot) -> u64 {
        matmul(slot.grid.tokens(), slot.in_channels * self.kernel_size.pow(2), slot.out_channels)
    }

    fn kept(&self, slot: &Slot) -> u64 {
        values(slot.grid.tokens(), slot.out_channels)
    }

    /// The window: a convolution takes all of its candidates.
    fn choice(&self, _: &Slot) -> Option<Choice> {
        let window = self.kernel_size * self.kernel_size;
        Some(Choice { candidates: window, neighbors: window })
    }
}

impl Layer2d for Conv2d {
    fn forward_tokens(&self, x: &Tensor, grid: Grid, _: &Pass) -> Result<Tensor> {
        self.forward_tokens(x, grid)
    }

    /// Fails if κ is even.
    fn to_conv_nn(&self) -> Result<Option<Arc<dyn Layer2d>>> {
        Ok(Some(Arc::new(ConvNn2d::from_convolution(self.weight(), self.bias())?)))
    }
}
