//! Integration tests of the trainer: the binary on the built-in sample, and the library.

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
mod seen;
mod threads;
