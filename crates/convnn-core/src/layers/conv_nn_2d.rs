//! `conv_nn_2d`: each pixel aggregates its K nearest neighbors on the map.

use super::plain::{Options, Plain};
use super::shuffle::Shuffler;
use super::{Input, ensure, layer_path, module, to_map, to_tokens};
use crate::error::ensure_shape;
use crate::operator::{Neighbors, Weights};
use crate::{Candidates, Compare, Grid, Kernel, Pass, Result, Shuffle, Similarity, Values};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

/// Options of [`ConvNn2d`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ConvNn2dConfig {
    /// Number of neighbors, K.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = crate::layers::limits::NEIGHBORS)))]
    pub neighbors: usize,
    /// Zero tokens on every side, which are candidates too, p.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = crate::layers::limits::PADDING)))]
    pub padding: usize,
    /// How close two tokens are.
    pub similarity: Similarity,
    /// What the similarity is taken of.
    pub compare: Compare,
    /// What is aggregated.
    pub values: Values,
    /// Which tokens may be chosen.
    pub candidates: Candidates,
    /// Where pixels are exchanged for channels.
    pub shuffle: Shuffle,
    /// Side of the squares that become channels, s.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = crate::layers::limits::SHUFFLE_SCALE)))]
    pub shuffle_scale: usize,
    /// Standard or depthwise; a depthwise kernel has as many channels out as in.
    pub kernel: Kernel,
}

impl Default for ConvNn2dConfig {
    fn default() -> Self {
        Self {
            neighbors: 9,
            padding: 1,
            similarity: Similarity::Cosine,
            compare: Compare::Features,
            values: Values::Features,
            candidates: Candidates::All,
            shuffle: Shuffle::None,
            shuffle_scale: 1,
            kernel: Kernel::Standard,
        }
    }
}

impl ConvNn2dConfig {
    const fn options(&self) -> Options {
        Options {
            neighbors: self.neighbors,
            padding: self.padding,
            similarity: self.similarity,
            compare: self.compare,
            values: self.values,
            candidates: self.candidates,
            kernel: self.kernel,
            sequence: false,
        }
    }
}

/// The k-nearest-neighbor layer on feature maps, without projections (paper, section 3).
///
/// For each token: *select* the K most similar candidates, the token itself first; *aggregate* them with a kernel
/// matrix for each rank. Gradients reach the values and the kernel; the choice has none.
///
/// ```
/// # fn main() -> candle_core::Result<()> {
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{Module, VarBuilder, VarMap};
/// use convnn_core::{ConvNn2d, ConvNn2dConfig};
/// let variables = VarMap::new();
/// let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
/// let network = candle_nn::seq()
///     .add(ConvNn2d::new(3, 8, &ConvNn2dConfig::default(), vb.pp("first"))?)
///     .add_fn(|x| x.relu())
///     .add(ConvNn2d::new(8, 4, &ConvNn2dConfig { neighbors: 5, ..Default::default() }, vb.pp("second"))?);
/// let images = Tensor::rand(0f32, 1.0, (2, 3, 6, 5), &Device::Cpu)?;
/// assert_eq!(network.forward(&images)?.dims(), [2, 4, 6, 5]);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct ConvNn2d {
    config: ConvNn2dConfig,
    in_channels: usize,
    plain: Plain,
}

impl ConvNn2d {
    /// Takes `conv1d_layer.weight` (O, C or C+2, K), or (C, 1, K) for a depthwise kernel, and `.bias` (O) from `vb`;
    /// with a shuffle C and O count s² times.
    ///
    /// # Errors
    /// [`crate::Error::Option`] for options that exclude each other.
    pub fn new(in_channels: usize, out_channels: usize, config: &ConvNn2dConfig, vb: VarBuilder<'_>) -> Result<Self> {
        let path = layer_path(&vb, "conv_nn_2d");
        let shuffler = Shuffler::on_grid(config.shuffle, config.shuffle_scale, &path)?;
        let plain = Plain::new(in_channels, out_channels, config.options(), shuffler, path, &vb)?;
        Ok(Self { config: config.clone(), in_channels, plain })
    }

