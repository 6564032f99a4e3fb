//! The largest values of options.
//!
//! They are far above any use. Within them no size of a layer overflows, and a mistyped number is refused at once.

/// K
pub const NEIGHBORS: usize = 1 << 20;
/// Channels into or out of a layer, after a shuffle.
pub const CHANNELS: usize = 1 << 20;
/// p
pub const PADDING: usize = 1 << 10;
/// s
pub const SHUFFLE_SCALE: usize = 1 << 8;
/// κ
pub const KERNEL_SIZE: usize = 1 << 10;
/// Tokens of a feature map or a sequence, with its padding; also the candidates drawn from them.
pub const TOKENS: usize = 1 << 22;
/// Candidates along an axis, and the margin around them.
pub const SIDE: usize = 1 << 16;
