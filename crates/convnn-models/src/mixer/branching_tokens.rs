//! `branching_tokens`: ConvNN attention on the first features, a convolution or attention on the rest, then a linear
//! layer.

use super::heads::attention_kept;
use super::multi_head_conv1d::MultiHeadConv1d;
use super::{MultiHeadAttention, MultiHeadAttentionConfig, Slot, TokenMixer, TokenMixerConfig};
use crate::Choice;
use crate::error::{ensure_option, within_option};
use crate::flops::{matmul, values};
use candle_core::Tensor;
use candle_nn::{Module, VarBuilder};
use convnn_core::layers::limits;
use convnn_core::nn::Linear;
use convnn_core::{ConvNnAttention, ConvNnAttentionConfig, Neighbors, Pass, Result};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const KIND: &str = "branching_tokens";

/// What processes the features that ConvNN attention does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OtherBranch {
    /// A convolution along the sequence.
    Conv1d,
    /// Multi-head attention.
    #[default]
    Attention,
}

/// Options of `branching_tokens`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct BranchingTokensConfig {
    /// Share of the features that go through ConvNN attention, rounded down: 0 is the other branch alone, 1 ConvNN alone.
    #[cfg_attr(feature = "schema", schemars(range(min = 0.0, max = 1.0)))]
    pub branch_ratio: f64,
    /// What the other features go through.
    pub other: OtherBranch,
    /// κ of the convolution, if `other` is one.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = convnn_core::layers::limits::KERNEL_SIZE)))]
    pub kernel_size: usize,
    /// Options of the ConvNN branch. `heads` and `dropout` are those of the other branch too.
    #[serde(flatten)]
    pub branch: ConvNnAttentionConfig,
}

impl Default for BranchingTokensConfig {
    fn default() -> Self {
        Self {
            branch_ratio: 0.5,
            other: OtherBranch::Attention,
            kernel_size: 9,
            branch: ConvNnAttentionConfig::default(),
        }
    }
}

impl BranchingTokensConfig {
    /// The features of the ConvNN branch and of the other: ⌊ratio·D⌋ and the rest.
    const fn split(&self, dim: usize) -> (usize, usize) {
        let first = (self.branch_ratio * dim as f64) as usize;
        (first, dim - first)
    }
}

impl TokenMixerConfig for BranchingTokensConfig {
    fn build(&self, slot: &Slot, vb: VarBuilder) -> Result<Arc<dyn TokenMixer>> {
        let mixer = BranchingTokens::new(slot.dim, self, vb)?;
        if let Some(neighbor) = &mixer.neighbor {
            neighbor.check_tokens(slot.tokens)?;
        }
        Ok(Arc::new(mixer))
    }

    fn flops(&self, slot: &Slot) -> u64 {
        let (first, rest) = self.split(slot.dim);
        let branch = |options: &dyn TokenMixerConfig, dim| options.flops(&Slot { dim, ..*slot });
        let neighbors = if first == 0 { 0 } else { branch(&self.branch, first) };
        let other = match self.other {
            _ if rest == 0 => 0,
            OtherBranch::Attention => branch(&MultiHeadAttentionConfig::default(), rest),
            OtherBranch::Conv1d => {
                MultiHeadConv1d::flops(&Slot { dim: rest, ..*slot }, self.branch.heads, self.kernel_size)
            }
        };
        neighbors + other + matmul(slot.tokens, slot.dim, slot.dim)
    }

    /// The two parts of the features, what each branch keeps, the two side by side, and the linear layer.
    fn kept(&self, slot: &Slot) -> u64 {
        let (first, rest) = self.split(slot.dim);
        let neighbors = if first == 0 { 0 } else { self.branch.kept(&Slot { dim: first, ..*slot }) };
        let slot_of_rest = Slot { dim: rest, ..*slot };
        let other = match self.other {
            _ if rest == 0 => 0,
            OtherBranch::Attention => attention_kept(&slot_of_rest),
            OtherBranch::Conv1d => MultiHeadConv1d::kept(&slot_of_rest, self.branch.heads, self.kernel_size),
        };
        neighbors + other + values(slot.tokens, 3 * slot.dim)
    }

