//! Integration tests: one program, so that Candle is linked once.

#![allow(clippy::unwrap_used)]

mod candle_faults;
mod exact;
mod golden;
mod layers;
mod trajectories;
