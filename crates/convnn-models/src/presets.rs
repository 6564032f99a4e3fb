//! The models of the paper, and small models built the same way, by name.
//!
//! Their numbers come from section 5 of the paper's supplement and the authors' logs: VGG-11 and ViT-Tiny on CIFAR with
//! AdamW, batches of 256, weight decay 0.01, gradients clipped to norm 1, 150 epochs at a constant learning rate of 1e-4.

use crate::ModelConfig;
use crate::layer::{Conv2dConfig, LayerConfig};
use crate::mixer::{
    BranchingTokensConfig, KvtAttentionConfig, LocalAttentionConfig, MixerConfig, MultiHeadAttentionConfig,
    OtherBranch, SparseAttentionConfig, SparseMode,
};
use crate::vgg::{Feature, VggConfig, VggHead};
use crate::vit::VitConfig;
use convnn_core::{
    Branching2dAttentionConfig, Branching2dConfig, Candidates, ConvNn2dAttentionConfig, ConvNn2dConfig,
    ConvNnAttentionConfig,
};

/// A named model and how to train it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Preset {
    /// Architecture, size, and the layer unless it is the default.
    pub name: &'static str,
    /// What it is and where its numbers come from.
    pub summary: &'static str,
    config: fn() -> ModelConfig,
    /// How to train it.
    pub training: Training,
}

/// Recommended training; no augmentation, as in the paper.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Training {
    /// Images per step.
    pub batch_size: usize,
    /// Learning rate of AdamW.
    pub learning_rate: f64,
    /// How the learning rate falls.
    pub decay: Decay,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Largest norm of the gradient; a larger one is scaled down.
    pub clip_grad_norm: f64,
    /// Passes over the training data.
    pub epochs: usize,
}

/// How the learning rate falls during training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decay {
    /// It stays constant, as in the paper.
    None,
    /// It follows half a cosine to 0.
    Cosine,
}

/// As in the paper.
const PAPER: Training = Training {
    batch_size: 256,
    learning_rate: 1e-4,
    decay: Decay::None,
    weight_decay: 0.01,
    clip_grad_norm: 1.0,
    epochs: 150,
};

/// Small models learn faster, at a higher rate and in smaller batches, and short training ends better when the rate falls.
const COMPACT: Training = Training { batch_size: 128, learning_rate: 1e-3, decay: Decay::Cosine, epochs: 10, ..PAPER };

/// With PyTorch's initial values of the last layer, the loss starts 10 % above chance level.
const COMPACT_HEAD_GAIN: f64 = 0.1;

impl Preset {
    /// The configuration, for 10 classes.
    pub fn config(&self) -> ModelConfig {
        (self.config)()
    }
}

/// Every preset.
pub fn presets() -> &'static [Preset] {
    PRESETS
}

/// The preset called `name`.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

macro_rules! preset {
    ($name:literal, $training:expr, $config:expr, $summary:literal) => {
        Preset { name: $name, summary: $summary, config: || $config, training: $training }
    };
}

