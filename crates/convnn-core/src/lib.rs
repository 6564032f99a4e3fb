//! Convolutional Nearest Neighbors on Candle.

mod backward;
mod canvas;
pub mod check;
mod error;
mod grid;
pub mod layers;
mod neighborhood;
pub mod ops;
mod options;
mod parameters;
mod pass;
pub mod streams;

pub use backward::backward;
pub use error::{Error, Result};
pub use grid::Grid;
pub use layers::{
    Branching2d, Branching2dAttention, Branching2dConfig, ConvNn1d, ConvNn1dConfig, ConvNn2d, ConvNn2dAttention,
    ConvNn2dConfig, ConvNnAttention, ConvNnAttentionConfig,
};
pub use options::{Candidates, Compare, Kernel, Modulation, Shuffle, Similarity, Values};
pub use parameters::{Parameters, fan_in_uniform, is_running_statistic};
pub use pass::Pass;
pub use streams::{Generator, Streams};
