//! What an architecture offers: its configuration, and the network built from it.

use crate::{LayerSummary, Observed, Result};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use convnn_core::Pass;
use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

/// The table `[model]` of an architecture. It also has the fields `classes` and `image`.
pub(crate) trait Architecture {
    /// The table `[layer]`.
    type Layer;

    /// The name in prose.
    const TITLE: &'static str;

    /// Builds the network, checking the configuration.
    fn build(&self, layer: &Self::Layer, vb: VarBuilder) -> Result<Arc<dyn Network>>;

    /// The rows of [`ModelConfig::layers`](crate::ModelConfig::layers), from the images to the logits.
    fn layers(&self, layer: &Self::Layer) -> Result<Vec<LayerSummary>>;

    /// Constants that the network computes itself but PyTorch stores with the parameters, under the names it uses.
    fn buffers(&self) -> Result<Vec<(&'static str, Tensor)>> {
        Ok(Vec::new())
    }
}

/// A callback that receives each layer under test during a forward pass.
pub type Observe<'a> = &'a mut dyn FnMut(Observed<'_>) -> convnn_core::Result<()>;

/// A network from images to logits.
///
/// `Any` is a supertrait, so a network can be cast back to its type: `(network as &dyn Any).downcast_ref::<Vgg>()`.
pub trait Network: Any + Debug + Send + Sync {
    /// Maps images (B, 3, H, W) to the features (B, C) that the last linear layer sees, calling `observe` before each
    /// layer under test.
    fn features(&self, images: &Tensor, pass: &Pass, observe: Observe<'_>) -> convnn_core::Result<Tensor>;

    /// Maps features (B, C) to logits (B, classes).
    fn classify(&self, features: &Tensor) -> convnn_core::Result<Tensor>;

    /// Maps images (B, 3, H, W) to logits (B, classes).
    fn forward_t(&self, images: &Tensor, pass: &Pass) -> convnn_core::Result<Tensor> {
        self.classify(&self.features(images, pass, &mut |_| Ok(()))?)
    }

    /// The network with a ConvNN layer in place of each layer that has an equal one.
    fn to_conv_nn(&self) -> convnn_core::Result<Arc<dyn Network>>;
}
