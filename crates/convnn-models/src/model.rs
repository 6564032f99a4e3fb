//! A model of either architecture.

use crate::config::ModelConfig;
use crate::vgg::Vgg;
use crate::vit::Vit;
use candle_core::Tensor;
use candle_nn::VarBuilder;
use convnn_core::{Error, Pass};

/// An image classifier.
#[derive(Clone, Debug)]
pub struct Model {
    network: Network,
    image: usize,
}

/// The network behind a [`Model`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Network {
    /// VGG.
    Vgg(Vgg),
    /// Vision Transformer.
    Vit(Vit),
}

impl Model {
    /// The model that `config` describes, with parameters from `builder`.
    ///
    /// # Errors
    /// The first thing that [`ModelConfig::check`] or a layer finds wrong, or where `builder` holds other shapes.
    pub fn new(config: &ModelConfig, builder: VarBuilder) -> crate::Result<Self> {
        config.check()?;
        let network = match config {
            ModelConfig::Vgg { model, layer } => Network::Vgg(Vgg::new(model, layer, builder)?),
            ModelConfig::Vit { model, layer } => Network::Vit(Vit::new(model, layer, builder)?),
        };
        Ok(Self { network, image: config.image_size() })
    }

    /// The network, to look at its layers or to put others in their place.
    pub const fn network_mut(&mut self) -> &mut Network {
        &mut self.network
    }

    /// Images (B, 3, S, S) → logits (B, classes).
    ///
    /// # Errors
    /// Where the images have another shape.
    pub fn forward(&self, images: &Tensor, pass: &Pass) -> convnn_core::Result<Tensor> {
        let side = self.image;
        if images.rank() != 4 || images.dims()[1..] != [3, side, side] {
            let (found, expected) = (images.dims().to_vec(), format!("(B, 3, {side}, {side})"));
            return Err(Error::Shape { op: "model", tensor: "images", found, expected });
        }
        match &self.network {
            Network::Vgg(vgg) => vgg.forward(images, pass),
            Network::Vit(vit) => vit.forward(images, pass),
        }
    }
}