static PRESETS: &[Preset] = &[
    preset!(
        "vgg11",
        PAPER,
        vgg(&[1, 1, 2, 2, 2], branching()),
        "VGG-11, half of each layer's channels from 9 neighbors, half from a 3×3 convolution (paper, r = 0.5)"
    ),
    preset!("vgg13", PAPER, vgg(&[2, 2, 2, 2, 2], branching()), "VGG-13 with the layers of vgg11"),
    preset!("vgg16", PAPER, vgg(&[2, 2, 3, 3, 3], branching()), "VGG-16 with the layers of vgg11"),
    preset!("vgg19", PAPER, vgg(&[2, 2, 4, 4, 4], branching()), "VGG-19 with the layers of vgg11"),
    preset!(
        "vgg11_conv2d",
        PAPER,
        vgg(&[1, 1, 2, 2, 2], Conv2dConfig::default()),
        "VGG-11 with plain 3×3 convolutions and batch norm (torchvision's vgg11_bn)"
    ),
    preset!(
        "vgg11_conv_nn",
        PAPER,
        vgg(&[1, 1, 2, 2, 2], ConvNn2dConfig::default()),
        "VGG-11 with ConvNN layers of 9 neighbors instead of convolutions"
    ),
    preset!(
        "vgg11_conv_nn_attention",
        PAPER,
        vgg(&[1, 1, 2, 2, 2], ConvNn2dAttentionConfig::default()),
        "VGG-11 with ConvNN attention layers instead of convolutions"
    ),
    preset!(
        "vgg11_attention",
        PAPER,
        vgg(&[1, 1, 2, 2, 2], Branching2dAttentionConfig::default()),
        "VGG-11, half of each layer's channels from 9 neighbors with projections (authors' Branching_Attn, r = 0.5)"
    ),
    preset!(
        "vgg11_compact",
        COMPACT,
        compact_vgg(branching()),
        "VGG-11 at a quarter of the width with one linear layer at the end, for CPUs; layers of vgg11"
    ),
    preset!(
        "vgg11_compact_conv_nn",
        COMPACT,
        compact_vgg(ConvNn2dConfig::default()),
        "vgg11_compact with ConvNN layers instead of convolutions"
    ),
    preset!(
        "vgg11_compact_attention",
        COMPACT,
        compact_vgg(Branching2dAttentionConfig::default()),
        "vgg11_compact with the layers of vgg11_attention"
    ),
    preset!(
        "vgg7",
        COMPACT,
        vgg7(),
        "VGG of 6 layers for 32×32 images, wide where maps are small, 1.2 M parameters; the models in weights/"
    ),
    preset!(
        "vit_tiny",
        PAPER,
        vit(ConvNnAttentionConfig::default()),
        "ViT-Tiny, each attention a ConvNN over 9 neighbors (paper, one head, depthwise, all candidates)"
    ),
    preset!(
        "vit_tiny_random",
        PAPER,
        vit(conv_nn(Candidates::Random { n: 32 })),
        "vit_tiny with neighbors among 32 random tokens (paper's comparison with attention)"
    ),
    preset!(
        "vit_tiny_spatial",
        PAPER,
        vit(conv_nn(Candidates::Spatial { n: 32, margin: 0 })),
        "vit_tiny with neighbors among 32 evenly spread tokens (paper)"
    ),
    preset!("vit_tiny_attention", PAPER, vit(attention()), "ViT-Tiny with self-attention, one head (paper's baseline)"),
    preset!(
        "vit_tiny_kvt",
        PAPER,
        vit(KvtAttentionConfig::default()),
        "ViT-Tiny with attention to the 100 largest scores of each row (paper's KVT baseline)"
    ),
    preset!(
        "vit_tiny_sparse_local",
        PAPER,
        vit(SparseAttentionConfig::default()),
        "ViT-Tiny with attention to a band 49 tokens wide (paper's sparse baseline)"
    ),
    preset!(
        "vit_tiny_sparse_strided",
        PAPER,
        vit(SparseAttentionConfig { mode: SparseMode::Strided, window: 14, ..Default::default() }),
        "ViT-Tiny with attention to every 14th token (paper's sparse baseline)"
    ),
    preset!(
        "vit_tiny_local",
        PAPER,
        vit(LocalAttentionConfig { published: true, ..Default::default() }),
        "ViT-Tiny with windowed rotary attention as published, one head 64 wide, window 128 (paper's local baseline)"
    ),
    preset!(
        "vit_tiny_branching_attention",
        PAPER,
        vit(BranchingTokensConfig::default()),
        "ViT-Tiny, half of the features through ConvNN, half through attention (authors' BranchAttention)"
    ),
    preset!(
        "vit_tiny_branching_conv1d",
        PAPER,
        vit(BranchingTokensConfig { other: OtherBranch::Conv1d, ..Default::default() }),
        "ViT-Tiny, half of the features through ConvNN, half through a convolution along the sequence"
    ),
    preset!(
        "vit_compact",
        COMPACT,
        compact_vit(ConvNnAttentionConfig::default()),
        "ViT of 6 blocks, 128 wide, on 32×32 images with patches of 4, for CPUs; mixer of vit_tiny"
    ),
    preset!(
        "vit_compact_random",
        COMPACT,
        compact_vit(conv_nn(Candidates::Random { n: 16 })),
        "vit_compact with neighbors among 16 random tokens"
    ),
    preset!(
        "vit_compact_spatial",
        COMPACT,
        compact_vit(conv_nn(Candidates::Spatial { n: 16, margin: 0 })),
        "vit_compact with neighbors among 16 evenly spread tokens"
    ),
    preset!("vit_compact_attention", COMPACT, compact_vit(attention()), "vit_compact with self-attention, one head"),
    preset!(
        "vit_compact_kvt",
        COMPACT,
        compact_vit(KvtAttentionConfig { neighbors: 33, ..Default::default() }),
        "vit_compact with attention to the 33 largest scores of each row"
    ),
];