    /// That of the ConvNN branch, if there is one.
    fn choice(&self, slot: &Slot) -> Option<Choice> {
        if self.split(slot.dim).0 == 0 { None } else { self.branch.choice(slot) }
    }
}

/// `convnn.*` on the first ⌊ratio·D⌋ features, `conv1d.*` or `attention.*` on the rest, then `pointwise_linear` (D, D)
/// with a bias. A branch without features has no parameters.
#[derive(Clone, Debug)]
pub struct BranchingTokens {
    neighbor: Option<ConvNnAttention>,
    other: Option<Arc<dyn TokenMixer>>,
    linear: Linear,
    /// Features of the ConvNN branch.
    first: usize,
}

impl BranchingTokens {
    /// For tokens of width `dim`.
    ///
    /// # Errors
    /// [`Error::Option`](convnn_core::Error::Option) for an option out of its range, and those of `vb`.
    pub fn new(dim: usize, config: &BranchingTokensConfig, vb: VarBuilder) -> Result<Self> {
        let (ratio, kernel_size, c) = (config.branch_ratio, config.kernel_size, &config.branch);
        ensure_option((0.0..=1.0).contains(&ratio), &vb, KIND, "branch_ratio", ratio, "a number from 0 to 1")?;
        within_option(kernel_size, 1, limits::KERNEL_SIZE, &vb, KIND, "kernel_size")?;
        let (first, rest) = config.split(dim);
        let expected = || format!("0, or at least {}: the width is {dim}", 1.0 / dim as f64);
        ensure_option(ratio == 0.0 || first > 0, &vb, KIND, "branch_ratio", ratio, expected())?;
        let neighbor = || ConvNnAttention::new(first, c, vb.pp("convnn"));
        let other = || -> Result<Arc<dyn TokenMixer>> {
            Ok(match config.other {
                OtherBranch::Conv1d => Arc::new(MultiHeadConv1d::new(rest, c.heads, kernel_size, vb.pp("conv1d"))?),
                OtherBranch::Attention => {
                    let options = MultiHeadAttentionConfig { heads: c.heads, dropout: c.dropout };
                    Arc::new(MultiHeadAttention::new(rest, &options, vb.pp("attention"))?)
                }
            })
        };
        Ok(Self {
            neighbor: (first > 0).then(neighbor).transpose()?,
            other: (rest > 0).then(other).transpose()?,
            linear: Linear::new(dim, dim, vb.pp("pointwise_linear"))?,
            first,
        })
    }

    /// The same mixer with the given token indices as candidates instead of a random sample.
    #[must_use]
    pub fn with_candidates(self, tokens: Vec<u32>) -> Self {
        Self { neighbor: self.neighbor.map(|neighbor| neighbor.with_candidates(tokens)), ..self }
    }
}

impl TokenMixer for BranchingTokens {
    fn forward_t(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let rest = x.dim(2)? - self.first;
        let mut parts = Vec::with_capacity(2);
        if let Some(neighbor) = &self.neighbor {
            parts.push(neighbor.forward_t(&x.narrow(2, 0, self.first)?.contiguous()?, pass)?);
        }
        if let Some(other) = &self.other {
            parts.push(other.forward_t(&x.narrow(2, self.first, rest)?.contiguous()?, pass)?);
        }
        Ok(self.linear.forward(&Tensor::cat(&parts, 2)?)?)
    }

    fn neighbors(&self, x: &Tensor) -> Result<Option<Neighbors>> {
        let own = |neighbor: &ConvNnAttention| neighbor.neighbors(&x.narrow(2, 0, self.first)?.contiguous()?);
        self.neighbor.as_ref().map(own).transpose()
    }
}
