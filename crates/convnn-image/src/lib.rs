#![doc = include_str!("../README.md")]

mod normalize;
#[cfg(feature = "decode")]
mod picture;
mod resize;

pub use normalize::Normalization;
#[cfg(feature = "decode")]
pub use picture::{Picture, PictureError};
pub use resize::{Resizer, Window, center_square, push_planes};

/// Channels of an image: red, green, blue.
pub const CHANNELS: usize = 3;