fn branching() -> Branching2dConfig {
    Branching2dConfig::default()
}

fn conv_nn(candidates: Candidates) -> ConvNnAttentionConfig {
    ConvNnAttentionConfig { candidates, ..Default::default() }
}

fn attention() -> MultiHeadAttentionConfig {
    MultiHeadAttentionConfig::default()
}

/// Five stages of widths 1, 2, 4, 8 and 8 times `width`, with this many layers each, and a pool after each stage.
fn features(width: usize, layers: &[usize; 5]) -> Vec<Feature> {
    let widths = [1, 2, 4, 8, 8].map(|factor| Feature::Layer(factor * width));
    let stage = |(&n, width)| std::iter::repeat_n(width, n).chain([Feature::Pool]);
    layers.iter().zip(widths).flat_map(stage).collect()
}

fn vgg(layers: &[usize; 5], layer: impl Into<LayerConfig>) -> ModelConfig {
    let model = VggConfig { features: features(64, layers), ..Default::default() };
    ModelConfig::Vgg { model, layer: layer.into() }
}

fn compact_vgg(layer: impl Into<LayerConfig>) -> ModelConfig {
    let model = VggConfig {
        features: features(16, &[1, 1, 2, 2, 2]),
        head: VggHead::Linear,
        dropout: 0.0,
        head_gain: COMPACT_HEAD_GAIN,
        ..Default::default()
    };
    ModelConfig::Vgg { model, layer: layer.into() }
}

/// Pools after the first layer already, so that most of the work is done on 16×16 and 8×8 maps.
fn vgg7() -> ModelConfig {
    let layer = Feature::Layer;
    let stages: [&[usize]; 4] = [&[48], &[96, 96], &[192, 192], &[256]];
    let features = stages.map(|widths| widths.iter().copied().map(layer).collect::<Vec<_>>());
    let model = VggConfig {
        features: features.join(&Feature::Pool),
        head: VggHead::Linear,
        dropout: 0.0,
        head_gain: COMPACT_HEAD_GAIN,
        ..Default::default()
    };
    ModelConfig::Vgg { model, layer: branching().into() }
}

fn vit(mixer: impl Into<MixerConfig>) -> ModelConfig {
    ModelConfig::Vit { model: VitConfig::default(), layer: mixer.into() }
}

fn compact_vit(mixer: impl Into<MixerConfig>) -> ModelConfig {
    let sizes = VitConfig { image: 32, patch: 4, dim: 128, mlp: 256, layers: 6, ..Default::default() };
    ModelConfig::Vit { model: VitConfig { head_gain: COMPACT_HEAD_GAIN, ..sizes }, layer: mixer.into() }
}
