//! What a configuration must fulfil before a model is built from it.

use super::{
    BranchingTokensConfig, LayerConfig, MixerConfig, ModelConfig, NeighborAttentionConfig, NeighborConfig, Place,
    VggConfig, VggHead, VitConfig,
};
use crate::{Error, Result};
use convnn_core::{Candidates, Compare, Grid, Kernel, Shuffle};

impl ModelConfig {
    /// Checks every value, alone and against the rest, the number of neighbors against the candidates of each layer
    /// included.
    ///
    /// # Errors
    /// [`Error::Value`] or [`Error::NeighborsExceedCandidates`], the first that is found.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Vgg { model, layer } => vgg(model, layer),
            Self::Vit { model, layer } => vit(model, layer),
        }
    }
}

fn wrong(key: &'static str, found: impl ToString, expected: impl Into<String>) -> Error {
    Error::Value { key, found: found.to_string(), expected: expected.into() }
}

fn ensure(holds: bool, key: &'static str, found: impl ToString, expected: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(wrong(key, found, expected)) }
}

fn at_least_one(key: &'static str, n: usize) -> Result<()> {
    ensure(n >= 1, key, n, "at least 1")
}

fn ratio(key: &'static str, x: f64) -> Result<()> {
    ensure((0.0..=1.0).contains(&x), key, x, "a number from 0 to 1")
}

fn dropout(key: &'static str, p: f64) -> Result<()> {
    ensure((0.0..1.0).contains(&p), key, p, "a probability from 0 to below 1")
}

fn gain(x: f64) -> Result<()> {
    ensure(x > 0.0 && x.is_finite(), "model.head_gain", x, "a number above 0")
}

fn vgg(model: &VggConfig, layer: &LayerConfig) -> Result<()> {
    at_least_one("model.classes", model.classes)?;
    at_least_one("model.image", model.image)?;
    dropout("model.dropout", model.dropout)?;
    gain(model.head_gain)?;
    if model.head == VggHead::Mlp {
        at_least_one("model.hidden", model.hidden)?;
    }
    match layer {
        LayerConfig::Conv2d(c) => at_least_one("layer.kernel_size", c.kernel_size)?,
        LayerConfig::Branching2d(c) | LayerConfig::Branching2dAttention(c) => {
            ratio("layer.branch_ratio", c.branch_ratio)?;
            at_least_one("layer.kernel_size", c.kernel_size)?;
            let sides_kept = matches!(c.shuffle, Shuffle::None | Shuffle::Both);
            let expected = "`none` or `both`: the two branches must have maps of one size";
            ensure(sides_kept, "layer.shuffle", format!("{:?}", c.shuffle).to_lowercase(), expected)?;
        }
        LayerConfig::ConvNn2d(_) | LayerConfig::ConvNn2dAttention(_) => {}
    }
    let options = layer.neighbor_options();
    if let Some(options) = &options {
        at_least_one("layer.neighbors", options.neighbors)?;
        at_least_one("layer.shuffle_scale", options.shuffle_scale)?;
        at_least_one_candidate(options.candidates)?;
        if let Compare::Blend(weight) = options.compare {
            ratio("layer.compare.blend", weight)?;
        }
    }
    if matches!(layer, LayerConfig::ConvNn2dAttention(_) | LayerConfig::Branching2dAttention(_)) {
        let compare = options.as_ref().map_or(Compare::Features, |o| o.compare);
        let found = format!("{compare:?}").to_lowercase();
        ensure(compare == Compare::Features, "layer.compare", found, "`features`: the layer has projections")?;
    }
    let places = model.places(layer)?;
    ensure(!places.is_empty(), "model.features", "without a layer", "at least one number of channels")?;
    for place in &places {
        vgg_place(place, layer, options.as_ref())?;
    }
    Ok(())
}

fn vgg_place(place: &Place, layer: &LayerConfig, options: Option<&NeighborConfig>) -> Result<()> {
    at_least_one("model.features", place.outputs)?;
    if let LayerConfig::Branching2d(c) | LayerConfig::Branching2dAttention(c) = layer {
        let (neighbor, outputs) = (c.neighbor_outputs(place.outputs), place.outputs);
        if c.branch_ratio > 0.0 && neighbor == 0 {
            let expected =
                format!("0, or at least {}: features.{} has {outputs} channels", 1.0 / outputs as f64, place.index);
            return Err(wrong("layer.branch_ratio", c.branch_ratio, expected));
        }
        if c.branch_ratio == 0.0 {
            return Ok(());
        }
    }
    let Some(options) = options else { return Ok(()) };
    let candidates = options.choice(place)?;
    if options.neighbors > candidates {
        let layer = format!("features.{}", place.index);
        return Err(Error::NeighborsExceedCandidates { layer, neighbors: options.neighbors, candidates });
    }
    Ok(())
}

fn at_least_one_candidate(candidates: Candidates) -> Result<()> {
    match candidates {
        Candidates::Random { n } => at_least_one("layer.candidates.random.n", n),
        Candidates::Spatial { n, .. } => at_least_one("layer.candidates.spatial.n", n),
        _ => Ok(()),
    }
}

/// A margin must leave at least one position of `side`.
fn margin_leaves(side: usize, margin: usize, place: &str) -> Result<()> {
    if side > 2 * margin {
        return Ok(());
    }
    let expected = format!("less than half of {side}, the side of {place}");
    Err(wrong("layer.candidates.spatial.margin", margin, expected))
}

/// How often the most frequent position stands among `n` on a side: a token is struck from the candidates as often.
fn most_alike(side: usize, n: usize, margin: usize) -> usize {
    let position = |i: usize| i * (side - 1 - 2 * margin) / (n - 1).max(1);
    let run = |i: usize| (0..n).filter(|&j| position(j) == position(i)).count();
    (0..n).map(run).max().unwrap_or(1)
}

