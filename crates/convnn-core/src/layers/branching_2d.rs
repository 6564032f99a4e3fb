//! `branching_2d` and `branching_2d_attention`: a share of the channels from ConvNN, the rest from a convolution.

use super::{ConvNn2d, ConvNn2dAttention, ConvNn2dConfig, ensure, layer_name, parameter, to_map, to_tokens};
use crate::{Candidates, Compare, Grid, Pass, Result, Similarity, Values, ops};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

/// Configuration of [`Branching2d`] and [`Branching2dAttention`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Branching2dConfig {
    /// C
    pub in_channels: usize,
    /// O
    pub out_channels: usize,
    /// Share of the output channels that come from ConvNN, rounded down: 0 is the convolution alone, 1 ConvNN alone.
    pub branch_ratio: f64,
    /// κ of the convolution.
    pub kernel_size: usize,
    /// K
    pub neighbors: usize,
    /// Zero tokens on every side of the ConvNN branch.
    pub padding: usize,
    /// Cosine or Euclidean.
    pub similarity: Similarity,
    /// What the similarity is taken of (`branching_2d` only).
    pub compare: Compare,
    /// What is aggregated.
    pub values: Values,
    /// Which tokens may be chosen.
    pub candidates: Candidates,
    /// Where the ConvNN branch exchanges pixels for channels; with a convolution beside it, `none` or `both`.
    pub shuffle: crate::Shuffle,
    /// Side of the squares that become channels.
    pub shuffle_scale: usize,
}

impl Default for Branching2dConfig {
    fn default() -> Self {
        let ConvNn2dConfig {
            in_channels,
            out_channels,
            neighbors,
            padding,
            similarity,
            compare,
            values,
            candidates,
            shuffle,
            shuffle_scale,
            ..
        } = ConvNn2dConfig::default();
        Self {
            in_channels,
            out_channels,
            branch_ratio: 0.5,
            kernel_size: 3,
            neighbors,
            padding,
            similarity,
            compare,
            values,
            candidates,
            shuffle,
            shuffle_scale,
        }
    }
}

impl Branching2dConfig {
    /// ⌊ratio·O⌋, the channels of the ConvNN branch.
    pub fn neighbor_channels(&self) -> usize {
        (self.out_channels as f64 * self.branch_ratio) as usize
    }

    fn neighbor_branch(&self) -> ConvNn2dConfig {
        ConvNn2dConfig {
            in_channels: self.in_channels,
            out_channels: self.neighbor_channels(),
            neighbors: self.neighbors,
            padding: self.padding,
            similarity: self.similarity,
            compare: self.compare,
            values: self.values,
            candidates: self.candidates,
            shuffle: self.shuffle,
            shuffle_scale: self.shuffle_scale,
            kernel: crate::Kernel::Standard,
        }
    }
}

/// The convolution beside a ConvNN branch, and the 1×1 that joins them.
#[derive(Clone, Debug)]
struct Join {
    /// Weight (O − ⌊ratio·O⌋, C, κ, κ) and bias; absent at ratio 1.
    convolution: Option<(Tensor, Tensor)>,
    pointwise: Tensor,
    pointwise_bias: Tensor,
}

impl Join {
    fn new(c: &Branching2dConfig, name: &str, vb: &VarBuilder<'_>) -> Result<Self> {
        ensure((0.0..=1.0).contains(&c.branch_ratio), name, "branch_ratio", c.branch_ratio, "a share from 0 to 1")?;
        ensure(c.kernel_size > 0, name, "kernel_size", 0, "at least 1")?;
        let keeps_sides = matches!(c.shuffle, crate::Shuffle::None | crate::Shuffle::Both);
        ensure(
            keeps_sides || c.branch_ratio == 1.0,
            name,
            "shuffle",
            format!("{:?}", c.shuffle).to_lowercase(),
            "none or both: the branches must give maps of one size",
        )?;
        let o = c.out_channels;
        let convolution = if c.branch_ratio == 1.0 {
            None
        } else {
            let (outputs, size) = (o - c.neighbor_channels(), c.kernel_size);
            let fan_in = c.in_channels * size * size;
            let vb = vb.pp("branch2");
            let weight = parameter(&vb, (outputs, c.in_channels, size, size), "weight", fan_in)?;
            Some((weight, parameter(&vb, outputs, "bias", fan_in)?))
        };
        let vb = vb.pp("pointwise_conv");
        let pointwise = parameter(&vb, (o, o, 1, 1), "weight", o)?;
        Ok(Self { convolution, pointwise, pointwise_bias: parameter(&vb, o, "bias", o)? })
    }

