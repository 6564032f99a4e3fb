//! Everything that can be wrong with data, each as one line that says what to do.

use std::path::PathBuf;

use crate::name::DatasetName;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What is wrong with the data, with the place, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that is no data set.
    #[error("unknown data set {0:?}; known are cifar10 and cifar100")]
    UnknownDataset(String),

    /// No place that was looked at has the data set.
    #[error("{} was not found: {}; get it with `{command}`", dataset.title(), looked.join("; "))]
    NotFound {
        /// The data set.
        dataset: DatasetName,
        /// Where it was looked for and what was there, in the order of the search.
        looked: Vec<String>,
        /// A command that gets it.
        command: String,
    },

    /// A data folder that does not exist.
    #[error("data folder {}: not found; get {} with `{command}`", folder.display(), dataset.title())]
    FolderMissing {
        /// The folder asked for.
        folder: PathBuf,
        /// The data set.
        dataset: DatasetName,
        /// A command that gets it.
        command: String,
    },

    /// A data folder with no file of the data set.
    #[error(
        "data folder {}: holds neither the files of {} ({first}, …) nor a folder {}; get it with `{command}`",
        folder.display(), dataset.title(), dataset.folder()
    )]
    FolderForeign {
        /// The folder asked for.
        folder: PathBuf,
        /// The data set.
        dataset: DatasetName,
        /// The first file it should hold.
        first: String,
        /// A command that gets it.
        command: String,
    },

    /// A data folder that lacks some files.
    #[error(
        "data folder {}: incomplete, {} of {expected} files of {} missing ({}); get them with `{command}`",
        folder.display(), missing.len(), dataset.title(), missing.join(", ")
    )]
    FilesMissing {
        /// The folder.
        folder: PathBuf,
        /// The data set.
        dataset: DatasetName,
        /// The missing files.
        missing: Vec<String>,
        /// How many files there should be.
        expected: usize,
        /// A command that gets them.
        command: String,
    },

    /// A file of the wrong size.
    #[error(
        "{}: {found} bytes found, {expected} expected; get the file again with `{command}`",
        file.display()
    )]
    FileSize {
        /// The file.
        file: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The size it should have.
        expected: u64,
        /// A command that gets it.
        command: String,
    },

    /// A label that is no class of the data set.
    #[error(
        "{}: record {record} has {kind} label {found}, expected 0 to {last}; the file is damaged, {remedy}",
        file.display()
    )]
    Label {
        /// The file.
        file: PathBuf,
        /// The record (row), from 0.
        record: usize,
        /// Which of the labels: "fine" or "coarse".
        kind: &'static str,
        /// The label found.
        found: i64,
        /// The largest label of the data set.
        last: usize,
        /// What to do.
        remedy: String,
    },

    /// A file whose contents are not the published ones.
    #[error(
        "{}: {algorithm} {found} found, {expected} expected; the file is damaged, {remedy}",
        file.display()
    )]
    Checksum {
        /// The file.
        file: PathBuf,
        /// "MD5" or "SHA-256".
        algorithm: &'static str,
        /// Checksum of the file.
        found: Box<str>,
        /// The published checksum.
        expected: Box<str>,
        /// What to do.
        remedy: String,
    },

    /// The sample holds images of CIFAR-10 only.
    #[error("the embedded sample holds images of CIFAR-10 only, {} was asked for; give a data folder or take cifar10", .0.title())]
    NotInSample(DatasetName),

    /// A file of the hub that could not be fetched.
    #[error("{file} could not be fetched from {endpoint}: {reason}")]
    Hub {
        /// The file, after the name of its repository.
        file: String,
        /// Address of the hub.
        endpoint: String,
        /// The causes, outermost first.
        reason: String,
        /// The error of the hub client.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// A file of the hub that is not in the cache, and the network is not to be used.
    #[error(
        "{file} is not in the hub cache {} and the hub is switched off (HF_HUB_OFFLINE)",
        cache.display()
    )]
    HubOffline {
        /// The file, after the name of its repository.
        file: String,
        /// The cache folder.
        cache: PathBuf,
    },

    /// A parquet file that cannot be read as images and labels.
    #[error("{}: {reason}; {remedy}", file.display())]
    Parquet {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        remedy: String,
    },

    /// An image of a parquet file that cannot be decoded.
    #[error(
        "{}: the image of row {row} is damaged ({reason}); {remedy}",
        file.display()
    )]
    Picture {
        /// The file.
        file: PathBuf,
        /// The row, from 0.
        row: usize,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        remedy: String,
    },

    /// Images and labels that do not belong together.
    #[error(
        "a split needs {} bytes an image and one label: found {bytes} bytes, {labels} labels and {coarse} coarse labels",
        crate::split::IMAGE
    )]
    SplitShape {
        /// Bytes of all images.
        bytes: usize,
        /// Number of labels.
        labels: usize,
        /// Number of coarse labels.
        coarse: usize,
    },

    /// A batch size of 0.
    #[error("batch size 0; expected at least 1")]
    BatchSize,

    /// An image size of 0, or one that no memory holds.
    #[error("image size {0}; expected 1 to {max} pixels", max = crate::loader::LARGEST_IMAGE)]
    ImageSize(usize),

    /// A split without images.
    #[error("no images to load: the split is empty")]
    Empty,

    /// Coarse labels asked of a data set that has none.
    #[error("coarse labels were asked for, but this data set has none; expected fine labels")]
    NoCoarseLabels,

    /// A batch past the end of the epoch.
    #[error("batch {batch} was asked for, but an epoch has {batches} batches")]
    BatchPastEnd {
        /// The batch asked for, from 0.
        batch: usize,
        /// Batches of an epoch.
        batches: usize,
    },

    /// A thread could not be started.
    #[error("a thread that prepares batches could not be started: {0}")]
    Thread(#[source] std::io::Error),

    /// A file or folder that could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },

    /// An error of Candle.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        |source| Self::Io { path, source }
    }
}
