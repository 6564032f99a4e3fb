//! Vision Transformer with any token mixer in place of each attention.
//!
//! Pre-norm blocks, fixed sine and cosine positions, no final norm, and the head on the class token.

mod block;
mod config;
mod embedding;

pub use config::VitConfig;

use crate::flops::{matmul, values};
use crate::mixer::{MixerConfig, Slot, TokenMixer};
use crate::network::{Architecture, Network, Observe};
use crate::{LayerSummary, Observed, shapes};
use block::Block;
use candle_core::{DType, Device, Tensor};
use candle_nn::init::Init;
use candle_nn::{Module, VarBuilder};
use convnn_core::nn::Linear;
use convnn_core::{Pass, Result};
use embedding::PatchEmbedding;
use std::sync::Arc;

/// PyTorch's name for the fixed positions.
const POSITIONS: &str = "positional_encoding.pe";

/// The network; see [`VitConfig`].
///
/// ```
/// # fn main() -> convnn_models::Result<()> {
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::Module;
/// use convnn_core::{Parameters, Pass, Streams};
/// use convnn_models::mixer::{Slot, TokenMixer};
/// use convnn_models::{Vit, preset, ModelConfig};
/// use std::sync::Arc;
///
/// /// Replaces each token by the mean of all.
/// #[derive(Debug)]
/// struct Mean;
///
/// impl TokenMixer for Mean {
///     fn forward_t(&self, x: &Tensor, _: &Pass) -> convnn_core::Result<Tensor> {
///         Ok(x.mean_keepdim(1)?.broadcast_as(x.shape())?.contiguous()?)
///     }
/// }
///
/// let ModelConfig::Vit { model, layer } = preset("vit_compact").unwrap().config() else { unreachable!() };
/// let parameters = Parameters::new(&Streams::new(42), DType::F32, &Device::Cpu);
/// // The first two blocks average, the others choose neighbors.
/// let vit = Vit::with_mixers(
///     &model,
///     |slot: &Slot, vb| match slot.index {
///         0..2 => Ok(Arc::new(Mean)),
///         _ => layer.options().build(slot, vb),
///     },
///     parameters.builder(),
/// )?;
/// let images = Tensor::zeros((2, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// assert_eq!(vit.forward(&images)?.dims(), [2, 10]);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Vit {
    embedding: PatchEmbedding,
    class_token: Tensor, // (1, 1, D)
    positions: Tensor,   // (1, N, D)
    blocks: Vec<Block>,
    classifier: Linear,
}

impl Vit {
    /// Builds the network with `mixer` in every block, taking parameters from `vb`.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) for an option of the model out of its range, and those of the mixers and of `vb`.
    pub fn new(config: &VitConfig, mixer: &MixerConfig, vb: VarBuilder) -> crate::Result<Self> {
        Self::with_mixers(config, |slot, vb| mixer.options().build(slot, vb), vb)
    }

    /// Builds the network with the mixers that `build` returns for each block, from the first to the last.
    ///
    /// # Errors
    /// Those of [`Self::new`] and of `build`.
    pub fn with_mixers<F>(config: &VitConfig, mut build: F, vb: VarBuilder) -> crate::Result<Self>
    where
        F: FnMut(&Slot, VarBuilder) -> Result<Arc<dyn TokenMixer>>,
    {
        config.check()?;
        let (dim, tokens) = (config.dim, config.tokens());
        let encoder = vb.pp("transformer_encoder");
        let block = |index| {
            let vb = encoder.pp(index);
            let mixer = build(&Slot { index, tokens, dim }, vb.pp("attention"))?;
            Block::new(config, mixer, vb)
        };
        let blocks = (0..config.layers).map(block).collect::<Result<_>>()?;
        let normal = Init::Randn { mean: 0.0, stdev: 1.0 };
        Ok(Self {
            embedding: PatchEmbedding::new(config, vb.pp("patch_embedding"))?,
            class_token: vb.pp("positional_encoding").get_with_hints((1, 1, dim), "cls_tokens", normal)?,
            positions: embedding::sine_cosine(tokens, dim, vb.device())?.to_dtype(vb.dtype())?,
            blocks,
            classifier: Linear::with_gain(dim, config.classes, config.head_gain, vb.pp("classifier"))?,
        })
    }

    /// The token mixers, from the first block to the last.
    pub fn mixers(&self) -> impl Iterator<Item = &Arc<dyn TokenMixer>> {
        self.blocks.iter().map(|block| &block.mixer)
    }

    /// The same network, each mixer replaced by what `replace` returns for it; `None` keeps it.
    ///
    /// # Errors
    /// Those of `replace`.
    pub fn map_mixers<F>(&self, mut replace: F) -> Result<Self>
    where
        F: FnMut(&Slot, &Arc<dyn TokenMixer>) -> Result<Option<Arc<dyn TokenMixer>>>,
    {
        let mut vit = self.clone();
        let (_, tokens, dim) = self.positions.dims3()?;
        for (index, block) in vit.blocks.iter_mut().enumerate() {
            if let Some(mixer) = replace(&Slot { index, tokens, dim }, &block.mixer)? {
                block.mixer = mixer;
            }
        }
        Ok(vit)
    }

