//! The parts of kernels: element types, instruction sets, tasks, matrix products, and the adapter to Candle's graph.
#![allow(unsafe_code)]

pub mod allocator;
pub(crate) mod backward;
pub(crate) mod float;
pub(crate) mod in_place;
pub(crate) mod matrix;
pub(crate) mod op;
pub(crate) mod parallel;
pub(crate) mod simd;
pub mod threads;
