//! VGG with any 2-D layer in place of each convolution.
//!
//! Parameter names are those of torchvision's `vgg*_bn`: in `features.{i}` a layer, its batch norm, its ReLU and a
//! max-pool count one each; `classifier.{0,3,6}` are the linear layers of the head.

mod config;
mod head;

pub use config::{Feature, VggConfig, VggHead};

use crate::flops::values;
use crate::layer::{Layer2d, LayerConfig, Slot};
use crate::network::{Architecture, Network, Observe};
use crate::{Error, LayerSummary, Observed, shapes};
use candle_core::Tensor;
use candle_nn::{Module, VarBuilder};
use convnn_core::nn::{Activation, BatchNorm, max_pool_2x2};
use convnn_core::{Grid, Pass, Result};
use head::Head;
use std::sync::Arc;

/// The network; see [`VggConfig`].
///
/// ```
/// # fn main() -> convnn_models::Result<()> {
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::Module;
/// use convnn_core::{Grid, Parameters, Pass, Streams};
/// use convnn_models::layer::{Layer2d, Slot};
/// use convnn_models::{Vgg, preset, ModelConfig};
/// use std::sync::Arc;
///
/// /// A 1×1 convolution: no token sees another.
/// #[derive(Debug)]
/// struct Pointwise(candle_nn::Linear);
///
/// impl Layer2d for Pointwise {
///     fn forward_tokens(&self, x: &Tensor, _: Grid, _: &Pass) -> convnn_core::Result<Tensor> {
///         Ok(self.0.forward(x)?)
///     }
/// }
///
/// let ModelConfig::Vgg { model, layer } = preset("vgg11_compact").unwrap().config() else { unreachable!() };
/// let parameters = Parameters::new(&Streams::new(42), DType::F32, &Device::Cpu);
/// // The first four layers see no neighbors, the others choose them.
/// let vgg = Vgg::with_layers(
///     &model,
///     |slot: &Slot, vb| match slot.index {
///         0..4 => Ok(Arc::new(Pointwise(candle_nn::linear(slot.in_channels, slot.out_channels, vb)?))),
///         _ => layer.options().build(slot, vb),
///     },
///     parameters.builder(),
/// )?;
/// let images = Tensor::zeros((2, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// assert_eq!(vgg.forward(&images)?.dims(), [2, 10]);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Vgg {
    stages: Vec<Stage>,
    head: Head,
}

#[derive(Clone, Debug)]
enum Stage {
    Layer { slot: Slot, layer: Arc<dyn Layer2d>, norm: BatchNorm },
    Pool,
}

impl Vgg {
    /// Builds the network with `layer` in every place, taking parameters from `vb`.
    ///
    /// # Errors
    /// [`Error::Value`] for an option of the model out of its range, and those of the layers and of `vb`.
    pub fn new(config: &VggConfig, layer: &LayerConfig, vb: VarBuilder) -> crate::Result<Self> {
        Self::with_layers(config, |slot, vb| layer.options().build(slot, vb), vb)
    }

    /// Builds the network with the layers that `build` returns for each slot, from the first to the last.
    ///
    /// # Errors
    /// Those of [`Self::new`] and of `build`.
    pub fn with_layers<F>(config: &VggConfig, mut build: F, vb: VarBuilder) -> crate::Result<Self>
    where
        F: FnMut(&Slot, VarBuilder) -> Result<Arc<dyn Layer2d>>,
    {
        config.check()?;
        let features = vb.pp("features");
        let (mut module, mut index, mut channels) = (0, 0, 3);
        let mut grid = Grid::new(config.image, config.image);
        let mut stages = Vec::with_capacity(config.features.len());
        for feature in &config.features {
            match *feature {
                Feature::Layer(out_channels) => {
                    let slot = Slot { index, in_channels: channels, out_channels, grid };
                    let layer = build(&slot, features.pp(module))?;
                    let norm = BatchNorm::new(out_channels, Activation::Relu, features.pp(module + 1))?;
                    grid = layer.output_grid(grid);
                    stages.push(Stage::Layer { slot, layer, norm });
                    (module, index, channels) = (module + 3, index + 1, out_channels);
                }
                Feature::Pool => {
                    let Grid { height, width } = grid;
                    if height < 2 || width < 2 {
                        let map = format!("the map at features.{module} is {height}×{width}");
                        let expected = format!("a larger image: {map} and cannot be pooled");
                        return Err(Error::Value { key: "model.image", found: config.image.to_string(), expected });
                    }
                    grid = Grid::new(height / 2, width / 2);
                    stages.push(Stage::Pool);
                    module += 1;
                }
            }
        }
        Ok(Self { stages, head: Head::new(config, channels, vb.pp("classifier"))? })
    }

