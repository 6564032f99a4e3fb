//! The layers: parameters by their names in PyTorch, options as in the configuration, and *select → modulate → aggregate*.
//!
//! | layer | shapes | what it is |
//! |---|---|---|
//! | [`ConvNn1d`] | (B, C, N) → (B, O, N) | nearest neighbors on a sequence |
//! | [`ConvNn2d`] | (B, C, H, W) → (B, O, H, W) | nearest neighbors on a feature map |
//! | [`ConvNn2dAttention`] | the same | with projections and softmax over the neighbors |
//! | [`Branching2d`], [`Branching2dAttention`] | the same | one of the two beside a convolution |
//! | [`ConvNnAttention`] | (B, N, D) → (B, N, D) | attention over the K best neighbors |
//!
//! Every layer is a [`candle_nn::Module`], whose `forward` evaluates. `forward_t` takes the [`Pass`](crate::Pass) of a
//! training step; the two differ only if the layer draws candidates or has dropout. `neighbors` tells which neighbors a
//! layer chooses, and `forward_with` aggregates others.

mod branching;
mod conv1d;
mod conv2d;
mod conv_nn_1d;
mod conv_nn_2d;
mod conv_nn_2d_attention;
mod conv_nn_attention;
mod exact;
pub mod limits;
mod plain;
mod shuffle;

pub use branching::{
    Branch, Branching, Branching2d, Branching2dAttention, Branching2dAttentionConfig, Branching2dConfig,
    BranchingConfig,
};
pub use conv_nn_1d::{ConvNn1d, ConvNn1dConfig};
pub use conv_nn_2d::{ConvNn2d, ConvNn2dConfig};
pub use conv_nn_2d_attention::{ConvNn2dAttention, ConvNn2dAttentionConfig};
pub use conv_nn_attention::{ConvNnAttention, ConvNnAttentionConfig};
pub use conv1d::Conv1d;
pub use conv2d::Conv2d;

pub use exact::AttentionWeights;

use crate::error::ensure;
use crate::random::fan_in_uniform;
use crate::{Error, Grid, Result};
use candle_core::{DType, Tensor};
use candle_nn::VarBuilder;

/// A parameter with PyTorch's default initial values for `fan_in` inputs.
fn parameter(vb: &VarBuilder<'_>, shape: impl Into<candle_core::Shape>, name: &str, fan_in: usize) -> Result<Tensor> {
    Ok(vb.get_with_hints(shape, name, fan_in_uniform(fan_in))?)
}

/// A feature map (B, C, H, W) as tokens (B, N, C).
fn to_tokens(x: &Tensor) -> Result<(Tensor, Grid)> {
    let (_, _, h, w) = x.dims4()?;
    Ok((x.flatten_from(2)?.t()?.contiguous()?, Grid::new(h, w)))
}

/// Tokens (B, N, C) as a feature map (B, C, H, W).
fn to_map(x: &Tensor, grid: Grid) -> Result<Tensor> {
    let (b, _, c) = x.dims3()?;
    Ok(x.t()?.reshape((b, c, grid.height, grid.width))?)
}

/// What a layer takes, for the check of its input.
struct Input<'a> {
    layer: &'a str,
    /// The layout, such as `(B, C, H, W)`.
    layout: &'static str,
    /// The axis of the channels.
    axis: usize,
    channels: usize,
    dtype: DType,
}

impl Input<'_> {
    /// Fails unless `x` has the layout, channels and type.
    fn check(&self, x: &Tensor) -> Result<()> {
        let wrong =
            |found: String, expected: String| Err(Error::Input { layer: self.layer.to_owned(), found, expected });
        if x.rank() != self.layout.split(',').count() {
            return wrong(format!("has shape {:?}", x.dims()), self.layout.to_owned());
        }
        let channels = x.dims()[self.axis];
        if channels != self.channels {
            return wrong(format!("has {channels} channels"), self.channels.to_string());
        }
        if x.dtype() != self.dtype {
            let expected = format!("{}, as the parameters; convert with `to_dtype`", self.dtype.as_str());
            return wrong(format!("is {}", x.dtype().as_str()), expected);
        }
        Ok(())
    }

    /// The same for tokens (B, H·W, C) of `grid`.
    fn check_tokens(&self, x: &Tensor, grid: Grid) -> Result<()> {
        Input { layout: "(B, H·W, C)", axis: 2, ..*self }.check(x)?;
        let tokens = x.dims()[1];
        if tokens != grid.tokens() {
            let expected = format!("{} for a map of {}x{}", grid.tokens(), grid.height, grid.width);
            return Err(Error::Input { layer: self.layer.to_owned(), found: format!("has {tokens} tokens"), expected });
        }
        Ok(())
    }
}

/// The name of a layer in messages and random streams: its path, or its kind at the root.
fn layer_path(vb: &VarBuilder<'_>, kind: &str) -> String {
    let path = vb.prefix();
    if path.is_empty() { kind.to_owned() } else { path }
}

/// `Module` by the layer's `forward_t` in evaluation.
macro_rules! module {
    ($layer:ty) => {
        impl candle_nn::Module for $layer {
            fn forward(&self, x: &candle_core::Tensor) -> candle_core::Result<candle_core::Tensor> {
                Ok(self.forward_t(x, &$crate::Pass::evaluation())?)
            }
        }
    };
}
use module;
