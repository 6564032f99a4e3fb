//! `branching_2d` and `branching_2d_attention`: a share of the channels from ConvNN, the rest from a convolution.

use super::limits::{self, within};
use super::{
    ConvNn2d, ConvNn2dAttention, ConvNn2dAttentionConfig, ConvNn2dConfig, Input, ensure, layer_path, parameter, to_map,
    to_tokens,
};
use crate::nn::linear;
use crate::operator::{Neighbors, aggregate_branches, convolution, stencil};
use crate::{Grid, Pass, Result, Shuffle};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

/// Options of [`Branching`]: those of its ConvNN branch beside them, in one table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(bound = "C: Default + Serialize + schemars::JsonSchema"))]
#[serde(default, deny_unknown_fields, bound(deserialize = "C: Default + Deserialize<'de>"))]
pub struct BranchingConfig<C> {
    /// Share of the output channels from the ConvNN branch, rounded down: 0 is the convolution alone, 1 ConvNN alone.
    #[cfg_attr(feature = "schema", schemars(range(min = 0.0, max = 1.0)))]
    pub branch_ratio: f64,
    /// Side of the kernel of the convolution, κ.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = crate::layers::limits::KERNEL_SIZE)))]
    pub kernel_size: usize,
    /// The options of the ConvNN branch. With a convolution beside it, its shuffle is `none` or `both`.
    #[serde(flatten)]
    pub branch: C,
}

impl<C: Default> Default for BranchingConfig<C> {
    fn default() -> Self {
        Self { branch_ratio: 0.5, kernel_size: 3, branch: C::default() }
    }
}

impl<C> BranchingConfig<C> {
    /// ⌊ratio·O⌋, the channels of the ConvNN branch among `out_channels`.
    pub fn branch_channels(&self, out_channels: usize) -> usize {
        (out_channels as f64 * self.branch_ratio) as usize
    }
}

/// A ConvNN layer that can stand beside a convolution.
pub trait Branch: Clone + std::fmt::Debug + Send + Sync + Sized {
    /// Its options.
    type Config: Clone + Default + std::fmt::Debug + PartialEq + Send + Sync;
    /// The name of the branching layer in configurations.
    const KIND: &'static str;