    /// The layer with ready tensors: `weight` (O, C or C+2, K), or (C, 1, K) for a depthwise kernel, and `bias` (O). The
    /// layer must not shuffle.
    ///
    /// # Errors
    /// [`crate::Error::Option`], [`crate::Error::Shape`] and [`crate::Error::DType`].
    pub fn from_tensors(config: &ConvNn2dConfig, weight: Tensor, bias: Tensor) -> Result<Self> {
        let path = "conv_nn_2d".to_owned();
        ensure(config.shuffle == Shuffle::None, &path, "shuffle", "set", "none for a layer from tensors")?;
        let has_one_weight = config.kernel != Kernel::DepthwiseSeparable;
        ensure(has_one_weight, &path, "kernel", "depthwise_separable", "standard or depthwise")?;
        let k = config.neighbors;
        let fits = weight.rank() == 3 && weight.dims()[2] == k;
        ensure_shape(fits, "conv_nn_2d", "weight", &weight, || format!("(O, C, {k}), or (C, 1, {k}) if depthwise"))?;
        let (outputs, inputs, _) = weight.dims3()?;
        ensure_shape(bias.dims() == [outputs], "conv_nn_2d", "bias", &bias, || format!("({outputs})"))?;
        let in_channels = match (config.kernel, config.values) {
            (Kernel::Depthwise, _) => outputs,
            (_, Values::Features) => inputs,
            (_, Values::FeaturesPosition) => inputs.saturating_sub(2),
        };
        let shuffler = Shuffler::on_grid(config.shuffle, config.shuffle_scale, &path)?;
        let plain = Plain::from_tensors(in_channels, config.options(), shuffler, path, weight, bias)?;
        Ok(Self { config: config.clone(), in_channels, plain })
    }

    /// The same layer with given candidates in place of a drawn sample: token numbers on the padded map.
    #[must_use]
    pub fn with_candidates(self, places: Vec<u32>) -> Self {
        Self { plain: self.plain.with_candidates(places), ..self }
    }

    /// Feature maps (B, C, H, W) to (B, O, H, W), or to other sides by a shuffle of one side.
    ///
    /// # Errors
    /// [`crate::Error::Input`], [`crate::Error::NeighborsExceedCandidates`], [`crate::Error::Option`] for sides that the
    /// shuffle does not divide.
    pub fn forward_t(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.input("(B, C, H, W)").check(x)?;
        let (tokens, grid) = to_tokens(x)?;
        let (y, grid) = self.plain.forward(&tokens, grid, pass)?;
        to_map(&y, grid)
    }

    /// Tokens (B, H·W, C) of a map to (B, H·W, O).
    ///
    /// # Errors
    /// As [`Self::forward_t`].
    pub fn forward_tokens(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<Tensor> {
        self.input("").check_tokens(x, grid)?;
        Ok(self.plain.forward(x, grid, pass)?.0)
    }

    /// [`Self::forward_t`] with given neighbors: rows of the H·W tokens, H·W being the zero token of the padding, or, with
    /// `values = features_position`, of the padded map. A layer that unshuffles first takes those of the smaller map.
    ///
    /// # Errors
    /// As [`Self::forward_t`], or neighbors of another map.
    pub fn forward_with(&self, x: &Tensor, neighbors: &Neighbors) -> Result<Tensor> {
        self.input("(B, C, H, W)").check(x)?;
        let (tokens, grid) = to_tokens(x)?;
        let (y, grid) = self.plain.forward_with(&tokens, grid, neighbors)?;
        to_map(&y, grid)
    }

    /// The neighbors that the layer chooses in evaluation.
    ///
    /// # Errors
    /// As [`Self::forward_t`].
    pub fn neighbors(&self, x: &Tensor) -> Result<Neighbors> {
        self.input("(B, C, H, W)").check(x)?;
        let (tokens, grid) = to_tokens(x)?;
        self.neighbors_of_tokens(&tokens, grid, &Pass::evaluation())
    }

    /// The neighbors that the layer chooses for tokens (B, H·W, C) of a map.
    ///
    /// # Errors
    /// As [`Self::forward_t`].
    pub fn neighbors_of_tokens(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<Neighbors> {
        self.input("").check_tokens(x, grid)?;
        self.plain.neighbors(x, grid, pass)
    }

    /// Fails unless the layer can work on maps of `grid`: K candidates for every token, sides that the shuffle divides.
    ///
    /// # Errors
    /// [`crate::Error::NeighborsExceedCandidates`], [`crate::Error::Option`].
    pub fn check_grid(&self, grid: Grid) -> Result<()> {
        self.plain.check_grid(grid)
    }

    /// The options.
    pub const fn config(&self) -> &ConvNn2dConfig {
        &self.config
    }

    /// The kernel: (O, C or C+2, K), or (C, 1, K) if it is depthwise.
    pub const fn weight(&self) -> &Tensor {
        self.plain.weight()
    }

    /// The bias (O).
    pub const fn bias(&self) -> &Tensor {
        self.plain.bias()
    }

    /// Whether the layer aggregates the tokens themselves by a standard kernel, so that its kernel may be joined with
    /// that of a convolution.
    pub(super) fn is_standard(&self) -> bool {
        let plain = self.config.values == Values::Features && self.config.shuffle == Shuffle::None;
        plain && matches!(self.plain.weights(), Weights::Standard(_))
    }

    fn input(&self, layout: &'static str) -> Input<'_> {
        let (layer, channels, dtype) = (self.plain.path(), self.in_channels, self.plain.bias().dtype());
        Input { layer, layout, axis: 1, channels, dtype }
    }
}

module!(ConvNn2d);
