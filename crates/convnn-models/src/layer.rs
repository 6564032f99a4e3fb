//! A 2-D layer of a VGG, of any kind, on tokens.

use crate::config::{BranchingConfig, ConvolutionConfig, LayerConfig, NeighborConfig};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use convnn_core::{
    Branching2d, Branching2dAttention, Branching2dConfig, ConvNn2d, ConvNn2dAttention, ConvNn2dConfig, Grid, Pass,
    Result, fan_in_uniform, ops,
};

/// The layer under test in one place of a VGG: (B, N, C) → (B, N, O).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Layer {
    /// A convolution.
    Conv2d(Conv2d),
    /// ConvNN without projections.
    ConvNn2d(ConvNn2d),
    /// ConvNN with projections.
    ConvNn2dAttention(ConvNn2dAttention),
    /// A convolution beside a ConvNN branch.
    Branching2d(Branching2d),
    /// A convolution beside a ConvNN branch with projections.
    Branching2dAttention(Branching2dAttention),
}

impl Layer {
    /// The layer that `config` describes, from `inputs` to `outputs` channels.
    ///
    /// # Errors
    /// Where an option does not suit the layer, or `builder` holds other shapes.
    pub fn new(config: &LayerConfig, inputs: usize, outputs: usize, builder: VarBuilder) -> Result<Self> {
        Ok(match config {
            LayerConfig::Conv2d(c) => Self::Conv2d(Conv2d::new(c, inputs, outputs, builder)?),
            LayerConfig::ConvNn2d(c) => Self::ConvNn2d(ConvNn2d::new(&neighbor(c, inputs, outputs), builder)?),
            LayerConfig::ConvNn2dAttention(c) => {
                Self::ConvNn2dAttention(ConvNn2dAttention::new(&neighbor(c, inputs, outputs), builder)?)
            }
            LayerConfig::Branching2d(c) => {
                Self::Branching2d(Branching2d::new(&branching(c, inputs, outputs), builder)?)
            }
            LayerConfig::Branching2dAttention(c) => {
                Self::Branching2dAttention(Branching2dAttention::new(&branching(c, inputs, outputs), builder)?)
            }
        })
    }

    /// (B, N, C) on `grid` → (B, N′, O), where N′ differs from N only under a pixel shuffle of one side.
    ///
    /// # Errors
    /// Where the shapes do not fit, or there are fewer candidates than neighbors.
    pub fn forward_tokens(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<Tensor> {
        match self {
            Self::Conv2d(layer) => layer.forward_tokens(x, grid),
            Self::ConvNn2d(layer) => layer.forward_tokens(x, grid, pass),
            Self::ConvNn2dAttention(layer) => layer.forward_tokens(x, grid, pass),
            Self::Branching2d(layer) => layer.forward_tokens(x, grid, pass),
            Self::Branching2dAttention(layer) => layer.forward_tokens(x, grid, pass),
        }
    }
}

fn neighbor(c: &NeighborConfig, inputs: usize, outputs: usize) -> ConvNn2dConfig {
    ConvNn2dConfig {
        in_channels: inputs,
        out_channels: outputs,
        neighbors: c.neighbors,
        padding: c.padding,
        similarity: c.similarity,
        compare: c.compare,
        values: c.values,
        candidates: c.candidates,
        shuffle: c.shuffle,
        shuffle_scale: c.shuffle_scale,
        ..Default::default()
    }
}

fn branching(c: &BranchingConfig, inputs: usize, outputs: usize) -> Branching2dConfig {
    Branching2dConfig {
        in_channels: inputs,
        out_channels: outputs,
        branch_ratio: c.branch_ratio,
        kernel_size: c.kernel_size,
        neighbors: c.neighbors,
        padding: c.padding,
        similarity: c.similarity,
        compare: c.compare,
        values: c.values,
        candidates: c.candidates,
        shuffle: c.shuffle,
        shuffle_scale: c.shuffle_scale,
    }
}

/// A convolution of stride 1 with "same" padding, on tokens: `weight` (O, C, κ, κ), `bias` (O).
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: Tensor,
    bias: Tensor,
}

impl Conv2d {
    /// `inputs` to `outputs` channels.
    ///
    /// # Errors
    /// Where `builder` holds other shapes.
    pub fn new(config: &ConvolutionConfig, inputs: usize, outputs: usize, builder: VarBuilder) -> Result<Self> {
        let side = config.kernel_size;
        let init = fan_in_uniform(inputs * side * side);
        let weight = builder.get_with_hints((outputs, inputs, side, side), "weight", init)?;
        Ok(Self { weight, bias: builder.get_with_hints(outputs, "bias", init)? })
    }

    /// (O, C, κ, κ).
    pub const fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// (O).
    pub const fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// (B, N, C) on `grid` → (B, N, O).
    ///
    /// # Errors
    /// Where the shapes do not fit.
    pub fn forward_tokens(&self, x: &Tensor, grid: Grid) -> Result<Tensor> {
        ops::convolution(x, grid, &self.weight, Some(&self.bias))
    }
}
