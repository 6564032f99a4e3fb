//! `conv_nn_2d_attention`: the 2-D layer with projections and softmax over the neighbors.

use super::limits::{self, check_candidates, check_tokens, within};
use super::shuffle::Shuffler;
use super::{Input, layer_path, module, parameter, to_map, to_tokens};
use crate::nn::linear;
use crate::operator::canvas::Canvas;
use crate::operator::search::{Pool, Search};
use crate::operator::similarity::Compared;
use crate::operator::{Neighbors, Score, Weights, aggregate, modulate, own_among_all, score_with_own};
use crate::{Candidates, Grid, Modulation, Pass, Result, Shuffle, Similarity, Values};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

/// Options of [`ConvNn2dAttention`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ConvNn2dAttentionConfig {
    /// Number of neighbors, K.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = crate::layers::limits::NEIGHBORS)))]
    pub neighbors: usize,
    /// Zero tokens on every side, which are candidates too, p.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = crate::layers::limits::PADDING)))]
    pub padding: usize,
    /// How close two projected tokens are.
    pub similarity: Similarity,
    /// What the similarity is taken of: projections of features, and of positions if `values` carry them.
    pub compare: CompareFeatures,
    /// What is projected and aggregated.
    pub values: Values,
    /// Which tokens may be chosen.
    pub candidates: Candidates,
    /// Where pixels are exchanged for channels.
    pub shuffle: Shuffle,
    /// Side of the squares that become channels, s.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = crate::layers::limits::SHUFFLE_SCALE)))]
    pub shuffle_scale: usize,
}

/// The one choice of `compare` in a layer with projections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CompareFeatures {
    /// Features; positions join through `values`.
    #[default]
    Features,
}

impl Default for ConvNn2dAttentionConfig {
    fn default() -> Self {
        Self {
            neighbors: 9,
            padding: 1,
            similarity: Similarity::Cosine,
            compare: CompareFeatures::Features,
            values: Values::Features,
            candidates: Candidates::All,
            shuffle: Shuffle::None,
            shuffle_scale: 1,
        }
    }
}

/// The k-nearest-neighbor layer on feature maps with query, key and value projections.
///
/// Row i is key i, its neighbors are chosen among the queries, and values are gathered at their places. *Select* K
/// candidates, the token itself first; *modulate* by the softmax of their scores; *aggregate* depthwise, then
/// pointwise. Gradients reach all parameters and the input, through scores and values.
#[derive(Clone, Debug)]
pub struct ConvNn2dAttention {
    config: ConvNn2dAttentionConfig,
    path: String,
    in_channels: usize,
    shuffler: Shuffler,
    sample: Option<Vec<u32>>,
    w_q: Tensor,
    w_k: Tensor,
    w_v: Tensor,
    w_o: Tensor,
    kernel: Weights,
    kernel_bias: Tensor,
    pointwise: Tensor,
    pointwise_bias: Tensor,
}

impl ConvNn2dAttention {
    /// Takes the projections `w_q`, `w_k`, `w_v` (C, C, 1), `conv1d_layer` (C, 1, K), `pointwise_conv` (O, C, 1) and
    /// `w_o` (O, O, 1) from `vb`; C counts the position channels, and with a shuffle C and O count s² times.
    ///
    /// # Errors
    /// [`crate::Error::Option`] for options that exclude each other.
    pub fn new(
        in_channels: usize,
        out_channels: usize,
        config: &ConvNn2dAttentionConfig,
        vb: VarBuilder<'_>,
    ) -> Result<Self> {
        let path = layer_path(&vb, "conv_nn_2d_attention");
        let k = config.neighbors;
        within(k, 1, limits::NEIGHBORS, &path, "neighbors")?;
        within(config.padding, 0, limits::PADDING, &path, "padding")?;
        check_candidates(config.candidates, &path)?;
        // The similarities of features, so that the baseline without projections can be put beside this layer.
        config.similarity.ensure_compares(Compared::Features, &path)?;
        let shuffler = Shuffler::on_grid(config.shuffle, config.shuffle_scale, &path)?;
        let (c, o) = shuffler.channels(in_channels, out_channels, &path)?;
        let c = if config.values == Values::FeaturesPosition { c + 2 } else { c };
        let matrix = |name: &str, outputs: usize, inputs: usize| -> Result<Tensor> {
            parameter(&vb.pp(name), (outputs, inputs, 1), "weight", inputs)
        };
        let conv1d = vb.pp("conv1d_layer");
        Ok(Self {
            config: config.clone(),
            in_channels,
            shuffler,
            sample: None,
            w_q: matrix("w_q", c, c)?,
            w_k: matrix("w_k", c, c)?,
            w_v: matrix("w_v", c, c)?,
            w_o: matrix("w_o", o, o)?,
            kernel: Weights::Depthwise(conv1d.get_with_hints((c, 1, k), "weight", candle_nn::init::ONE)?),
            kernel_bias: parameter(&conv1d, c, "bias", k)?,
            pointwise: matrix("pointwise_conv", o, c)?,
            pointwise_bias: parameter(&vb.pp("pointwise_conv"), o, "bias", c)?,
            path,
        })
    }

    /// The same layer with given candidates in place of a drawn sample: token numbers on the padded map.
    #[must_use]
    pub fn with_candidates(self, places: Vec<u32>) -> Self {
        Self { sample: Some(places), ..self }
    }

    /// Feature maps (B, C, H, W) to (B, O, H, W), or to other sides by a shuffle of one side.
    ///
    /// # Errors
    /// [`crate::Error::Input`], [`crate::Error::NeighborsExceedCandidates`], [`crate::Error::Option`] for sides that the
    /// shuffle does not divide.
    pub fn forward_t(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let (tokens, grid) = self.tokens(x)?;
        let (y, grid) = self.mix(&tokens, grid, None, pass)?;
        to_map(&y, grid)
    }

