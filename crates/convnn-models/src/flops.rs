//! Arithmetic of one forward pass, counted from the configuration.
//!
//! A multiply-add is 2 operations. Counted are all products of matrices (linear layers, every convolution, every
//! aggregation, similarities and attention) and, 1 operation an element, what the published counter counts beside
//! them in a Vision Transformer: the additions of residuals and positions, the modulation of the neighbors, and the
//! scaling, masking and rotation of scores in the baselines. Biases, norms, activations, poolings and softmax are
//! not counted, nor is the choice of the K largest scores. What the models here leave out is counted all the same: the
//! repeated pool of a VGG, and the last hidden layer of a Vision Transformer for tokens that no longer matter.
//!
//! The published figures lack 1-D and "same" convolutions; with those put back they agree (`tests/it/costs.rs`).

use crate::Result;
use crate::config::{
    BranchingTokensConfig, LayerConfig, LocalAttentionConfig, MixerConfig, ModelConfig, NeighborAttentionConfig,
    NeighborConfig, OtherBranch, Place, Step, VggConfig, VggHead, VitConfig,
};
use crate::vgg::POOLED;
use convnn_core::{Candidates, Compare, Kernel, Modulation, Values};

impl ModelConfig {
    /// Floating-point operations of the forward pass of one image.
    ///
    /// # Errors
    /// The first thing that [`Self::check`] finds wrong.
    pub fn flops(&self) -> Result<u64> {
        self.check()?;
        match self {
            Self::Vgg { model, layer } => vgg(model, layer),
            Self::Vit { model, layer } => Ok(vit(model, layer)),
        }
    }
}

/// `rows` times a matrix of `inputs` by `outputs`.
const fn product(rows: usize, inputs: usize, outputs: usize) -> u64 {
    2 * rows as u64 * inputs as u64 * outputs as u64
}

fn vgg(model: &VggConfig, layer: &LayerConfig) -> Result<u64> {
    let (steps, channels) = model.steps(layer)?;
    let mut sum = match model.head {
        VggHead::Mlp => {
            product(1, channels * POOLED, model.hidden)
                + product(1, model.hidden, model.hidden)
                + product(1, model.hidden, model.classes)
        }
        VggHead::Linear => product(1, channels, model.classes),
    };
    for step in &steps {
        if let Step::Layer(place) = step {
            sum += vgg_layer(place, layer);
        }
    }
    Ok(sum)
}

fn vgg_layer(place: &Place, layer: &LayerConfig) -> u64 {
    let (tokens, outputs) = (place.grid.tokens(), place.outputs);
    let convolution = |outputs, side: usize| product(tokens, place.inputs * side * side, outputs);
    let neighbor: fn(&Place, &NeighborConfig, usize) -> u64 = match layer {
        LayerConfig::ConvNn2dAttention(_) | LayerConfig::Branching2dAttention(_) => projected,
        _ => plain,
    };
    match layer {
        LayerConfig::Conv2d(c) => convolution(outputs, c.kernel_size),
        LayerConfig::ConvNn2d(c) | LayerConfig::ConvNn2dAttention(c) => neighbor(place, c, outputs),
        LayerConfig::Branching2d(c) | LayerConfig::Branching2dAttention(c) => {
            let share = c.neighbor_outputs(outputs);
            let first = if c.branch_ratio == 0.0 { 0 } else { neighbor(place, &c.neighbor_options(), share) };
            first + convolution(outputs - share, c.kernel_size) + product(tokens, outputs, outputs)
        }
    }
}

/// What both ConvNN layers on a grid share: (tokens, padded tokens, candidates, channels in, channels out).
fn searched(place: &Place, c: &NeighborConfig, outputs: usize) -> (usize, usize, usize, usize, usize) {
    let inner = c.inner_grid(place.grid);
    let block = c.shuffle_scale * c.shuffle_scale;
    let inputs = if c.shuffle.before() { place.inputs * block } else { place.inputs };
    let outputs = if c.shuffle.after() { outputs * block } else { outputs };
    (inner.tokens(), inner.padded(c.padding).tokens(), c.candidate_count(place), inputs, outputs)
}

/// ConvNN without projections. Padded tokens search too, as in the published code.
fn plain(place: &Place, c: &NeighborConfig, outputs: usize) -> u64 {
    let (tokens, padded, candidates, inputs, outputs) = searched(place, c, outputs);
    let compared = match c.compare {
        Compare::Position => 2,
        Compare::Blend(_) => inputs + 2,
        _ => inputs,
    };
    let carried = if c.values == Values::FeaturesPosition { inputs + 2 } else { inputs };
    product(padded, compared, candidates) + product(tokens, c.neighbors * carried, outputs)
}

