//! The ConvNN trainer: reproducible runs, exact resume, evaluation.
//!
//! A run is decided by its [`config::RunConfig`] and trained by an [`engine::Run`] into a [`run_folder::RunFolder`].
//! The same configuration gives the same weights, bit for bit, for any number of threads and after any stop and resume.
//! The binary `convnn` is a thin layer over this library; it alone reads the environment and handles signals.

pub mod audit;
pub mod bench;
pub mod checkpoint;
pub mod config;
pub mod engine;
pub mod environment;
mod error;
pub mod files;
pub mod import;
pub mod metrics;
pub mod optimizer;
pub mod parity;
pub mod progress;
pub mod results;
pub mod run_folder;
pub mod schedule;
pub mod session;
pub mod stop;
pub mod tensor_file;
pub mod tensorboard;
pub mod weights;

pub use error::{Error, Result};
