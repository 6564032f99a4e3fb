//! VGG with a 2-D layer of any kind in place of each convolution.
//!
//! Parameter names are those of torchvision's `vgg*_bn`: `features.{i}` counts layer, batch norm and ReLU one each, and
//! a pool one; `classifier.{0,3,6}` are the linear layers of the head.

use crate::config::{LayerConfig, Step, VggConfig, VggHead};
use crate::layer::Layer;
use crate::nn::{BatchNormRelu, Dropout, Linear};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use convnn_core::{Grid, Pass, Result, ops};

/// Side of the map that the head `mlp` pools to.
const POOLED_SIDE: usize = 7;

/// Values of a channel that reach the head `mlp`.
pub(crate) const POOLED: usize = POOLED_SIDE * POOLED_SIDE;

/// The model; see [`VggConfig`].
#[derive(Clone, Debug)]
pub struct Vgg {
    stages: Vec<Stage>,
    head: Head,
}

#[derive(Clone, Debug)]
enum Stage {
    Layer { layer: Box<Layer>, norm: BatchNormRelu, out_grid: Grid },
    Pool,
}

#[derive(Clone, Debug)]
enum Head {
    Mlp { linears: [Linear; 3], dropouts: [Dropout; 2] },
    Linear(Linear),
}

impl Vgg {
    /// A model that takes its parameters from `builder`.
    ///
    /// # Errors
    /// Where an option does not suit a layer or the image, or `builder` holds other shapes.
    pub fn new(model: &VggConfig, layer: &LayerConfig, builder: VarBuilder) -> crate::Result<Self> {
        let (steps, channels) = model.steps(layer)?;
        let features = builder.pp("features");
        let stages = steps.into_iter().map(|step| match step {
            Step::Layer(place) => Ok(Stage::Layer {
                layer: Box::new(Layer::new(layer, place.inputs, place.outputs, features.pp(place.index))?),
                norm: BatchNormRelu::new(place.outputs, features.pp(place.index + 1))?,
                out_grid: place.out_grid,
            }),
            Step::Pool => Ok(Stage::Pool),
        });
        let stages = stages.collect::<crate::Result<_>>()?;
        let head = builder.pp("classifier");
        let head = match model.head {
            VggHead::Mlp => Head::Mlp {
                linears: [
                    Linear::new(channels * POOLED, model.hidden, head.pp(0))?,
                    Linear::new(model.hidden, model.hidden, head.pp(3))?,
                    Linear::with_gain(model.hidden, model.classes, model.head_gain, head.pp(6))?,
                ],
                dropouts: ["classifier.2", "classifier.5"].map(|path| Dropout::new(model.dropout, path)),
            },
            VggHead::Linear => Head::Linear(Linear::with_gain(channels, model.classes, model.head_gain, head)?),
        };
        Ok(Self { stages, head })
    }

    /// The layers under test in order, to look at or to put others in their place.
    pub fn layers_mut(&mut self) -> impl Iterator<Item = &mut Layer> {
        self.stages.iter_mut().filter_map(|stage| match stage {
            Stage::Layer { layer, .. } => Some(&mut **layer),
            Stage::Pool => None,
        })
    }

    /// Images (B, 3, S, S) → logits (B, classes).
    ///
    /// # Errors
    /// Those of the layers.
    pub fn forward(&self, images: &Tensor, pass: &Pass) -> Result<Tensor> {
        let (batch, channels, height, width) = images.dims4()?;
        let mut grid = Grid::new(height, width);
        let mut x = images.permute((0, 2, 3, 1))?.contiguous()?.reshape((batch, grid.tokens(), channels))?;
        for stage in &self.stages {
            (x, grid) = match stage {
                Stage::Layer { layer, norm, out_grid } => {
                    (norm.forward(&layer.forward_tokens(&x, grid, pass)?, pass)?, *out_grid)
                }
                Stage::Pool => ops::max_pool_2x2(&x, grid)?,
            };
        }
        match &self.head {
            Head::Linear(linear) => linear.forward(&global_average(&x)?),
            Head::Mlp { linears: [first, second, third], dropouts } => {
                let x = dropouts[0].forward(&ops::relu(&pooled_linear(&x, grid, first)?)?, pass)?;
                let x = dropouts[1].forward(&ops::relu(&second.forward(&x)?)?, pass)?;
                third.forward(&x)
            }
        }
    }
}

/// (B, N, C) → (B, C), the mean over the tokens.
fn global_average(x: &Tensor) -> Result<Tensor> {
    Ok(if x.dim(1)? == 1 { x.squeeze(1)? } else { x.mean(1)? })
}

/// Adaptive average pool to 7×7, flattened channel by channel, then `linear`: (B, N, C) → (B, O).
fn pooled_linear(x: &Tensor, grid: Grid, linear: &Linear) -> Result<Tensor> {
    // A 1×1 map, as 32×32 images leave, would be repeated 49 times.
    if grid.tokens() == 1 {
        return linear.forward_repeated(&x.squeeze(1)?, POOLED);
    }
    let (batch, tokens, channels) = x.dims3()?;
    let weights = pool_weights(grid, x.dtype(), x.device())?; // (N, 49)
    let rows = x.transpose(1, 2)?.contiguous()?.reshape((batch * channels, tokens))?;
    linear.forward(&rows.matmul(&weights)?.reshape((batch, channels * POOLED))?)
}

/// The adaptive average pool of `grid` to 7×7 as a matrix (N, 49).
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