impl NeighborConfig {
    /// The map over which neighbors are searched, without its padding.
    pub(crate) fn inner_grid(&self, grid: Grid) -> Grid {
        let scale = if self.shuffle.before() { self.shuffle_scale } else { 1 };
        Grid::new(grid.height / scale, grid.width / scale)
    }

    /// M, the number of candidates at `place`.
    pub(crate) fn candidate_count(&self, place: &Place) -> usize {
        let tokens = self.inner_grid(place.grid).padded(self.padding).tokens();
        match self.candidates {
            Candidates::Random { n } => n.min(tokens),
            Candidates::Spatial { n, .. } => n * n,
            _ => tokens,
        }
    }

    /// The largest K that every token at `place` can choose.
    fn choice(&self, place: &Place) -> Result<usize> {
        let candidates = self.candidate_count(place);
        let Candidates::Spatial { n, margin } = self.candidates else { return Ok(candidates) };
        let Grid { height, width } = self.inner_grid(place.grid);
        margin_leaves(height.min(width), margin, &format!("the map at features.{}", place.index))?;
        Ok(candidates + 1 - most_alike(height, n, margin) * most_alike(width, n, margin))
    }
}

fn vit(model: &VitConfig, layer: &MixerConfig) -> Result<()> {
    at_least_one("model.classes", model.classes)?;
    at_least_one("model.image", model.image)?;
    at_least_one("model.patch", model.patch)?;
    let expected = format!("a divisor of the image's side, {}", model.image);
    ensure(model.image.is_multiple_of(model.patch), "model.patch", model.patch, &expected)?;
    at_least_one("model.layers", model.layers)?;
    at_least_one("model.mlp", model.mlp)?;
    ensure(model.dim >= 2 && model.dim.is_multiple_of(2), "model.dim", model.dim, "an even number of at least 2")?;
    dropout("model.dropout", model.dropout)?;
    gain(model.head_gain)?;
    let (dim, tokens) = (model.dim, model.tokens());
    match layer {
        MixerConfig::MultiHeadAttention(c) => {
            heads_divide(c.heads, dim, "the width")?;
            dropout("layer.dropout", c.dropout)
        }
        MixerConfig::ConvNnAttention(c) => neighbor_attention(c, dim, tokens, "the width"),
        MixerConfig::KvtAttention(c) => {
            heads_divide(c.heads, dim, "the width")?;
            dropout("layer.dropout", c.dropout)?;
            neighbors_of(c.neighbors, tokens)
        }
        MixerConfig::SparseAttention(c) => {
            heads_divide(c.heads, dim, "the width")?;
            at_least_one("layer.window", c.window)?;
            dropout("layer.dropout", c.dropout)
        }
        MixerConfig::LocalAttention(c) => {
            at_least_one("layer.heads", c.heads)?;
            at_least_one("layer.window", c.window)?;
            let even = c.dim_head >= 2 && c.dim_head.is_multiple_of(2);
            ensure(even, "layer.dim_head", c.dim_head, "an even number of at least 2, for the rotary positions")
        }
        MixerConfig::BranchingTokens(c) => branching_tokens(c, dim, tokens),
    }
}

fn heads_divide(heads: usize, dim: usize, what: &str) -> Result<()> {
    let divides = heads >= 1 && dim.is_multiple_of(heads);
    ensure(divides, "layer.heads", heads, &format!("a divisor of {what}, {dim}"))
}

fn neighbors_of(neighbors: usize, candidates: usize) -> Result<()> {
    at_least_one("layer.neighbors", neighbors)?;
    if neighbors > candidates {
        let layer = "transformer_encoder.0.attention".to_owned();
        return Err(Error::NeighborsExceedCandidates { layer, neighbors, candidates });
    }
    Ok(())
}

fn neighbor_attention(c: &NeighborAttentionConfig, dim: usize, tokens: usize, what: &str) -> Result<()> {
    heads_divide(c.heads, dim, what)?;
    dropout("layer.dropout", c.dropout)?;
    at_least_one_candidate(c.candidates)?;
    let expected = "`standard` or `depthwise_separable` where `layer.positions` is true";
    ensure(!c.positions || c.kernel != Kernel::Depthwise, "layer.kernel", "depthwise", expected)?;
    if let Candidates::Spatial { margin, .. } = c.candidates {
        margin_leaves(tokens, margin, "the token sequence")?;
    }
    let alike = match c.candidates {
        Candidates::Spatial { n, margin } => most_alike(tokens, n, margin),
        _ => 1,
    };
    neighbors_of(c.neighbors, c.candidate_count(tokens) + 1 - alike)
}

impl NeighborAttentionConfig {
    /// M, the number of candidates among `tokens`.
    pub(crate) fn candidate_count(&self, tokens: usize) -> usize {
        match self.candidates {
            Candidates::Random { n } => n.min(tokens),
            Candidates::Spatial { n, .. } => n,
            _ => tokens,
        }
    }
}

fn branching_tokens(c: &BranchingTokensConfig, dim: usize, tokens: usize) -> Result<()> {
    ratio("layer.branch_ratio", c.branch_ratio)?;
    at_least_one("layer.kernel_size", c.kernel_size)?;
    let cut = c.cut(dim);
    if c.branch_ratio > 0.0 && cut == 0 {
        let expected = format!("0, or at least {}: the width is {dim}", 1.0 / dim as f64);
        return Err(wrong("layer.branch_ratio", c.branch_ratio, expected));
    }
    if cut > 0 {
        neighbor_attention(&c.neighbor_options(), cut, tokens, "the features of the ConvNN branch")?;
    }
    heads_divide(c.heads, dim - cut, "the features of the other branch")
}
