//! The 2-D layers that a CNN can use in place of its convolutions, one per file.
//!
//! A layer is two types: its options, which implement [`Layer2dConfig`], and the built layer, a [`Layer2d`]. To add
//! one, write both in a file here and add the kind to the list that makes [`LayerConfig`]. A layer of your own crate
//! needs no entry in the list: see [`Vgg::with_layers`](crate::Vgg::with_layers).

mod branching_2d;
mod conv2d;
mod conv_nn_2d;
mod conv_nn_2d_attention;

pub use conv2d::Conv2dConfig;

use crate::Choice;
use crate::kinds::kinds;
use candle_core::Tensor;
use candle_nn::VarBuilder;
use convnn_core::{
    Branching2dAttentionConfig, Branching2dConfig, ConvNn2dAttentionConfig, ConvNn2dConfig, Grid, Neighbors, Pass,
    Result,
};
use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

kinds! {
    /// The table `[layer]` of a CNN: which 2-D layer, and its options.
    pub enum LayerConfig: Layer2dConfig {
        /// A convolution.
        "conv2d" => Conv2d(Conv2dConfig),
        /// ConvNN without projections.
        "conv_nn_2d" => ConvNn2d(ConvNn2dConfig),
        /// ConvNN with query, key and value projections.
        "conv_nn_2d_attention" => ConvNn2dAttention(ConvNn2dAttentionConfig),
        /// ConvNN beside a convolution.
        "branching_2d" => Branching2d(Branching2dConfig),
        /// ConvNN with projections beside a convolution.
        "branching_2d_attention" => Branching2dAttention(Branching2dAttentionConfig),
    }
}

/// Where in a network a 2-D layer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Number of the layer, from 0.
    pub index: usize,
    /// C
    pub in_channels: usize,
    /// O
    pub out_channels: usize,
    /// Size of the input map.
    pub grid: Grid,
}

/// A 2-D layer on the tokens of a feature map.
///
/// `Any` is a supertrait, so a layer can be cast back to its type: `(layer as &dyn Any).downcast_ref::<ConvNn2d>()`.
pub trait Layer2d: Any + Debug + Send + Sync {
    /// Maps the tokens (B, H·W, C) of a map of size `grid` to (B, H′·W′, O), where H′×W′ is [`Self::output_grid`].
    fn forward_tokens(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<Tensor>;

    /// The neighbors that the layer chooses for each token; `None` if it chooses none.
    fn neighbors(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<Option<Neighbors>> {
        let _ = (x, grid, pass);
        Ok(None)
    }

    /// Size of the output map for an input of size `grid`.
    fn output_grid(&self, grid: Grid) -> Grid {
        grid
    }

    /// Converts to a ConvNN layer that shares these tensors and computes the same function. Returns `None` for layers
    /// without an exact ConvNN form.
    fn to_conv_nn(&self) -> Result<Option<Arc<dyn Layer2d>>> {
        Ok(None)
    }
}

/// The options of a 2-D layer.
pub trait Layer2dConfig {
    /// Builds the layer for `slot` with parameters from `vb`, checking the options and that they suit the slot.
    fn build(&self, slot: &Slot, vb: VarBuilder) -> Result<Arc<dyn Layer2d>>;

    /// Floating-point operations of the layer in `slot` for one image, counted as in
    /// [`ModelConfig::flops`](crate::ModelConfig::flops).
    fn flops(&self, slot: &Slot) -> u64;

    /// Values that the layer keeps of one image for the backward pass: its results and its choices, 4 bytes each.
    fn kept(&self, slot: &Slot) -> u64;

    /// Which candidates a token has in `slot`, and how many neighbors it keeps.
    fn choice(&self, slot: &Slot) -> Option<Choice>;
}