/// ConvNN with projections.
fn projected(place: &Place, c: &NeighborConfig, outputs: usize) -> u64 {
    let (tokens, padded, candidates, inputs, outputs) = searched(place, c, outputs);
    let width = if c.values == Values::FeaturesPosition { inputs + 2 } else { inputs };
    let projections = product(2 * padded + candidates, width, width);
    let modulation = (padded * c.neighbors * width) as u64;
    let aggregation = product(tokens, c.neighbors, width);
    let after = product(tokens, width, outputs) + product(tokens, outputs, outputs);
    projections + product(padded, width, candidates) + modulation + aggregation + after
}

fn vit(model: &VitConfig, layer: &MixerConfig) -> u64 {
    let (dim, tokens) = (model.dim, model.tokens());
    let patches = product(tokens - 1, 3 * model.patch * model.patch, dim);
    let residuals = 2 * tokens * dim;
    let mlp = product(tokens, dim, model.mlp) + product(tokens, model.mlp, dim);
    let block = mixer(layer, dim, tokens) + mlp + residuals as u64;
    patches + (tokens * dim) as u64 + model.layers as u64 * block + product(1, dim, model.classes)
}

fn mixer(layer: &MixerConfig, dim: usize, tokens: usize) -> u64 {
    let scores = |heads: usize| (heads * tokens * tokens) as u64;
    match layer {
        MixerConfig::MultiHeadAttention(_) => attention(dim, tokens),
        MixerConfig::ConvNnAttention(c) => neighbor_attention(c, dim, tokens),
        // One more operation a score for the scale.
        MixerConfig::KvtAttention(c) => attention(dim, tokens) + scores(c.heads),
        // Scale, and the three operations of the mask.
        MixerConfig::SparseAttention(c) => attention(dim, tokens) + 4 * scores(c.heads),
        MixerConfig::LocalAttention(c) => local_attention(c, dim, tokens),
        MixerConfig::BranchingTokens(c) => branching_tokens(c, dim, tokens),
    }
}

fn attention(dim: usize, tokens: usize) -> u64 {
    4 * product(tokens, dim, dim) + 2 * product(tokens, dim, tokens)
}

fn neighbor_attention(c: &NeighborAttentionConfig, dim: usize, tokens: usize) -> u64 {
    let candidates = c.candidate_count(tokens);
    // Only the queries that are candidates are projected.
    let queries = if c.candidates == Candidates::All { tokens } else { candidates };
    let projections = 3 * product(tokens, dim, dim) + product(queries, dim, dim);
    let (head, rows) = (dim / c.heads, tokens * c.heads);
    let width = if c.positions { head + 1 } else { head };
    let modulation = if c.modulation == Modulation::None { 0 } else { (rows * c.neighbors * width) as u64 };
    let aggregation = match c.kernel {
        Kernel::Standard => product(rows, c.neighbors * width, head),
        Kernel::DepthwiseSeparable => product(rows, c.neighbors, width) + product(rows, width, head),
        _ => product(rows, c.neighbors, width),
    };
    projections + product(rows, width, candidates) + modulation + aggregation
}

/// Each window attends to itself and the windows beside it, at the length that whole windows fill.
fn local_attention(c: &LocalAttentionConfig, dim: usize, tokens: usize) -> u64 {
    let inner = c.heads * c.dim_head;
    let padded = tokens.div_ceil(c.window) * c.window;
    let seen = 3 * c.window;
    let projections = product(tokens, dim, 3 * inner) + product(tokens, inner, dim);
    let scale = padded * inner;
    // Two products, a sum and two scalings a rotated element, for queries and for the three windows of keys.
    let rotation = 5 * (padded + 3 * padded) * inner;
    projections + 2 * product(padded, inner, seen) + (scale + rotation) as u64
}

fn branching_tokens(c: &BranchingTokensConfig, dim: usize, tokens: usize) -> u64 {
    let cut = c.cut(dim);
    let rest = dim - cut;
    let first = if cut == 0 { 0 } else { neighbor_attention(&c.neighbor_options(), cut, tokens) };
    let other = match c.other {
        _ if rest == 0 => 0,
        OtherBranch::Attention => attention(rest, tokens),
        OtherBranch::Conv1d => {
            let head = rest / c.heads;
            2 * product(tokens, rest, rest) + product(tokens * c.heads, c.kernel_size * head, head)
        }
    };
    first + other + product(tokens, dim, dim)
}
