//! Vision Transformer with a token mixer of any kind in place of each attention.
//!
//! Pre-norm blocks, fixed sine and cosine positions, no final norm, and the head on the class token.

use crate::config::{MixerConfig, VitConfig};
use crate::mixer::Mixer;
use crate::nn::{Dropout, LayerNorm, Linear};
use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use candle_nn::init::Init;
use convnn_core::{Pass, Result, fan_in_uniform, ops};

/// The model; see [`VitConfig`].
#[derive(Clone, Debug)]
pub struct Vit {
    embedding: PatchEmbedding,
    class_token: Tensor, // (1, 1, D)
    positions: Tensor,   // (1, N, D)
    blocks: Vec<Block>,
    classifier: Linear,
}

impl Vit {
    /// A model that takes its parameters from `builder`.
    ///
    /// # Errors
    /// Where an option does not suit the mixer, or `builder` holds other shapes.
    pub fn new(model: &VitConfig, layer: &MixerConfig, builder: VarBuilder) -> Result<Self> {
        let (dim, tokens) = (model.dim, model.tokens());
        let encoder = builder.pp("transformer_encoder");
        let blocks = (0..model.layers).map(|i| Block::new(model, layer, encoder.pp(i)));
        let normal = Init::Randn { mean: 0.0, stdev: 1.0 };
        Ok(Self {
            embedding: PatchEmbedding::new(model, builder.pp("patch_embedding"))?,
            class_token: builder.pp("positional_encoding").get_with_hints((1, 1, dim), "cls_tokens", normal)?,
            positions: sine_cosine(tokens, dim, builder.device())?.to_dtype(builder.dtype())?,
            blocks: blocks.collect::<Result<_>>()?,
            classifier: Linear::with_gain(dim, model.classes, model.head_gain, builder.pp("classifier"))?,
        })
    }

    /// The fixed encoding of the positions, (1, N, D).
    pub const fn positions(&self) -> &Tensor {
        &self.positions
    }

    /// The blocks in order, to look at or to put other mixers in their place.
    pub fn blocks_mut(&mut self) -> impl Iterator<Item = &mut Block> {
        self.blocks.iter_mut()
    }

    /// Images (B, 3, S, S) → logits (B, classes).
    ///
    /// # Errors
    /// Those of the mixers.
    pub fn forward(&self, images: &Tensor, pass: &Pass) -> Result<Tensor> {
        let patches = self.embedding.forward(images)?; // (B, N − 1, D)
        let (batch, _, dim) = patches.dims3()?;
        let class = self.class_token.broadcast_as((batch, 1, dim))?;
        let mut x = Tensor::cat(&[&class, &patches], 1)?.broadcast_add(&self.positions)?; // (B, N, D)
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.mix(&x, pass)?;
            // Past the last mixer only the class token reaches the head.
            if i + 1 == self.blocks.len() {
                x = x.narrow(1, 0, 1)?.contiguous()?;
            }
            x = block.transform(&x, pass)?;
        }
        self.classifier.forward(&x.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?)
    }
}

/// Positions as sine and cosine of falling frequencies, on even and odd features: (1, N, D), f64.
pub(crate) fn sine_cosine(tokens: usize, dim: usize, device: &Device) -> Result<Tensor> {
    let value = |position: usize, feature: usize| {
        // PyTorch's peer works in f32 here; the frequencies are rounded as there.
        let even = (feature / 2 * 2) as f32;
        let angle = position as f32 * (even * (-(10000f64.ln()) / dim as f64) as f32).exp();
        f64::from(if feature.is_multiple_of(2) { angle.sin() } else { angle.cos() })
    };
    let values: Vec<f64> = (0..tokens).flat_map(|p| (0..dim).map(move |f| value(p, f))).collect();
    Ok(Tensor::from_vec(values, (1, tokens, dim), device)?)
}

/// Patches of P×P pixels through one linear layer and a layer norm.
#[derive(Clone, Debug)]
struct PatchEmbedding {
    weight: Tensor, // (D, 3, P, P)
    bias: Tensor,   // (D)
    norm: LayerNorm,
    patch: usize,
}

impl PatchEmbedding {
    fn new(model: &VitConfig, builder: VarBuilder) -> Result<Self> {
        let (dim, patch) = (model.dim, model.patch);
        let init = fan_in_uniform(3 * patch * patch);
        let projection = builder.pp("linear_projection");
        Ok(Self {
            weight: projection.get_with_hints((dim, 3, patch, patch), "weight", init)?,
            bias: projection.get_with_hints(dim, "bias", init)?,
            norm: LayerNorm::new(dim, builder.pp("norm"))?,
            patch,
        })
    }

    /// (B, 3, S, S) → (B, (S/P)², D)
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = images.dims4()?;
        let (p, rows, columns) = (self.patch, height / self.patch, width / self.patch);
        let patches = images
            .reshape(&[batch, channels, rows, p, columns, p][..])?
            .permute(&[0, 2, 4, 1, 3, 5][..])?
            .contiguous()?
            .reshape((batch, rows * columns, channels * p * p))?;
        self.norm.forward(&ops::linear(&patches, &self.weight.flatten_from(1)?, Some(&self.bias))?)
    }
}

/// One block: a mixer and a hidden layer, each behind a norm and beside a residual.
#[derive(Clone, Debug)]
pub struct Block {
    mixer: Mixer,
    norms: [LayerNorm; 2],
    hidden: Linear,
    out: Linear,
    dropouts: [Dropout; 3],
}

impl Block {
    fn new(model: &VitConfig, layer: &MixerConfig, builder: VarBuilder) -> Result<Self> {
        let dim = model.dim;
        let path = |name: &str| format!("{}.{name}", builder.prefix());
        Ok(Self {
            mixer: Mixer::new(dim, layer, builder.pp("attention"))?,
            norms: [LayerNorm::new(dim, builder.pp("norm1"))?, LayerNorm::new(dim, builder.pp("norm2"))?],
            hidden: Linear::new(dim, model.mlp, builder.pp("mlp.0"))?,
            out: Linear::new(model.mlp, dim, builder.pp("mlp.3"))?,
            dropouts: ["dropout1", "mlp.2", "dropout2"].map(|name| Dropout::new(model.dropout, path(name))),
        })
    }

    /// The token mixer.
    pub const fn mixer(&self) -> &Mixer {
        &self.mixer
    }

    /// The token mixer, to put another in its place.
    pub const fn mixer_mut(&mut self) -> &mut Mixer {
        &mut self.mixer
    }

    /// The first half, in which tokens meet: (B, N, D) → (B, N, D).
    fn mix(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let mixed = self.mixer.forward(&self.norms[0].forward(x)?, pass)?;
        ops::add_dropout(x, &mixed, self.dropouts[0].mask(pass)?)
    }

    /// The second half, each token on its own: (B, N, D) → (B, N, D).
    fn transform(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let hidden = self.hidden.forward(&self.norms[1].forward(x)?)?;
        let out = self.out.forward(&ops::gelu(&hidden, self.dropouts[1].mask(pass)?)?)?;
        ops::add_dropout(x, &out, self.dropouts[2].mask(pass)?)
    }
}