    /// The layer with its parameters from `vb`.
    ///
    /// # Errors
    /// Those of the layer.
    fn new(in_channels: usize, out_channels: usize, config: &Self::Config, vb: VarBuilder<'_>) -> Result<Self>;

    /// Where the layer exchanges pixels for channels, and the side of the squares.
    fn shuffle(config: &Self::Config) -> (Shuffle, usize);

    /// The layer with given candidates.
    #[must_use]
    fn with_candidates(self, places: Vec<u32>) -> Self;

    /// Tokens (B, H·W, C) to (B, H·W, O).
    ///
    /// # Errors
    /// Those of the layer.
    fn forward_tokens(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<Tensor>;

    /// A feature map (B, C, H, W) to (B, O, H, W), with given neighbors.
    ///
    /// # Errors
    /// Those of the layer.
    fn forward_with(&self, x: &Tensor, neighbors: &Neighbors) -> Result<Tensor>;

    /// The neighbors that the layer chooses.
    ///
    /// # Errors
    /// Those of the layer.
    fn neighbors_of_tokens(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<Neighbors>;

    /// Fails unless the layer can work on maps of `grid`.
    ///
    /// # Errors
    /// Those of the layer.
    fn check_grid(&self, grid: Grid) -> Result<()>;

    /// The kernel (O, C, K) and bias of a layer that only aggregates the tokens themselves: it and the convolution can
    /// then be computed as one.
    fn standard_kernel(&self) -> Option<(&Tensor, &Tensor)>;
}

macro_rules! branch {
    ($layer:ident, $config:ident, $kind:literal, |$this:ident| $kernel:expr) => {
        impl Branch for $layer {
            type Config = $config;
            const KIND: &'static str = $kind;

            fn new(in_channels: usize, out_channels: usize, config: &$config, vb: VarBuilder<'_>) -> Result<Self> {
                Self::new(in_channels, out_channels, config, vb)
            }

            fn shuffle(config: &$config) -> (Shuffle, usize) {
                (config.shuffle, config.shuffle_scale)
            }

            fn with_candidates(self, places: Vec<u32>) -> Self {
                self.with_candidates(places)
            }

            fn forward_tokens(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<Tensor> {
                self.forward_tokens(x, grid, pass)
            }

            fn forward_with(&self, x: &Tensor, neighbors: &Neighbors) -> Result<Tensor> {
                self.forward_with(x, neighbors)
            }

            fn neighbors_of_tokens(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<Neighbors> {
                self.neighbors_of_tokens(x, grid, pass)
            }

            fn check_grid(&self, grid: Grid) -> Result<()> {
                self.check_grid(grid)
            }

            fn standard_kernel(&self) -> Option<(&Tensor, &Tensor)> {
                let $this = self;
                $kernel
            }
        }
    };
}

branch!(ConvNn2d, ConvNn2dConfig, "branching_2d", |layer| layer.is_standard().then(|| (layer.weight(), layer.bias())));
branch!(ConvNn2dAttention, ConvNn2dAttentionConfig, "branching_2d_attention", |_layer| None);

/// A ConvNN layer and a convolution side by side, both on all input channels, joined by a 1×1 convolution.
///
/// ```
/// # fn main() -> convnn_core::Result<()> {
/// use candle_core::{DType, Device, Tensor};
/// use convnn_core::{Branching2d, Branching2dConfig, Parameters, Pass, Streams};
/// let parameters = Parameters::new(&Streams::new(0), DType::F32, &Device::Cpu);
/// let config = Branching2dConfig { branch_ratio: 0.25, ..Default::default() };
/// let layer = Branching2d::new(3, 8, &config, parameters.builder())?; // 2 channels from neighbors, 6 from a convolution
/// let images = Tensor::zeros((2, 3, 6, 5), DType::F32, &Device::Cpu)?;
/// assert_eq!(layer.forward_t(&images, &Pass::evaluation())?.dims(), [2, 8, 6, 5]);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Branching<B: Branch> {
    config: BranchingConfig<B::Config>,
    path: String,
    in_channels: usize,
    branch: Option<B>,
    /// Weight (O − ⌊ratio·O⌋, C, κ, κ) and bias; absent at ratio 1.
    convolution: Option<(Tensor, Tensor)>,
    pointwise: Tensor,
    pointwise_bias: Tensor,
}

/// [`ConvNn2d`] beside a convolution.
pub type Branching2d = Branching<ConvNn2d>;
/// [`ConvNn2dAttention`] beside a convolution.
pub type Branching2dAttention = Branching<ConvNn2dAttention>;
/// Options of [`Branching2d`].
pub type Branching2dConfig = BranchingConfig<ConvNn2dConfig>;
/// Options of [`Branching2dAttention`].
pub type Branching2dAttentionConfig = BranchingConfig<ConvNn2dAttentionConfig>;

impl<B: Branch> Branching<B> {
    /// Takes `branch1.*`, `branch2.*` and `pointwise_conv.*` from `vb`; an unused branch has no parameters.
    ///
    /// # Errors
    /// [`crate::Error::Option`] for options that exclude each other.
    pub fn new(
        in_channels: usize,
        out_channels: usize,
        config: &BranchingConfig<B::Config>,
        vb: VarBuilder<'_>,
    ) -> Result<Self> {
        let path = layer_path(&vb, B::KIND);
        let (ratio, size) = (config.branch_ratio, config.kernel_size);
        ensure((0.0..=1.0).contains(&ratio), &path, "branch_ratio", ratio, "a number from 0 to 1")?;
        within(size, 1, limits::KERNEL_SIZE, &path, "kernel_size")?;
        within(in_channels, 0, limits::CHANNELS, &path, "in_channels")?;
        within(out_channels, 1, limits::CHANNELS, &path, "out_channels")?;
        let outputs = config.branch_channels(out_channels);
        let smallest = format!("0, or at least {} for {out_channels} channels", 1.0 / out_channels as f64);
        ensure(ratio == 0.0 || outputs > 0, &path, "branch_ratio", ratio, &smallest)?;
        let (shuffle, _) = B::shuffle(&config.branch);
        let keeps_sides = matches!(shuffle, Shuffle::None | Shuffle::Both);
        let expected = "none or both: the two branches must give maps of one size";
        ensure(keeps_sides || ratio == 1.0, &path, "shuffle", format!("{shuffle:?}").to_lowercase(), expected)?;

        let convolution = if ratio == 1.0 {
            None
        } else {
            let (outputs, fan_in) = (out_channels - outputs, in_channels * size * size);
            let vb = vb.pp("branch2");
            let weight = parameter(&vb, (outputs, in_channels, size, size), "weight", fan_in)?;
            Some((weight, parameter(&vb, outputs, "bias", fan_in)?))
        };
        let join = vb.pp("pointwise_conv");
        let pointwise = parameter(&join, (out_channels, out_channels, 1, 1), "weight", out_channels)?;
        let pointwise_bias = parameter(&join, out_channels, "bias", out_channels)?;
        let branch = match ratio {
            0.0 => None,
            _ => Some(B::new(in_channels, outputs, &config.branch, vb.pp("branch1"))?),
        };
        Ok(Self { config: config.clone(), path, in_channels, branch, convolution, pointwise, pointwise_bias })
    }

    /// The same layer with given candidates in place of a drawn sample: token numbers on the padded map.
    #[must_use]
    pub fn with_candidates(self, places: Vec<u32>) -> Self {
        Self { branch: self.branch.map(|branch| branch.with_candidates(places)), ..self }
    }

    /// Feature maps (B, C, H, W) to (B, O, H, W), or to other sides by a shuffle of one side at ratio 1.
    ///
    /// # Errors
    /// [`crate::Error::Input`], and those of the ConvNN branch.
    pub fn forward_t(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.input("(B, C, H, W)").check(x)?;
        let (tokens, grid) = to_tokens(x)?;
        let y = self.forward_tokens(&tokens, grid, pass)?;
        to_map(&y, self.output_grid(grid))
    }

    /// Tokens (B, H·W, C) of a map to (B, H·W, O).
    ///
    /// # Errors
    /// As [`Self::forward_t`].
    pub fn forward_tokens(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<Tensor> {
        self.input("").check_tokens(x, grid)?;
        let (branch, convolved) = match (&self.branch, &self.convolution) {
            (None, None) => return self.join(x),
            (Some(branch), None) => return self.join(&branch.forward_tokens(x, grid, pass)?),
            (None, Some((weight, bias))) => return self.join(&convolution(x, grid, weight, Some(bias))?),
            (Some(branch), Some(convolved)) => (branch, convolved),
        };
        let (weight, bias) = convolved;
        let Some((branch_weight, branch_bias)) = branch.standard_kernel() else {
            let convolved = convolution(x, grid, weight, Some(bias))?;
            return self.join(&Tensor::cat(&[branch.forward_tokens(x, grid, pass)?, convolved], 2)?);
        };
        // Convolution is aggregation with other neighbors, so that one op does both.
        let neighbors = branch.neighbors_of_tokens(x, grid, pass)?;
        let window = stencil(grid, weight.dim(3)?, x.device())?;
        let y = aggregate_branches(x, [(&neighbors, branch_weight), (&window, weight)])?;
        // P(y + b) + p = Py + (Pb + p): the biases of the branches go into that of the 1×1.
        let biases = self.join(&Tensor::cat(&[branch_bias, bias], 0)?.unsqueeze(0)?)?.squeeze(0)?;
        linear(&y, &self.pointwise_matrix()?, Some(&biases))
    }

    /// [`Self::forward_t`] with given neighbors for the ConvNN branch, which are as that layer takes them.
    ///
    /// # Errors
    /// As [`Self::forward_t`]; [`crate::Error::Option`] at ratio 0, without a ConvNN branch.
    pub fn forward_with(&self, x: &Tensor, neighbors: &Neighbors) -> Result<Tensor> {
        self.input("(B, C, H, W)").check(x)?;
        let (_, _, h, w) = x.dims4()?;
        let (tokens, grid) = to_tokens(x)?;
        let mut parts = vec![to_tokens(&self.branch()?.forward_with(x, neighbors)?)?.0];
        if let Some((weight, bias)) = &self.convolution {
            parts.push(convolution(&tokens, Grid::new(h, w), weight, Some(bias))?);
        }
        to_map(&self.join(&Tensor::cat(&parts, 2)?)?, self.output_grid(grid))
    }

    /// The neighbors that the ConvNN branch chooses in evaluation.
    ///
    /// # Errors
    /// As [`Self::forward_with`].
    pub fn neighbors(&self, x: &Tensor) -> Result<Neighbors> {
        self.input("(B, C, H, W)").check(x)?;
        let (tokens, grid) = to_tokens(x)?;
        self.branch()?.neighbors_of_tokens(&tokens, grid, &Pass::evaluation())
    }

    /// Fails unless the layer can work on maps of `grid`: K candidates for every token, sides that the shuffle divides.
    ///
    /// # Errors
    /// [`crate::Error::NeighborsExceedCandidates`], [`crate::Error::Option`].
    pub fn check_grid(&self, grid: Grid) -> Result<()> {
        self.branch.as_ref().map_or(Ok(()), |branch| branch.check_grid(grid))
    }

    /// The options.
    pub const fn config(&self) -> &BranchingConfig<B::Config> {
        &self.config
    }

    /// The ConvNN branch, absent at ratio 0.
    pub const fn neighbor_branch(&self) -> Option<&B> {
        self.branch.as_ref()
    }

    fn branch(&self) -> Result<&B> {
        self.branch.as_ref().ok_or_else(|| crate::Error::Option {
            layer: self.path.clone(),
            option: "branch_ratio",
            found: "0".into(),
            expected: "a number above 0: without a ConvNN branch there are no neighbors".into(),
        })
    }

    /// The 1×1 that joins the branches.
    fn join(&self, y: &Tensor) -> Result<Tensor> {
        linear(y, &self.pointwise_matrix()?, Some(&self.pointwise_bias))
    }

    fn pointwise_matrix(&self) -> Result<Tensor> {
        let o = self.pointwise.dim(0)?;
        Ok(self.pointwise.reshape((o, o))?)
    }

    /// Size of the output map for an input of size `grid`.
    pub fn output_grid(&self, grid: Grid) -> Grid {
        match B::shuffle(&self.config.branch) {
            _ if self.branch.is_none() => grid,
            (Shuffle::None | Shuffle::Both, _) => grid,
            (Shuffle::Before, s) => Grid::new(grid.height / s, grid.width / s),
            (Shuffle::After, s) => Grid::new(grid.height * s, grid.width * s),
        }
    }

    fn input(&self, layout: &'static str) -> Input<'_> {
        Input { layer: &self.path, layout, axis: 1, channels: self.in_channels, dtype: self.pointwise.dtype() }
    }
}

impl<B: Branch> candle_nn::Module for Branching<B> {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        Ok(self.forward_t(x, &Pass::evaluation())?)
    }
}
