//! The layers of SPEC section 3: parameters by their names in PyTorch, and *select → modulate → aggregate*.

mod branching_2d;
mod conv1d;
mod conv2d;
mod conv_nn_1d;
mod conv_nn_2d;
mod conv_nn_2d_attention;
mod conv_nn_attention;
mod exact;
mod shuffle;

pub use branching_2d::{Branching2d, Branching2dAttention, Branching2dConfig};
pub use conv_nn_1d::{ConvNn1d, ConvNn1dConfig};
pub use conv_nn_2d::{ConvNn2d, ConvNn2dConfig};
pub use conv_nn_2d_attention::ConvNn2dAttention;
pub use conv_nn_attention::{ConvNnAttention, ConvNnAttentionConfig};
pub use conv1d::Conv1d;
pub use conv2d::Conv2d;

pub use exact::AttentionWeights;

use crate::{Error, Grid, Result, fan_in_uniform};
use candle_core::Tensor;
use candle_nn::VarBuilder;

/// A parameter with PyTorch's default initial values for `fan_in` inputs.
fn parameter(vb: &VarBuilder<'_>, shape: impl Into<candle_core::Shape>, name: &str, fan_in: usize) -> Result<Tensor> {
    Ok(vb.get_with_hints(shape, name, fan_in_uniform(fan_in))?)
}

/// A feature map (B, C, H, W) as tokens (B, N, C).
fn to_tokens(x: &Tensor) -> Result<(Tensor, Grid)> {
    crate::error::ensure_shape(x.rank() == 4, "layer", "x", x, || "(B, C, H, W)".into())?;
    let (_, _, h, w) = x.dims4()?;
    Ok((x.flatten_from(2)?.t()?.contiguous()?, Grid::new(h, w)))
}

/// Tokens (B, N, C) as a feature map (B, C, H, W).
fn to_map(x: &Tensor, grid: Grid) -> Result<Tensor> {
    let (b, _, c) = x.dims3()?;
    Ok(x.t()?.reshape((b, c, grid.height, grid.width))?)
}

/// Fails unless `holds`, naming the layer and the option.
fn ensure(holds: bool, layer: &str, option: &'static str, found: impl ToString, expected: &str) -> Result<()> {
    if holds {
        return Ok(());
    }
    let (found, expected) = (found.to_string(), expected.to_owned());
    Err(Error::Option { layer: layer.to_owned(), option, found, expected })
}

/// The name of a layer in messages: its path, or its kind at the root.
fn layer_name(vb: &VarBuilder<'_>, kind: &str) -> String {
    let path = vb.prefix();
    if path.is_empty() { kind.to_owned() } else { path }
}
