//! The models of the paper and small ones of the same make, by name.
//!
//! The sources are section 5 of the paper's supplement and the logs of its authors: VGG-11 and ViT-Tiny on CIFAR with
//! AdamW, batches of 256, weight decay 0.01, clipping to norm 1, 150 epochs at a constant learning rate of 1e-4.

use crate::config::{
    BranchingConfig, BranchingTokensConfig, ConvolutionConfig, Feature, KvtAttentionConfig, LayerConfig,
    LocalAttentionConfig, MixerConfig, ModelConfig, MultiHeadAttentionConfig, NeighborAttentionConfig, NeighborConfig,
    OtherBranch, SparseAttentionConfig, SparseMode, VggConfig, VggHead, VitConfig,
};
use convnn_core::Candidates;

/// A named model with the way to train it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Preset {
    /// Architecture, size, and the layer where it is not the default one.
    pub name: &'static str,
    /// What it is, and where its numbers come from.
    pub summary: &'static str,
    /// The configuration, for 10 classes.
    pub config: fn() -> ModelConfig,
    /// How to train it.
    pub training: Training,
}

/// Recommended training; no augmentation, as in the paper.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Training {
    /// Images in a step.
    pub batch_size: usize,
    /// Learning rate of AdamW.
    pub learning_rate: f64,
    /// How it falls.
    pub decay: Decay,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Largest norm of the whole gradient.
    pub clip_grad_norm: f64,
    /// Passes over the data.
    pub epochs: usize,
}

/// How the learning rate falls over a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decay {
    /// Not at all, as in the paper.
    None,
    /// Along half a cosine, to 0.
    Cosine,
}

/// Section 5 of the paper's protocols.
const PAPER: Training = Training {
    batch_size: 256,
    learning_rate: 1e-4,
    decay: Decay::None,
    weight_decay: 0.01,
    clip_grad_norm: 1.0,
    epochs: 150,
};

/// Small models learn faster than their full-size counterparts and in smaller batches, and a short training ends better
/// where the learning rate falls.
const COMPACT: Training = Training { batch_size: 128, learning_rate: 1e-3, decay: Decay::Cosine, epochs: 10, ..PAPER };

/// PyTorch's initial values of the last layer spread the logits so far that training would start 10 % above chance.
const COMPACT_HEAD_GAIN: f64 = 0.1;

/// Every preset.
pub fn presets() -> &'static [Preset] {
    PRESETS
}