    /// Tokens (B, H·W, C) of a map to (B, H·W, O).
    ///
    /// # Errors
    /// As [`Self::forward_t`].
    pub fn forward_tokens(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<Tensor> {
        self.input("").check_tokens(x, grid)?;
        Ok(self.mix(x, grid, None, pass)?.0)
    }

    /// [`Self::forward_t`] with given neighbors: places on the padded map, row by row.
    ///
    /// # Errors
    /// As [`Self::forward_t`], or neighbors of another map.
    pub fn forward_with(&self, x: &Tensor, neighbors: &Neighbors) -> Result<Tensor> {
        let (tokens, grid) = self.tokens(x)?;
        let (y, grid) = self.mix(&tokens, grid, Some(neighbors), &Pass::evaluation())?;
        to_map(&y, grid)
    }

    /// The neighbors that the layer chooses in evaluation: places on the padded map.
    ///
    /// # Errors
    /// As [`Self::forward_t`].
    pub fn neighbors(&self, x: &Tensor) -> Result<Neighbors> {
        let (tokens, grid) = self.tokens(x)?;
        self.neighbors_of_tokens(&tokens, grid, &Pass::evaluation())
    }

    /// The neighbors that the layer chooses for tokens (B, H·W, C) of a map.
    ///
    /// # Errors
    /// As [`Self::forward_t`].
    pub fn neighbors_of_tokens(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<Neighbors> {
        self.input("").check_tokens(x, grid)?;
        let (x, grid) = self.shuffler.before(x, grid, &self.path)?;
        let canvas = Canvas::grid(grid, self.config.padding);
        let [keys, queries] = self.keys_and_queries(&self.padded(&x, canvas)?, canvas)?;
        self.search(canvas, pass).choose(&keys, &queries, Pool::Places, true)
    }

    /// Fails unless the layer can work on maps of `grid`: K candidates for every token, sides that the shuffle divides.
    ///
    /// # Errors
    /// [`crate::Error::NeighborsExceedCandidates`], [`crate::Error::Option`].
    pub fn check_grid(&self, grid: Grid) -> Result<()> {
        let inner = self.shuffler.inner(grid, &self.path)?;
        let canvas = Canvas::grid(inner, self.config.padding);
        check_tokens(canvas, self.shuffler.outer(inner), &self.path)?;
        self.search(canvas, &Pass::evaluation()).check(true)
    }

    /// The options.
    pub const fn config(&self) -> &ConvNn2dAttentionConfig {
        &self.config
    }

    fn mix(&self, x: &Tensor, grid: Grid, given: Option<&Neighbors>, pass: &Pass) -> Result<(Tensor, Grid)> {
        let (x, grid) = self.shuffler.before(x, grid, &self.path)?;
        let canvas = Canvas::grid(grid, self.config.padding);
        let similarity = self.config.similarity;
        let x = self.padded(&x, canvas)?;
        let [keys, queries] = self.keys_and_queries(&x, canvas)?; // (B, N, C), (B, T, C)
        let values = project(&x, &self.w_v)?; // (B, T, C)

        let neighbors = match given {
            Some(neighbors) => neighbors.clone(),
            None => self.search(canvas, pass).choose(&keys, &queries, Pool::Places, true)?,
        };
        neighbors.ensure_fits(&self.path, x.dim(0)?, canvas.tokens(), canvas.padded_tokens())?;
        let own = if self.is_sampled(canvas) { 1.0 } else { own_among_all(similarity) };
        let scores = || score_with_own(&keys, &queries, &neighbors, Score::new(similarity), own);
        let rho = modulate(Modulation::Softmax, similarity, scores)?;
        let y = aggregate(&values, &neighbors, &rho, &self.kernel, Some(&self.kernel_bias))?;

        let y = linear(&y, &self.pointwise.squeeze(2)?, Some(&self.pointwise_bias))?;
        self.shuffler.after(project(&y, &self.w_o)?, grid)
    }

    /// The padded map, with positions if values carry them.
    fn padded(&self, x: &Tensor, canvas: Canvas) -> Result<Tensor> {
        let x = canvas.pad(x)?;
        match self.config.values {
            Values::Features => Ok(x),
            Values::FeaturesPosition => canvas.with_positions(&x),
        }
    }

    fn keys_and_queries(&self, x: &Tensor, canvas: Canvas) -> Result<[Tensor; 2]> {
        Ok([project(&canvas.crop(x)?, &self.w_k)?, project(x, &self.w_q)?])
    }

    /// Whether candidates are a sample of the tokens.
    fn is_sampled(&self, canvas: Canvas) -> bool {
        self.sample.is_some() || canvas.is_sampled(self.config.candidates)
    }

    fn search<'a>(&'a self, canvas: Canvas, pass: &'a Pass) -> Search<'a> {
        Search {
            layer: &self.path,
            canvas,
            similarity: self.config.similarity,
            neighbors: self.config.neighbors,
            candidates: self.config.candidates,
            sample: self.sample.as_deref(),
            pass,
        }
    }

    fn tokens(&self, x: &Tensor) -> Result<(Tensor, Grid)> {
        self.input("(B, C, H, W)").check(x)?;
        to_tokens(x)
    }

    fn input(&self, layout: &'static str) -> Input<'_> {
        Input { layer: &self.path, layout, axis: 1, channels: self.in_channels, dtype: self.w_q.dtype() }
    }
}

module!(ConvNn2dAttention);

/// A 1×1 convolution (O, C, 1) without bias.
fn project(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    linear(x, &weight.squeeze(2)?, None)
}