    /// Images (B, 3, S, S) to logits (B, classes), with gradients to the images and every parameter.
    ///
    /// # Errors
    /// Candle's, if the images are not of the size that the network was built for, and those of the mixers.
    pub fn forward_t(&self, images: &Tensor, pass: &Pass) -> Result<Tensor> {
        Network::forward_t(self, images, pass)
    }
}

impl Network for Vit {
    fn features(&self, images: &Tensor, pass: &Pass, observe: Observe<'_>) -> Result<Tensor> {
        let patches = self.embedding.forward(images)?; // (B, N − 1, D)
        let (batch, _, dim) = patches.dims3()?;
        let class = self.class_token.broadcast_as((batch, 1, dim))?;
        let mut x = Tensor::cat(&[&class, &patches], 1)?.broadcast_add(&self.positions)?; // (B, N, D)
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.mix(&x, pass, |tokens| observe(Observed::sequence(i, tokens, &*block.mixer)))?;
            // After the last mixer only the class token matters.
            if i + 1 == self.blocks.len() {
                x = x.narrow(1, 0, 1)?.contiguous()?;
            }
            x = block.transform(&x, pass)?;
        }
        Ok(x.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?)
    }

    fn classify(&self, features: &Tensor) -> Result<Tensor> {
        Ok(self.classifier.forward(features)?)
    }

    fn to_conv_nn(&self) -> Result<Arc<dyn Network>> {
        Ok(Arc::new(self.map_mixers(|slot, mixer| mixer.to_conv_nn(slot.tokens))?))
    }
}

impl Module for Vit {
    /// Images (B, 3, S, S) to logits (B, classes), in evaluation.
    fn forward(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        Ok(self.forward_t(images, &Pass::evaluation())?)
    }
}

impl Architecture for VitConfig {
    type Layer = MixerConfig;

    const TITLE: &'static str = "Vision Transformer";

    fn build(&self, mixer: &MixerConfig, vb: VarBuilder) -> crate::Result<Arc<dyn Network>> {
        Ok(Arc::new(Vit::new(self, mixer, vb)?))
    }

    fn layers(&self, mixer: &MixerConfig) -> crate::Result<Vec<LayerSummary>> {
        // Checks the options of the mixers too, which the counts below divide by.
        shapes::record(|vb| Vit::new(self, mixer, vb))?;
        let (dim, tokens, pixels) = (self.dim, self.tokens(), 3 * self.image * self.image);
        let wide = [tokens, dim];
        let mut rows = vec![
            LayerSummary {
                flops: matmul(tokens - 1, 3 * self.patch * self.patch, dim),
                // The images, their patches, and the projections before and after the norm.
                kept: 2 * pixels as u64 + values(tokens - 1, 2 * dim),
                ..LayerSummary::new("patch_embedding", "patches, norm", &[tokens - 1, dim])
            },
            LayerSummary {
                flops: values(tokens, dim),
                kept: values(tokens, 2 * dim),
                ..LayerSummary::new("positional_encoding", "class, positions", &wide)
            },
        ];
        for index in 0..self.layers {
            let slot = Slot { index, tokens, dim };
            let block = format!("transformer_encoder.{index}");
            // After the last mixer only the class token goes on.
            let last = index + 1 == self.layers;
            let transformed = if last { 1 } else { tokens };
            let options = mixer.options();
            rows.push(LayerSummary {
                flops: options.flops(&slot),
                tokens: Some(tokens),
                choice: options.choice(&slot),
                kept: options.kept(&slot),
                ..LayerSummary::new(format!("{block}.attention"), mixer.kind(), &wide)
            });
            rows.push(LayerSummary {
                flops: matmul(tokens, dim, self.mlp) + matmul(tokens, self.mlp, dim) + 2 * values(tokens, dim),
                // Two norms, two residuals and the result; the hidden layer before and after GELU.
                kept: values(tokens, 2 * dim)
                    + values(transformed, (3 + usize::from(last)) * dim)
                    + values(transformed, 2 * self.mlp),
                ..LayerSummary::new(block, "norms, MLP", if last { &wide[1..] } else { &wide })
            });
        }
        rows.push(LayerSummary {
            flops: matmul(1, dim, self.classes),
            kept: (dim + self.classes) as u64,
            ..LayerSummary::new("classifier", "linear", &[self.classes])
        });
        Ok(rows)
    }

    fn buffers(&self) -> crate::Result<Vec<(&'static str, Tensor)>> {
        let positions = embedding::sine_cosine(self.tokens(), self.dim, &Device::Cpu)?;
        Ok(vec![(POSITIONS, positions.to_dtype(DType::F32)?.contiguous()?)])
    }
}
