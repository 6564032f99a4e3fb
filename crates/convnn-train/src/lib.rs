#![doc = include_str!("../README.md")]

pub mod audit;
pub mod bench;
pub mod checkpoint;
pub mod config;
pub mod curves;
pub mod engine;
pub mod environment;
mod error;
pub mod evaluated;
pub mod evaluation;
pub mod exit;
pub mod expected;
pub mod images;
pub mod import;
mod lock;
pub mod metrics;
pub mod neighbors;
pub mod objective;
pub mod optimizer;
pub mod parity;
pub mod prediction;
pub mod progress;
pub mod results;
pub mod room;
pub mod run_folder;
pub mod runs;
pub mod schedule;
pub mod session;
pub mod statistics;
pub mod stop;
pub mod tensor_file;
pub mod tensorboard;
pub mod text;
pub mod view;
pub mod weights;

pub use error::{Error, Result};
