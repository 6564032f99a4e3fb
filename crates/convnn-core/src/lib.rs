//! Convolutional Nearest Neighbors on Candle.

mod backward;
pub mod check;
mod error;
mod grid;
pub mod ops;
mod options;
mod parameters;
mod pass;
pub mod streams;

pub use backward::backward;
pub use error::{Error, Result};
pub use grid::Grid;
pub use options::{Candidates, Compare, Kernel, Modulation, Shuffle, Similarity, Values};
pub use parameters::{Parameters, fan_in_uniform, is_running_statistic};
pub use pass::Pass;
pub use streams::{Generator, Streams};
