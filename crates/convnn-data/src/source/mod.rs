//! The sources a data set can come from.

mod checksum;
mod directory;
mod file;
mod hub;
mod idx;
mod picture;
mod pictures;
mod sample;
mod search;

use std::path::{Path, PathBuf};

pub(crate) use checksum::hex;
pub use directory::{parse_records, verify};
pub use hub::HubConfig;
pub use pictures::picture_classes;
pub use search::Search;

use crate::dataset::Dataset;
use crate::error::Result;
use crate::name::DatasetName;
use crate::split::SIDE;

/// A folder with the official files of a data set, or with pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct Directory {
    /// The folder with the files, or its parent, which holds for example `cifar-10-batches-bin`; for
    /// [`DatasetName::Folder`], the folder with `train` or with the class folders.
    pub path: PathBuf,
    /// Folder for notes about passed checksums; with `None` they are computed every time.
    pub notes: Option<PathBuf>,
    /// Side in pixels to which pictures are resized and cropped; the official images keep theirs.
    pub image_size: usize,
    /// Share of the pictures of every class that are test pictures, if the folder has no test part.
    pub test_share: f64,
}

impl<P: Into<PathBuf>> From<P> for Directory {
    fn from(path: P) -> Self {
        Self { path: path.into(), notes: None, image_size: SIDE, test_share: TEST_SHARE }
    }
}

/// The usual share of the test pictures.
const TEST_SHARE: f64 = 0.2;

/// Where a data set comes from.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Source {
    /// The images inside this crate: 512 training and 256 test images of CIFAR-10.
    Sample,
    /// A folder with the official files, or with pictures.
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
            Source::Directory(directory) => {
                let (path, notes) = (directory.path.as_path(), directory.notes.as_deref());
                match name {
                    DatasetName::Cifar10 | DatasetName::Cifar100 => directory::open(name, path, notes),
                    DatasetName::Mnist | DatasetName::FashionMnist => idx::open(name, path),
                    DatasetName::Folder => pictures::open(path, directory.image_size, directory.test_share),
                }
            }
            Source::Hub(config) => hub::open(name, config),
        }
    }

    /// The embedded sample of CIFAR-10: 512 training and 256 test images.
    pub fn sample() -> Self {
        sample::dataset()
    }
}

/// A path as one word of a shell command.
pub(crate) fn quote(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