    /// The branches side by side, joined by the 1×1: (B, N, O).
    fn forward<B: Branch>(&self, x: &Tensor, grid: Grid, branch: Option<&B>, pass: &Pass) -> Result<Tensor> {
        let o = self.pointwise.dim(0)?;
        let pointwise = self.pointwise.reshape((o, o))?;
        let join = |y: &Tensor| ops::linear(y, &pointwise, Some(&self.pointwise_bias));
        match (branch, &self.convolution) {
            (Some(branch), None) => join(&branch.forward_tokens(x, grid, pass)?),
            (None, Some((weight, bias))) => join(&ops::convolution(x, grid, weight, Some(bias))?),
            (None, None) => join(x),
            (Some(branch), Some((weight, bias))) => {
                let Some((index, branch_weight, branch_bias)) = branch.neighbors(x, grid, pass)? else {
                    let convolved = ops::convolution(x, grid, weight, Some(bias))?;
                    return join(&Tensor::cat(&[branch.forward_tokens(x, grid, pass)?, convolved], 2)?);
                };
                // Convolution is aggregation with another table of neighbors, so that one op does both.
                let stencil = ops::stencil(grid, weight.dim(3)?, x.device())?;
                let y = ops::aggregate_branches(x, [(&index, branch_weight), (&stencil, weight)])?;
                // P(y + b) + p = Py + (Pb + p): the biases of the branches join that of the 1×1.
                let biases = Tensor::cat(&[branch_bias, bias], 0)?.unsqueeze(0)?;
                ops::linear(&y, &pointwise, Some(&join(&biases)?.squeeze(0)?))
            }
        }
    }
}

/// What a ConvNN branch can do beside a convolution.
trait Branch {
    fn forward_tokens(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<Tensor>;

    /// Neighbors, kernel and bias, where the branch does no more than aggregate the tokens themselves.
    fn neighbors(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<Option<(Tensor, &Tensor, &Tensor)>>;
}

impl Branch for ConvNn2d {
    fn forward_tokens(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<Tensor> {
        self.forward_tokens(x, grid, pass)
    }

    fn neighbors(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<Option<(Tensor, &Tensor, &Tensor)>> {
        Ok(self.neighbors(x, grid, pass)?.map(|index| (index, self.weight(), self.bias())))
    }
}

impl Branch for ConvNn2dAttention {
    fn forward_tokens(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<Tensor> {
        self.forward_tokens(x, grid, pass)
    }

    fn neighbors(&self, _: &Tensor, _: Grid, _: &Pass) -> Result<Option<(Tensor, &Tensor, &Tensor)>> {
        Ok(None)
    }
}

macro_rules! branching {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $branch:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name {
            config: Branching2dConfig,
            neighbors: Option<$branch>,
            join: Join,
        }

        impl $name {
            /// Takes `branch1.*`, `branch2.*` and `pointwise_conv.*` from `vb`; an unused branch has no parameters.
            ///
            /// # Errors
            /// [`crate::Error::Option`] for options that do not go together.
            pub fn new(config: &Branching2dConfig, vb: VarBuilder<'_>) -> Result<Self> {
                let join = Join::new(config, &layer_name(&vb, $kind), &vb)?;
                let neighbors = match config.branch_ratio {
                    0.0 => None,
                    _ => Some($branch::new(&config.neighbor_branch(), vb.pp("branch1"))?),
                };
                Ok(Self { config: config.clone(), neighbors, join })
            }

            /// The same layer with given candidates in place of a drawn sample: token numbers on the padded map.
            #[must_use]
            pub fn with_candidates(self, places: Vec<u32>) -> Self {
                Self { neighbors: self.neighbors.map(|branch| branch.with_candidates(places)), ..self }
            }

            /// Feature maps (B, C, H, W) to (B, O, H, W).
            ///
            /// # Errors
            /// As the ConvNN branch.
            pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
                let (tokens, grid) = to_tokens(x)?;
                to_map(&self.forward_tokens(&tokens, grid, pass)?, grid)
            }

            /// Tokens (B, H·W, C) of a map to (B, H·W, O).
            ///
            /// # Errors
            /// As the ConvNN branch.
            pub fn forward_tokens(&self, x: &Tensor, grid: Grid, pass: &Pass) -> Result<Tensor> {
                self.join.forward(x, grid, self.neighbors.as_ref(), pass)
            }

            /// The configuration.
            pub const fn config(&self) -> &Branching2dConfig {
                &self.config
            }

            /// The ConvNN branch, absent at ratio 0.
            pub const fn neighbor_branch(&self) -> Option<&$branch> {
                self.neighbors.as_ref()
            }
        }
    };
}

branching! {
    /// ConvNN and convolution side by side, both on all input channels, joined by a 1×1 convolution.
    Branching2d, "branching_2d", ConvNn2d
}

branching! {
    /// The same with projected ConvNN, [`ConvNn2dAttention`], as its first branch.
    Branching2dAttention, "branching_2d_attention", ConvNn2dAttention
}
