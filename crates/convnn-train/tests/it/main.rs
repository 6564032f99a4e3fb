//! Integration tests of the trainer: the binary on the built-in sample, and the library.

#![allow(clippy::unwrap_used)]

mod bad_input;
mod bench;
mod checkpoints;
mod command;
mod config;
mod corpus;
mod exact;
mod export;
#[cfg(target_os = "linux")]
mod failures;
mod golden;
#[cfg(feature = "hub")]
mod hub;
mod import;
mod interruption;
mod learning;
mod limits;
#[cfg(target_os = "linux")]
mod locks;
mod neighbors;
mod own_data;
mod parity;
mod predict;
mod pytorch;
mod recipes;
mod reference;
mod reproducibility;
#[cfg(target_os = "linux")]
mod resuming;
mod seen;
#[cfg(target_os = "linux")]
mod stopping;
#[cfg(target_os = "linux")]
mod terminal;
mod threads;
