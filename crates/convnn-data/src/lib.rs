#![doc = include_str!("../README.md")]

mod augment;
#[cfg(feature = "candle-datasets")]
mod candle;
mod checksum;
mod dataset;
mod directory;
mod error;
#[cfg(feature = "hub")]
mod hub;
mod loader;
mod name;
mod normalize;
#[cfg(feature = "hub")]
mod parquet_file;
mod picture;
mod random;
mod resize;
mod sample;
mod search;
mod split;

pub use augment::{Augmentation, PADDING};
pub use dataset::{Dataset, Source};
pub use directory::{Directory, verify};
pub use error::{Error, Result};
#[cfg(feature = "hub")]
pub use hub::HubConfig;
pub use loader::{Batch, Batches, Loader, LoaderConfig, Order, Streams};
pub use name::DatasetName;
pub use normalize::Normalization;
pub use resize::Resizer;
pub use search::Search;
pub use split::{CHANNELS, IMAGE, Labels, SIDE, Split};
