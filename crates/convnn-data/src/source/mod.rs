//! The sources a data set can come from.

mod checksum;
mod directory;
mod hub;
mod picture;
mod sample;
mod search;

pub use directory::{Directory, parse_records, verify};
pub use hub::HubConfig;
pub use search::Search;

use crate::dataset::Dataset;
use crate::error::Result;
use crate::name::DatasetName;

/// Where a data set comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The images inside this crate: 512 training and 256 test images of CIFAR-10.
    Sample,
    /// A folder with the official binary files.
    Directory(Directory),
    /// The Hugging Face hub or its local cache; needs the feature `hub`.
    Hub(HubConfig),
}

impl Dataset {
    /// Reads a data set and checks it.
    ///
    /// # Errors
    /// If the source does not hold the complete, undamaged data set.
    pub fn open(name: DatasetName, source: &Source) -> Result<Self> {
        match source {
            Source::Sample => sample::open(name),
            Source::Directory(directory) => directory::open(name, directory),
            Source::Hub(config) => hub::open(name, config),
        }
    }

    /// The embedded sample of CIFAR-10: 512 training and 256 test images.
    pub fn sample() -> Self {
        sample::dataset()
    }
}
