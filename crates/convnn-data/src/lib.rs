#![doc = include_str!("../README.md")]

#[cfg(feature = "candle-datasets")]
mod candle;
mod dataset;
mod error;
mod loader;
mod name;
mod source;
mod split;

pub use convnn_image::Normalization;
pub use dataset::Dataset;
pub use error::{Error, Result};
pub use loader::{
    Augmentation, Batch, Batches, Crop, Loader, LoaderConfig, Mix, Noise, Order, PADDING, RandAugment, RandomErasing,
    ResizedCrop, Step, Streams,
};
pub use name::{DatasetName, Labels, UnknownDataset};
pub use source::{Directory, HubConfig, Search, Source, parse_records, picture_classes, verify};
pub use split::{CHANNELS, IMAGE, SIDE, Split};
