//! Integration tests of the trainer: the real binary on the embedded sample, and the engine in this process.

#![allow(clippy::unwrap_used)]

mod bad_input;
mod bench;
mod checkpoints;
mod command;
mod config;
mod exact;
mod import;
mod interruption;
mod learning;
mod parity;
mod reproducibility;
