//! ConvNN attention on the first features, a convolution or attention on the rest, joined by a linear layer.

use super::{MultiHeadAttention, MultiHeadConv1d};
use crate::config::{BranchingTokensConfig, OtherBranch};
use crate::mixer::neighbor_attention;
use crate::nn::Linear;
use candle_core::Tensor;
use candle_nn::VarBuilder;
use convnn_core::{ConvNnAttention, Pass, Result};

/// `convnn.*` on the first ⌊ratio·D⌋ features, `conv1d.*` or `attention.*` on the others, then `pointwise_linear`
/// (D, D) with a bias. A branch without features has no parameters.
#[derive(Clone, Debug)]
pub struct BranchingTokens {
    neighbor: Option<ConvNnAttention>,
    other: Option<OtherMixer>,
    linear: Linear,
    cut: usize,
}

/// The branch beside ConvNN attention.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum OtherMixer {
    /// A convolution along the sequence.
    Conv1d(MultiHeadConv1d),
    /// Multi-head attention.
    Attention(MultiHeadAttention),
}

impl OtherMixer {
    fn new(dim: usize, config: &BranchingTokensConfig, builder: &VarBuilder) -> Result<Self> {
        let (heads, kernel_size) = (config.heads, config.kernel_size);
        Ok(match config.other {
            OtherBranch::Conv1d => Self::Conv1d(MultiHeadConv1d::new(dim, heads, kernel_size, builder.pp("conv1d"))?),
            OtherBranch::Attention => {
                let attention = config.attention_options();
                Self::Attention(MultiHeadAttention::new(dim, &attention, builder.pp("attention"))?)
            }
        })
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        match self {
            Self::Conv1d(mixer) => mixer.forward(x),
            Self::Attention(mixer) => mixer.forward(x, pass),
        }
    }
}

impl BranchingTokens {
    /// Over tokens of width `dim`.
    ///
    /// # Errors
    /// Where an option does not suit a branch, or `builder` holds other shapes.
    pub fn new(dim: usize, config: &BranchingTokensConfig, builder: VarBuilder) -> Result<Self> {
        let cut = config.cut(dim);
        let rest = dim - cut;
        let convnn = neighbor_attention(cut, &config.neighbor_options());
        let neighbor = || ConvNnAttention::new(&convnn, builder.pp("convnn"));
        let other = || OtherMixer::new(rest, config, &builder);
        Ok(Self {
            neighbor: (cut > 0).then(neighbor).transpose()?,
            other: (rest > 0).then(other).transpose()?,
            linear: Linear::new(dim, dim, builder.pp("pointwise_linear"))?,
            cut,
        })
    }

    /// The same mixer with given candidates in place of a drawn sample: token numbers.
    #[must_use]
    pub fn with_candidates(self, tokens: Vec<u32>) -> Self {
        Self { neighbor: self.neighbor.map(|neighbor| neighbor.with_candidates(tokens)), ..self }
    }

    /// The ConvNN branch, unless the ratio is 0.
    pub const fn neighbor(&self) -> Option<&ConvNnAttention> {
        self.neighbor.as_ref()
    }

    /// The other branch, unless the ratio is 1.
    pub const fn other(&self) -> Option<&OtherMixer> {
        self.other.as_ref()
    }

    /// (B, N, D) → (B, N, D)
    ///
    /// # Errors
    /// Where the last dimension is not D, or there are fewer candidates than neighbors.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let rest = x.dim(2)? - self.cut;
        let mut parts = Vec::with_capacity(2);
        if let Some(neighbor) = &self.neighbor {
            parts.push(neighbor.forward(&x.narrow(2, 0, self.cut)?.contiguous()?, pass)?);
        }
        if let Some(other) = &self.other {
            parts.push(other.forward(&x.narrow(2, self.cut, rest)?.contiguous()?, pass)?);
        }
        self.linear.forward(&Tensor::cat(&parts, 2)?)
    }
}
