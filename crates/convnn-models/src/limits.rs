//! The largest values of the options of models; those of layers are in [`convnn_core::layers::limits`].

/// Height and width of the images.
pub(crate) const IMAGE: usize = 1 << 12;
/// Number of classes.
pub(crate) const CLASSES: usize = 1 << 16;
/// Channels of a map, or width of the tokens.
pub(crate) const WIDTH: usize = 1 << 13;
/// Width of a hidden layer.
pub(crate) const HIDDEN: usize = 1 << 16;
/// Number of layers.
pub(crate) const LAYERS: usize = 1 << 10;
/// Tokens of a sequence, the class token included.
pub(crate) const TOKENS: usize = (1 << 14) + 1;
/// Factor on initial values.
pub(crate) const GAIN: f64 = 1e3;
/// Floating-point operations of the forward pass of one image.
pub(crate) const FLOPS: u64 = 1_000_000_000_000;
