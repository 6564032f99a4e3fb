//! The token mixers that a Vision Transformer can use in place of its attention, one per file.
//!
//! A mixer is two types: its options, which implement [`TokenMixerConfig`], and the built mixer, a [`TokenMixer`]. To
//! add one, write both in a file here and add the kind to the list that makes [`MixerConfig`]. A mixer of your own
//! crate needs no entry in the list: see [`Vit::with_mixers`](crate::Vit::with_mixers).

mod branching_tokens;
mod conv_nn_attention;
mod heads;
mod kvt_attention;
mod local_attention;
mod multi_head_attention;
mod multi_head_conv1d;
mod pool_tokens;
mod sparse_attention;

pub use branching_tokens::{BranchingTokens, BranchingTokensConfig, OtherBranch};
pub use kvt_attention::{KvtAttention, KvtAttentionConfig};
pub use local_attention::{LocalAttention, LocalAttentionConfig};
pub use multi_head_attention::{MultiHeadAttention, MultiHeadAttentionConfig};
pub use pool_tokens::{PoolTokens, PoolTokensConfig};
pub use sparse_attention::{SparseAttention, SparseAttentionConfig, SparseMode};

use crate::Choice;
use crate::kinds::kinds;
use candle_core::Tensor;
use candle_nn::VarBuilder;
use convnn_core::{ConvNnAttentionConfig, Neighbors, Pass, Result};
use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

kinds! {
    /// The table `[layer]` of a Vision Transformer: which token mixer, and its options.
    pub enum MixerConfig: TokenMixerConfig {
        /// Multi-head self-attention.
        "multi_head_attention" => MultiHeadAttention(MultiHeadAttentionConfig),
        /// ConvNN with query, key and value projections.
        "conv_nn_attention" => ConvNnAttention(ConvNnAttentionConfig),
        /// Attention restricted to the K largest scores of each row.
        "kvt_attention" => KvtAttention(KvtAttentionConfig),
        /// Attention restricted to a fixed pattern of positions.
        "sparse_attention" => SparseAttention(SparseAttentionConfig),
        /// Attention within neighboring windows, with rotary positions.
        "local_attention" => LocalAttention(LocalAttentionConfig),
        /// ConvNN attention on some features, a convolution or attention on the rest.
        "branching_tokens" => BranchingTokens(BranchingTokensConfig),
        /// The mean of neighboring tokens minus the token itself.
        "pool_tokens" => PoolTokens(PoolTokensConfig),
    }
}

/// Where in a network a token mixer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Number of the block, from 0.
    pub index: usize,
    /// N
    pub tokens: usize,
    /// D
    pub dim: usize,
}

/// A layer that mixes the tokens of a sequence: (B, N, D) to (B, N, D).
///
/// `Any` is a supertrait, so a mixer can be cast back to its type:
/// `(mixer as &dyn Any).downcast_ref::<ConvNnAttention>()`.
pub trait TokenMixer: Any + Debug + Send + Sync {
    /// Maps tokens (B, N, D) to (B, N, D).
    fn forward_t(&self, x: &Tensor, pass: &Pass) -> Result<Tensor>;

    /// The neighbors that the mixer chooses in evaluation, for each head of each sequence; `None` if it chooses none.
    fn neighbors(&self, x: &Tensor) -> Result<Option<Neighbors>> {
        let _ = x;
        Ok(None)
    }

    /// Converts to a ConvNN layer that shares these tensors and computes the same function of sequences of `tokens` tokens,
    /// dropout aside. Returns `None` for mixers without an exact ConvNN form.
    fn to_conv_nn(&self, tokens: usize) -> Result<Option<Arc<dyn TokenMixer>>> {
        let _ = tokens;
        Ok(None)
    }
}

/// The options of a token mixer.
pub trait TokenMixerConfig {
    /// Builds the mixer for `slot` with parameters from `vb`, checking the options and that they suit the slot.
    fn build(&self, slot: &Slot, vb: VarBuilder) -> Result<Arc<dyn TokenMixer>>;

    /// Floating-point operations of the mixer in `slot` for one image, counted as in
    /// [`ModelConfig::flops`](crate::ModelConfig::flops).
    fn flops(&self, slot: &Slot) -> u64;

    /// Values that the mixer keeps of one image for the backward pass: its results and its choices, 4 bytes each.
    fn kept(&self, slot: &Slot) -> u64;

    /// Which candidates a token has in `slot`, and how many neighbors it keeps; `None` if that depends on the token.
    fn choice(&self, slot: &Slot) -> Option<Choice> {
        let _ = slot;
        None
    }
}