    /// The layers with their slots, from the first to the last.
    pub fn layers(&self) -> impl Iterator<Item = (&Slot, &Arc<dyn Layer2d>)> {
        self.stages.iter().filter_map(|stage| match stage {
            Stage::Layer { slot, layer, .. } => Some((slot, layer)),
            Stage::Pool => None,
        })
    }

    /// The same network, each layer replaced by what `replace` returns for it; `None` keeps it.
    ///
    /// # Errors
    /// Those of `replace`.
    pub fn map_layers<F>(&self, mut replace: F) -> Result<Self>
    where
        F: FnMut(&Slot, &Arc<dyn Layer2d>) -> Result<Option<Arc<dyn Layer2d>>>,
    {
        let mut vgg = self.clone();
        for stage in &mut vgg.stages {
            if let Stage::Layer { slot, layer, .. } = stage
                && let Some(new) = replace(slot, layer)?
            {
                *layer = new;
            }
        }
        Ok(vgg)
    }

    /// Images (B, 3, H, W) to logits (B, classes), with gradients to the images and every parameter.
    ///
    /// # Errors
    /// Those of the layers.
    pub fn forward_t(&self, images: &Tensor, pass: &Pass) -> Result<Tensor> {
        Network::forward_t(self, images, pass)
    }
}

impl Network for Vgg {
    fn features(&self, images: &Tensor, pass: &Pass, observe: Observe<'_>) -> Result<Tensor> {
        let (batch, channels, height, width) = images.dims4()?;
        let mut grid = Grid::new(height, width);
        let mut x = images.permute((0, 2, 3, 1))?.contiguous()?.reshape((batch, grid.tokens(), channels))?;
        for stage in &self.stages {
            (x, grid) = match stage {
                Stage::Layer { slot, layer, norm } => {
                    observe(Observed::map(slot.index, &x, grid, &**layer, pass))?;
                    (norm.forward_t(&layer.forward_tokens(&x, grid, pass)?, pass)?, layer.output_grid(grid))
                }
                Stage::Pool => max_pool_2x2(&x, grid)?,
            };
        }
        self.head.features(&x, grid, pass)
    }

    fn classify(&self, features: &Tensor) -> Result<Tensor> {
        self.head.classify(features)
    }

    fn to_conv_nn(&self) -> Result<Arc<dyn Network>> {
        Ok(Arc::new(self.map_layers(|_, layer| layer.to_conv_nn())?))
    }
}

impl Module for Vgg {
    /// Images (B, 3, H, W) to logits (B, classes), in evaluation.
    fn forward(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        Ok(self.forward_t(images, &Pass::evaluation())?)
    }
}

impl Architecture for VggConfig {
    type Layer = LayerConfig;

    const TITLE: &'static str = "VGG";

    fn build(&self, layer: &LayerConfig, vb: VarBuilder) -> crate::Result<Arc<dyn Network>> {
        Ok(Arc::new(Vgg::new(self, layer, vb)?))
    }

    fn layers(&self, layer: &LayerConfig) -> crate::Result<Vec<LayerSummary>> {
        let (vgg, _) = shapes::record(|vb| Vgg::new(self, layer, vb))?;
        let options = layer.options();
        let mut grid = Grid::new(self.image, self.image);
        // The images, channels first and last.
        let mut rows = vec![LayerSummary {
            kept: 2 * values(grid.tokens(), 3),
            ..LayerSummary::new("images", "images", &[3, grid.height, grid.width])
        }];
        let (mut module, mut channels) = (0, 3);
        for stage in &vgg.stages {
            let tokens = grid.tokens();
            let row = |name: String, kind: &str, channels: usize, grid: Grid| {
                LayerSummary::new(name, kind, &[channels, grid.height, grid.width])
            };
            match stage {
                Stage::Layer { slot, layer: built, .. } => {
                    grid = built.output_grid(grid);
                    channels = slot.out_channels;
                    rows.push(LayerSummary {
                        tokens: Some(tokens),
                        flops: options.flops(slot),
                        choice: options.choice(slot),
                        kept: options.kept(slot),
                        ..row(format!("features.{module}"), layer.kind(), channels, grid)
                    });
                    rows.push(LayerSummary {
                        kept: values(grid.tokens(), channels),
                        ..row(format!("features.{}", module + 1), "norm, ReLU", channels, grid)
                    });
                    module += 3;
                }
                Stage::Pool => {
                    grid = Grid::new(grid.height / 2, grid.width / 2);
                    rows.push(LayerSummary {
                        kept: values(grid.tokens(), channels),
                        ..row(format!("features.{module}"), "max-pool", channels, grid)
                    });
                    module += 1;
                }
            }
        }
        rows.extend(head::layers(self, channels, grid));
        Ok(rows)
    }
}
