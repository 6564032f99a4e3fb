//! `conv_nn_1d`: each position of a sequence aggregates its K nearest neighbors.

use super::plain::{Options, Plain};
use super::shuffle::Shuffler;
use super::{Input, layer_path, module};
use crate::{Candidates, Compare, Grid, Kernel, Pass, Result, Shuffle, Similarity, Values, operator::Neighbors};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

/// Options of [`ConvNn1d`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConvNn1dConfig {
    /// Number of neighbors, K.
    pub neighbors: usize,
    /// Zero tokens at both ends, which are candidates too.
    pub padding: usize,
    /// How close two positions are.
    pub similarity: Similarity,
    /// What the similarity is taken of.
    pub compare: Compare,
    /// What is aggregated.
    pub values: Values,
    /// Which positions may be chosen.
    pub candidates: Candidates,
    /// Where neighboring positions are exchanged for channels.
    pub shuffle: Shuffle,
    /// How many positions become channels, s.
    pub shuffle_scale: usize,
}

impl Default for ConvNn1dConfig {
    fn default() -> Self {
        Self {
            neighbors: 3,
            padding: 0,
            similarity: Similarity::Cosine,
            compare: Compare::Features,
            values: Values::Features,
            candidates: Candidates::All,
            shuffle: Shuffle::None,
            shuffle_scale: 1,
        }
    }
}

/// The k-nearest-neighbor layer on sequences, without projections: *select* K candidates, *aggregate* them by rank.
///
/// Gradients reach the values and the kernel; the choice has none.
#[derive(Clone, Debug)]
pub struct ConvNn1d {
    config: ConvNn1dConfig,
    in_channels: usize,
    plain: Plain,
}

impl ConvNn1d {
    /// Takes `conv1d_layer.weight` (O, C or C+1, K) and `.bias` (O) from `vb`; with a shuffle C and O count s times.
    ///
    /// # Errors
    /// [`crate::Error::Option`] for options that exclude each other.
    pub fn new(in_channels: usize, out_channels: usize, config: &ConvNn1dConfig, vb: VarBuilder<'_>) -> Result<Self> {
        let path = layer_path(&vb, "conv_nn_1d");
        let options = Options {
            neighbors: config.neighbors,
            padding: config.padding,
            similarity: config.similarity,
            compare: config.compare,
            values: config.values,
            candidates: config.candidates,
            kernel: Kernel::Standard,
            sequence: true,
        };
        let shuffler = Shuffler::on_sequence(config.shuffle, config.shuffle_scale, &path)?;
        let plain = Plain::new(in_channels, out_channels, options, shuffler, path, &vb)?;
        Ok(Self { config: config.clone(), in_channels, plain })
    }

    /// The same layer with given candidates in place of a drawn sample: token numbers on the padded sequence.
    #[must_use]
    pub fn with_candidates(self, places: Vec<u32>) -> Self {
        Self { plain: self.plain.with_candidates(places), ..self }
    }

    /// Sequences (B, C, N) to (B, O, N).
    ///
    /// # Errors
    /// [`crate::Error::Input`], [`crate::Error::NeighborsExceedCandidates`].
    pub fn forward_t(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let (tokens, grid) = self.tokens(x)?;
        Ok(self.plain.forward(&tokens, grid, pass)?.0.t()?.contiguous()?)
    }

    /// The same with given neighbors: rows of the N positions, N being the zero token of the padding, or, with
    /// `values = features_position`, of the padded sequence.
    ///
    /// # Errors
    /// As [`Self::forward_t`], or neighbors of another sequence.
    pub fn forward_with(&self, x: &Tensor, neighbors: &Neighbors) -> Result<Tensor> {
        let (tokens, grid) = self.tokens(x)?;
        Ok(self.plain.forward_with(&tokens, grid, neighbors)?.0.t()?.contiguous()?)
    }

    /// The neighbors that the layer chooses in evaluation.
    ///
    /// # Errors
    /// As [`Self::forward_t`].
    pub fn neighbors(&self, x: &Tensor) -> Result<Neighbors> {
        let (tokens, grid) = self.tokens(x)?;
        self.plain.neighbors(&tokens, grid, &Pass::evaluation())
    }

    /// The options.
    pub const fn config(&self) -> &ConvNn1dConfig {
        &self.config
    }

    fn tokens(&self, x: &Tensor) -> Result<(Tensor, Grid)> {
        let dtype = self.plain.bias().dtype();
        Input { layer: self.plain.path(), layout: "(B, C, N)", axis: 1, channels: self.in_channels, dtype }.check(x)?;
        Ok((x.t()?.contiguous()?, Grid::new(1, x.dims()[2])))
    }
}

module!(ConvNn1d);
