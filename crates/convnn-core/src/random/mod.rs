//! Named random streams, and what draws from them: initial values and forward passes.

mod parameters;
mod pass;
pub mod streams;

pub use parameters::{Parameters, fan_in_uniform, is_running_statistic, parameter_values};
pub use pass::Pass;
pub use streams::{Generator, Streams};
