//! Tests of the public API.
#![allow(clippy::unwrap_used)]

#[cfg(all(feature = "candle-datasets", feature = "hub"))]
mod candle;
mod loader;
#[cfg(all(feature = "candle-datasets", feature = "hub"))]
mod parquet_fixture;
mod sample;
#[cfg(all(feature = "candle-datasets", feature = "hub"))]
mod server;

/// The first test image of CIFAR-10, a cat, (3, 32, 32), as in the official file.
const CAT: &[u8] = include_bytes!("../golden/first_test_image.bin");
