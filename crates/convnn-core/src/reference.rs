//! The plain forms of the operations, in tensor operations.
//!
//! They define what the kernels compute, serve as the expected values of tests, and run on devices without a kernel.
//! Arguments, results and errors are those of the operations.

pub use crate::optim::gradient_norm::gradient_norm_reference as gradient_norm;