/// The preset `name`.
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
        vgg(&[1, 1, 2, 2, 2], LayerConfig::Conv2d(ConvolutionConfig::default())),
        "VGG-11 with plain 3×3 convolutions and batch norm (torchvision's vgg11_bn)"
    ),
    preset!(
        "vgg11_conv_nn",
        PAPER,
        vgg(&[1, 1, 2, 2, 2], LayerConfig::ConvNn2d(NeighborConfig::default())),
        "VGG-11 with ConvNN layers of 9 neighbors in place of the convolutions"
    ),
    preset!(
        "vgg11_conv_nn_attention",
        PAPER,
        vgg(&[1, 1, 2, 2, 2], LayerConfig::ConvNn2dAttention(NeighborConfig::default())),
        "VGG-11 with ConvNN layers with projections in place of the convolutions"
    ),
    preset!(
        "vgg11_attention",
        PAPER,
        vgg(&[1, 1, 2, 2, 2], LayerConfig::Branching2dAttention(BranchingConfig::default())),
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
        compact_vgg(LayerConfig::ConvNn2d(NeighborConfig::default())),
        "vgg11_compact with ConvNN layers in place of the convolutions"
    ),
    preset!(
        "vgg11_compact_attention",
        COMPACT,
        compact_vgg(LayerConfig::Branching2dAttention(BranchingConfig::default())),
        "vgg11_compact with the layers of vgg11_attention"
    ),
    preset!(
        "vit_tiny",
        PAPER,
        vit(conv_nn(NeighborAttentionConfig::default())),
        "ViT-Tiny, each attention a ConvNN over 9 neighbors (paper, one head, depthwise, all candidates)"
    ),
    preset!(
        "vit_tiny_random",
        PAPER,
        vit(conv_nn(NeighborAttentionConfig { candidates: Candidates::Random { n: 32 }, ..Default::default() })),
        "vit_tiny with neighbors among 32 random tokens (paper's best ViT on CIFAR)"
    ),
    preset!(
        "vit_tiny_spatial",
        PAPER,
        vit(conv_nn(NeighborAttentionConfig {
            candidates: Candidates::Spatial { n: 32, margin: 0 },
            ..Default::default()
        })),
        "vit_tiny with neighbors among 32 evenly spread tokens (paper)"
    ),
    preset!("vit_tiny_attention", PAPER, vit(attention()), "ViT-Tiny with self-attention, one head (paper's baseline)"),
    preset!(
        "vit_tiny_kvt",
        PAPER,
        vit(MixerConfig::KvtAttention(KvtAttentionConfig::default())),
        "ViT-Tiny with attention to the 100 largest scores of each row (paper's KVT baseline)"
    ),
    preset!(
        "vit_tiny_sparse_local",
        PAPER,
        vit(MixerConfig::SparseAttention(SparseAttentionConfig::default())),
        "ViT-Tiny with attention to a band 49 tokens wide (paper's sparse baseline)"
    ),
    preset!(
        "vit_tiny_sparse_strided",
        PAPER,
        vit(MixerConfig::SparseAttention(SparseAttentionConfig {
            mode: SparseMode::Strided,
            window: 14,
            ..Default::default()
        })),
        "ViT-Tiny with attention to every 14th token (paper's sparse baseline)"
    ),
    preset!(
        "vit_tiny_local",
        PAPER,
        vit(MixerConfig::LocalAttention(LocalAttentionConfig::default())),
        "ViT-Tiny with windowed rotary attention, one head 64 wide, window 128 (paper's local baseline)"
    ),
    preset!(
        "vit_tiny_branching_attention",
        PAPER,
        vit(MixerConfig::BranchingTokens(BranchingTokensConfig::default())),
        "ViT-Tiny, half of the features through ConvNN, half through attention (authors' BranchAttention)"
    ),
    preset!(
        "vit_tiny_branching_conv1d",
        PAPER,
        vit(MixerConfig::BranchingTokens(BranchingTokensConfig { other: OtherBranch::Conv1d, ..Default::default() })),
        "ViT-Tiny, half of the features through ConvNN, half through a convolution along the sequence"
    ),
    preset!(
        "vit_compact",
        COMPACT,
        compact_vit(conv_nn(NeighborAttentionConfig::default())),
        "ViT of 6 blocks, 128 wide, on 32×32 images with patches of 4, for CPUs; mixer of vit_tiny"
    ),
    preset!(
        "vit_compact_random",
        COMPACT,
        compact_vit(conv_nn(NeighborAttentionConfig {
            candidates: Candidates::Random { n: 16 },
            ..Default::default()
        })),
        "vit_compact with neighbors among 16 random tokens"
    ),
    preset!(
        "vit_compact_spatial",
        COMPACT,
        compact_vit(conv_nn(NeighborAttentionConfig {
            candidates: Candidates::Spatial { n: 16, margin: 0 },
            ..Default::default()
        })),
        "vit_compact with neighbors among 16 evenly spread tokens"
    ),
    preset!("vit_compact_attention", COMPACT, compact_vit(attention()), "vit_compact with self-attention, one head"),
    preset!(
        "vit_compact_kvt",
        COMPACT,
        compact_vit(MixerConfig::KvtAttention(KvtAttentionConfig { neighbors: 33, ..Default::default() })),
        "vit_compact with attention to the 33 largest scores of each row"
    ),
];

fn branching() -> LayerConfig {
    LayerConfig::Branching2d(BranchingConfig::default())
}

fn conv_nn(config: NeighborAttentionConfig) -> MixerConfig {
    MixerConfig::ConvNnAttention(config)
}

fn attention() -> MixerConfig {
    MixerConfig::MultiHeadAttention(MultiHeadAttentionConfig::default())
}

/// `width`, 2·`width`, 4·`width`, then twice 8·`width`, so many layers of each, a pool after each.
fn features(width: usize, layers: &[usize; 5]) -> Vec<Feature> {
    let widths = [1, 2, 4, 8, 8].map(|factor| Feature::Layer(factor * width));
    let stage = |(&n, width)| std::iter::repeat_n(width, n).chain([Feature::Pool]);
    layers.iter().zip(widths).flat_map(stage).collect()
}

fn vgg(layers: &[usize; 5], layer: LayerConfig) -> ModelConfig {
    ModelConfig::Vgg { model: VggConfig { features: features(64, layers), ..Default::default() }, layer }
}

fn compact_vgg(layer: LayerConfig) -> ModelConfig {
    let features = features(16, &[1, 1, 2, 2, 2]);
    let shape = VggConfig { features, head: VggHead::Linear, dropout: 0.0, ..Default::default() };
    ModelConfig::Vgg { model: VggConfig { head_gain: COMPACT_HEAD_GAIN, ..shape }, layer }
}

fn vit(layer: MixerConfig) -> ModelConfig {
    ModelConfig::Vit { model: VitConfig::default(), layer }
}

fn compact_vit(layer: MixerConfig) -> ModelConfig {
    let sizes = VitConfig { image: 32, patch: 4, dim: 128, mlp: 256, layers: 6, ..Default::default() };
    let model = VitConfig { head_gain: COMPACT_HEAD_GAIN, ..sizes };
    ModelConfig::Vit { model, layer }
}
