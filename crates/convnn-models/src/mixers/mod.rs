//! The token mixers that are not ConvNN, each (B, N, D) → (B, N, D).

mod branching_tokens;
mod conv1d;
mod heads;
mod kvt_attention;
mod local_attention;
mod multi_head_attention;
mod sparse_attention;

pub use branching_tokens::{BranchingTokens, OtherMixer};
pub use conv1d::MultiHeadConv1d;
pub use kvt_attention::KvtAttention;
pub use local_attention::LocalAttention;
pub use multi_head_attention::MultiHeadAttention;
pub use sparse_attention::SparseAttention;
