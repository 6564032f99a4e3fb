//! Trained networks in ConvNN form: convolutions and attention become ConvNN layers that give equal outputs.
//!
//! What is no such special case (a ConvNN layer already, a hybrid, sparse or local attention) stays as it is. The new
//! network holds the tensors of the old one, so that gradients reach the same parameters.

use crate::mixers::{KvtAttention, MultiHeadAttention};
use crate::nn::Linear;
use crate::{Conv2d, Layer, Mixer, Model, Network, Vgg, Vit};
use convnn_core::{AttentionWeights, ConvNn2d, ConvNnAttention, Result};

impl Model {
    /// The model in ConvNN form.
    ///
    /// # Errors
    /// As [`Vgg::to_conv_nn`].
    pub fn to_conv_nn(&self) -> Result<Self> {
        let mut model = self.clone();
        let network = model.network_mut();
        *network = match network {
            Network::Vgg(vgg) => Network::Vgg(vgg.to_conv_nn()?),
            Network::Vit(vit) => Network::Vit(vit.to_conv_nn()?),
        };
        Ok(model)
    }
}

impl Vgg {
    /// The network with a ConvNN layer in place of each convolution.
    ///
    /// # Errors
    /// [`convnn_core::Error::Option`] where the kernel of a convolution is even.
    pub fn to_conv_nn(&self) -> Result<Self> {
        let mut vgg = self.clone();
        for layer in vgg.layers_mut() {
            *layer = layer.to_conv_nn()?;
        }
        Ok(vgg)
    }
}

impl Vit {
    /// The network with a ConvNN layer in place of each multi-head or KVT attention, without their dropout.
    ///
    /// # Errors
    /// Those of Candle.
    pub fn to_conv_nn(&self) -> Result<Self> {
        let mut vit = self.clone();
        let tokens = vit.positions().dim(1)?;
        for block in vit.blocks_mut() {
            *block.mixer_mut() = block.mixer().to_conv_nn(tokens)?;
        }
        Ok(vit)
    }
}

impl Layer {
    /// The layer in ConvNN form.
    ///
    /// # Errors
    /// [`convnn_core::Error::Option`] where the kernel of a convolution is even.
    pub fn to_conv_nn(&self) -> Result<Self> {
        match self {
            Self::Conv2d(conv) => Ok(Self::ConvNn2d(conv.to_conv_nn()?)),
            other => Ok(other.clone()),
        }
    }
}

impl Mixer {
    /// The mixer in ConvNN form, for sequences of `tokens` tokens.
    ///
    /// # Errors
    /// Those of Candle.
    pub fn to_conv_nn(&self, tokens: usize) -> Result<Self> {
        match self {
            Self::MultiHeadAttention(mixer) => Ok(Self::ConvNnAttention(mixer.to_conv_nn(tokens)?)),
            Self::KvtAttention(mixer) => Ok(Self::ConvNnAttention(mixer.to_conv_nn()?)),
            other => Ok(other.clone()),
        }
    }
}

impl Conv2d {
    /// The ConvNN layer that computes this convolution; see [`ConvNn2d::from_convolution`].
    ///
    /// # Errors
    /// [`convnn_core::Error::Option`] where the kernel is even.
    pub fn to_conv_nn(&self) -> Result<ConvNn2d> {
        ConvNn2d::from_convolution(self.weight(), Some(self.bias()))
    }
}

impl MultiHeadAttention {
    /// The ConvNN layer that computes this attention over `tokens` tokens; see [`ConvNnAttention::from_attention`].
    ///
    /// # Errors
    /// [`convnn_core::Error::Option`] where `tokens` is 0.
    pub fn to_conv_nn(&self, tokens: usize) -> Result<ConvNnAttention> {
        let weight = |linear: &Linear| linear.weight().clone();
        let weights = AttentionWeights {
            query: weight(self.query()),
            key: weight(self.key()),
            value: weight(self.value()),
            out: weight(self.out()),
        };
        ConvNnAttention::from_attention(&weights, self.heads(), tokens)
    }
}

impl KvtAttention {
    /// The ConvNN layer that computes this attention; see [`ConvNnAttention::from_kvt_attention`].
    ///
    /// # Errors
    /// Those of Candle.
    pub fn to_conv_nn(&self) -> Result<ConvNnAttention> {
        ConvNnAttention::from_kvt_attention(self.qkv().weight(), self.out().weight(), self.heads(), self.neighbors())
    }
}
