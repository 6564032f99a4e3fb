//! A data set and the sources it can come from.

use std::sync::Arc;

use crate::directory::{self, Directory};
use crate::error::Result;
#[cfg(feature = "hub")]
use crate::hub::{self, HubConfig};
use crate::name::DatasetName;
use crate::sample;
use crate::split::Split;

/// A data set in memory; a clone shares the images.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Which data set it is.
    pub name: DatasetName,
    /// The training images.
    pub train: Arc<Split>,
    /// The test images.
    pub test: Arc<Split>,
    /// Where the images came from, for logs and run records.
    pub origin: String,
}

/// Where a data set comes from.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Source {
    /// The images inside this crate: 512 training and 256 test images of CIFAR-10.
    Sample,
    /// A folder with the official binary files.
    Directory(Directory),
    /// The Hugging Face hub, or its cache.
    #[cfg(feature = "hub")]
    Hub(HubConfig),
}

impl Dataset {
    /// Reads a data set from its source and checks it.
    ///
    /// # Errors
    /// Where the source does not hold the whole, undamaged data set.
    pub fn open(name: DatasetName, source: &Source) -> Result<Self> {
        match source {
            Source::Sample => sample::open(name),
            Source::Directory(directory) => directory::open(name, directory),
            #[cfg(feature = "hub")]
            Source::Hub(config) => hub::open(name, config),
        }
    }

    /// The embedded sample of CIFAR-10: 512 training and 256 test images.
    pub fn sample() -> Self {
        sample::dataset()
    }

    pub(crate) fn new(name: DatasetName, train: Split, test: Split, origin: String) -> Self {
        Self { name, train: Arc::new(train), test: Arc::new(test), origin }
    }
}
