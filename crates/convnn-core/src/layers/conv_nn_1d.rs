//! `conv_nn_1d`: each position of a sequence aggregates its K nearest neighbors (SPEC section 3).

use super::conv_nn_2d::check_comparison;
use super::{ensure, layer_name, parameter};
use crate::operator::canvas::Canvas;
use crate::operator::neighborhood::Neighborhood;
use crate::{Candidates, Compare, Kernel, Pass, Result, Similarity, Values};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

/// Configuration of [`ConvNn1d`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConvNn1dConfig {
    /// C
    pub in_channels: usize,
    /// O
    pub out_channels: usize,
    /// K
    pub neighbors: usize,
    /// Zero tokens at both ends, which are candidates too.
    pub padding: usize,
    /// Cosine, Euclidean or, for positions in steps, Chebyshev.
    pub similarity: Similarity,
    /// What the similarity is taken of.
    pub compare: Compare,
    /// What is aggregated.
    pub values: Values,
    /// Which tokens may be chosen.
    pub candidates: Candidates,
}

impl Default for ConvNn1dConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 64,
            neighbors: 3,
            padding: 0,
            similarity: Similarity::Cosine,
            compare: Compare::Features,
            values: Values::Features,
            candidates: Candidates::All,
        }
    }
}

/// The k-nearest-neighbor layer on sequences, without projections: *select* K candidates, *aggregate* them by rank.
///
/// Gradients reach the values and the kernel; the choice has none.
#[derive(Clone, Debug)]
pub struct ConvNn1d {
    config: ConvNn1dConfig,
    name: String,
    sample: Option<Vec<u32>>,
    weight: Tensor,
    bias: Tensor,
}

impl ConvNn1d {
    /// Takes `conv1d_layer.weight` (O, C or C+1, K) and `.bias` (O) from `vb`.
    ///
    /// # Errors
    /// [`crate::Error::Option`] for options that do not go together.
    pub fn new(config: &ConvNn1dConfig, vb: VarBuilder<'_>) -> Result<Self> {
        let name = layer_name(&vb, "conv_nn_1d");
        ensure(config.neighbors > 0, &name, "neighbors", 0, "at least 1")?;
        check_comparison(config.similarity, config.compare, &name)?;
        let inputs = config.in_channels + usize::from(config.values == Values::FeaturesPosition);
        let (outputs, k) = (config.out_channels, config.neighbors);
        let vb = vb.pp("conv1d_layer");
        let weight = parameter(&vb, (outputs, inputs, k), "weight", inputs * k)?;
        let bias = parameter(&vb, outputs, "bias", inputs * k)?;
        Ok(Self { config: config.clone(), name, sample: None, weight, bias })
    }

    /// The same layer with given candidates in place of a drawn sample: token numbers on the padded sequence.
    #[must_use]
    pub fn with_candidates(self, places: Vec<u32>) -> Self {
        Self { sample: Some(places), ..self }
    }

    /// Sequences (B, C, N) to (B, O, N).
    ///
    /// # Errors
    /// [`crate::Error::NeighborsExceedCandidates`].
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        crate::error::ensure_shape(x.rank() == 3, "conv_nn_1d", "x", x, || "(B, C, N)".into())?;
        let c = &self.config;
        let neighborhood = Neighborhood {
            layer: &self.name,
            neighbors: c.neighbors,
            similarity: c.similarity,
            compare: c.compare,
            values: c.values,
            candidates: c.candidates,
            kernel: Kernel::Standard,
        };
        let canvas = Canvas::sequence(x.dim(2)?, c.padding);
        let tokens = x.t()?.contiguous()?;
        let y = neighborhood.forward(&tokens, canvas, &self.weight, &self.bias, self.sample.as_deref(), pass)?;
        Ok(y.t()?.contiguous()?)
    }

    /// The configuration.
    pub const fn config(&self) -> &ConvNn1dConfig {
        &self.config
    }
}
