//! What a network's layers see, and which neighbors they choose.

use crate::layer::Layer2d;
use crate::mixer::TokenMixer;
use candle_core::Tensor;
use convnn_core::{Grid, Neighbors, Pass, Result};
use std::any::Any;

/// A layer under test during a forward pass: where it is and what it sees. See [`Model::forward_observed`].
///
/// [`Model::forward_observed`]: crate::Model::forward_observed
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// Number of the layer or block, from 0.
    pub index: usize,
    /// The tokens that enter it, (B, N, C).
    pub tokens: &'a Tensor,
    /// The map that the tokens are the pixels of; `None` for the sequence of a Vision Transformer, in which a class token
    /// precedes the patches.
    pub grid: Option<Grid>,
    layer: Layer<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Layer<'a> {
    Map(&'a dyn Layer2d, Grid, &'a Pass),
    Sequence(&'a dyn TokenMixer),
}

impl<'a> Observed<'a> {
    pub(crate) fn map(index: usize, tokens: &'a Tensor, grid: Grid, layer: &'a dyn Layer2d, pass: &'a Pass) -> Self {
        Self { index, tokens, grid: Some(grid), layer: Layer::Map(layer, grid, pass) }
    }

    pub(crate) fn sequence(index: usize, tokens: &'a Tensor, mixer: &'a dyn TokenMixer) -> Self {
        Self { index, tokens, grid: None, layer: Layer::Sequence(mixer) }
    }

    /// The neighbors that the layer chooses for these tokens: (B, N, K), or (B·heads, N, K) from a mixer with heads.
    /// `None` for a layer that chooses none, such as a convolution. Random candidates are those of the pass in a VGG, and
    /// those of evaluation in a Vision Transformer.
    ///
    /// This selects them once more; the forward pass does not keep them.
    ///
    /// # Errors
    /// Those of the layer.
    pub fn neighbors(&self) -> Result<Option<Neighbors>> {
        match self.layer {
            Layer::Map(layer, grid, pass) => layer.neighbors(self.tokens, grid, pass),
            Layer::Sequence(mixer) => mixer.neighbors(self.tokens),
        }
    }

    /// The layer, to be cast to its type: `observed.layer().downcast_ref::<ConvNnAttention>()`.
    pub fn layer(&self) -> &'a dyn Any {
        match self.layer {
            Layer::Map(layer, ..) => layer,
            Layer::Sequence(mixer) => mixer,
        }
    }
}
