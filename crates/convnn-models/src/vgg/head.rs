//! What turns the last feature map of a VGG into logits.

use super::{VggConfig, VggHead};
use crate::LayerSummary;
use crate::flops::matmul;
use candle_core::{DType, Device, Tensor};
use candle_nn::{Module, VarBuilder};
use convnn_core::nn::{Dropout, Linear, relu};
use convnn_core::{Grid, Pass, Result};

/// Side of the map that the `mlp` head pools to.
const POOLED_SIDE: usize = 7;

/// Values of each channel that the `mlp` head sees.
const POOLED: usize = POOLED_SIDE * POOLED_SIDE;

#[derive(Clone, Debug)]
pub(super) enum Head {
    Mlp { linears: [Linear; 3], dropouts: [Dropout; 2] },
    Linear(Linear),
}

impl Head {
    /// For a last map of `channels` channels.
    pub(super) fn new(config: &VggConfig, channels: usize, vb: VarBuilder) -> Result<Self> {
        let VggConfig { hidden, classes, head_gain, dropout, .. } = *config;
        Ok(match config.head {
            VggHead::Mlp => Self::Mlp {
                linears: [
                    Linear::new(channels * POOLED, hidden, vb.pp(0))?,
                    Linear::new(hidden, hidden, vb.pp(3))?,
                    Linear::with_gain(hidden, classes, head_gain, vb.pp(6))?,
                ],
                dropouts: [Dropout::new(dropout, &vb.pp(2))?, Dropout::new(dropout, &vb.pp(5))?],
            },
            VggHead::Linear => Self::Linear(Linear::with_gain(channels, classes, head_gain, vb)?),
        })
    }

    /// Tokens (B, N, C) of the last map to what the last linear layer sees, (B, F).
    pub(super) fn features(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<Tensor> {
        match self {
            Self::Linear(_) => global_average(x),
            Self::Mlp { linears: [first, second, _], dropouts } => {
                let x = dropouts[0].forward_t(&relu(&pooled_linear(x, grid, first)?)?, pass)?;
                dropouts[1].forward_t(&relu(&second.forward(&x)?)?, pass)
            }
        }
    }

    /// The last linear layer: (B, F) to logits (B, classes).
    pub(super) fn classify(&self, features: &Tensor) -> Result<Tensor> {
        let (Self::Linear(last) | Self::Mlp { linears: [_, _, last], .. }) = self;
        Ok(last.forward(features)?)
    }
}

/// The rows of the head; the repeated pool of a 1×1 map is counted, though [`Head::features`] skips it.
pub(super) fn layers(config: &VggConfig, channels: usize, grid: Grid) -> Vec<LayerSummary> {
    let VggConfig { hidden, classes, dropout, .. } = *config;
    let linear = |name: &str, inputs: usize, outputs: usize, kept: usize| LayerSummary {
        flops: matmul(1, inputs, outputs),
        kept: kept as u64,
        ..LayerSummary::new(name, "linear", &[outputs])
    };
    // The mean over the map, or its pooled copies; ReLU and dropout after each hidden layer.
    let pooled = if grid.tokens() == 1 { 0 } else { 2 * channels * POOLED };
    let mean = if grid.tokens() == 1 { 0 } else { channels };
    let after = if dropout > 0.0 { 3 * hidden } else { 2 * hidden };
    match config.head {
        VggHead::Mlp => vec![
            linear("classifier.0", channels * POOLED, hidden, pooled + after),
            linear("classifier.3", hidden, hidden, after),
            linear("classifier.6", hidden, classes, classes),
        ],
        VggHead::Linear => vec![linear("classifier", channels, classes, mean + classes)],
    }
}

/// (B, N, C) → (B, C), the mean over the tokens.
fn global_average(x: &Tensor) -> Result<Tensor> {
    Ok(if x.dim(1)? == 1 { x.squeeze(1)? } else { x.mean(1)? })
}

/// Adaptive average pooling to 7×7, flattened channel by channel, then `linear`: (B, N, C) → (B, O).
fn pooled_linear(x: &Tensor, grid: Grid, linear: &Linear) -> Result<Tensor> {
    // A 1×1 map, which is what 32×32 images leave, would be repeated 49 times.
    if grid.tokens() == 1 {
        return linear.forward_repeated(&x.squeeze(1)?, POOLED);
    }
    let (batch, tokens, channels) = x.dims3()?;
    let weights = pool_weights(grid, x.dtype(), x.device())?; // (N, 49)
    let rows = x.transpose(1, 2)?.contiguous()?.reshape((batch * channels, tokens))?;
    Ok(linear.forward(&rows.matmul(&weights)?.reshape((batch, channels * POOLED))?)?)
}

/// Adaptive average pooling of `grid` to 7×7 as a matrix (N, 49).
///
/// Cell i of an axis covers ⌊i·side/7⌋ up to ⌈(i+1)·side/7⌉, as in PyTorch.
fn pool_weights(grid: Grid, dtype: DType, device: &Device) -> Result<Tensor> {
    let cell = |i: usize, side: usize| (i * side / POOLED_SIDE)..((i + 1) * side).div_ceil(POOLED_SIDE);
    let mut weights = vec![0f64; grid.tokens() * POOLED];
    for row in 0..POOLED_SIDE {
        for column in 0..POOLED_SIDE {
            let (ys, xs) = (cell(row, grid.height), cell(column, grid.width));
            let share = 1.0 / (ys.len() * xs.len()) as f64;
            for token in ys.flat_map(|y| xs.clone().map(move |x| y * grid.width + x)) {
                weights[token * POOLED + row * POOLED_SIDE + column] = share;
            }
        }
    }
    Ok(Tensor::from_vec(weights, (grid.tokens(), POOLED), device)?.to_dtype(dtype)?)
}
