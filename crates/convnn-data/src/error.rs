//! The errors of this crate: one line, and where a download would help, the command on a line of its own.

use std::path::PathBuf;

use crate::name::{DatasetName, Labels};

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What is wrong with the data: where, what was found, what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data set was found in none of the places that were searched.
    #[error("{} was not found: {}{}", dataset.title(), searched.join("; "), download("download it", command))]
    NotFound {
        /// The data set.
        dataset: DatasetName,
        /// What was found in each place, in search order.
        searched: Vec<String>,
        /// A command that downloads it.
        command: String,
    },

    /// The data folder does not exist.
    #[error("data folder {}: not found{}", folder.display(), download(&format!("download {}", dataset.title()), command))]
    FolderMissing {
        /// The folder.
        folder: PathBuf,
        /// The data set.
        dataset: DatasetName,
        /// A command that downloads it.
        command: String,
    },

    /// The data folder has no file of the data set.
    #[error(
        "data folder {}: holds neither the files of {} ({first}, …) nor a folder {}{}",
        folder.display(), dataset.title(), dataset.folder(), download("download them", command)
    )]
    FolderForeign {
        /// The folder.
        folder: PathBuf,
        /// The data set.
        dataset: DatasetName,
        /// The first file that is expected.
        first: String,
        /// A command that downloads it.
        command: String,
    },

    /// Some files of the data folder are missing.
    #[error(
        "data folder {}: incomplete, {} of {expected} files of {} missing ({}){}",
        folder.display(), missing.len(), dataset.title(), missing.join(", "), download("download them", command)
    )]
    FilesMissing {
        /// The folder.
        folder: PathBuf,
        /// The data set.
        dataset: DatasetName,
        /// The missing files.
        missing: Vec<String>,
        /// The number of files that are expected.
        expected: usize,
        /// A command that downloads them.
        command: String,
    },

    /// A file has the wrong size.
    #[error("{}: {found} bytes found, {expected} expected{}", file.display(), download("download it again", command))]
    FileSize {
        /// The file.
        file: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The expected size in bytes.
        expected: u64,
        /// A command that downloads it.
        command: String,
    },

    /// A label is out of range.
    #[error(
        "{}: record {record} has {kind} label {found}, expected 0 to {last}; the file is damaged{remedy}",
        file.display()
    )]
    Label {
        /// The file.
        file: PathBuf,
        /// The record (row), from 0.
        record: usize,
        /// Which of the labels.
        kind: Labels,
        /// The label.
        found: i64,
        /// The largest valid label.
        last: usize,
        /// What to do, to be appended to the message.
        remedy: String,
    },

    /// The contents of a file are not the published ones.
    #[error(
        "{}: {algorithm} {found} found, {expected} expected; the file is damaged{remedy}",
        file.display()
    )]
    Checksum {
        /// The file.
        file: PathBuf,
        /// "MD5" or "SHA-256".
        algorithm: &'static str,
        /// The checksum of the file.
        found: Box<str>,
        /// The published checksum.
        expected: Box<str>,
        /// What to do, to be appended to the message.
        remedy: String,
    },

    /// The sample has no images of this data set.
    #[error("the embedded sample has no images of {}, only of CIFAR-10; use cifar10 or give a data folder", .0.title())]
    NotInSample(DatasetName),

    /// The hub is only asked for CIFAR.
    #[error("{} is not read from the hub, only CIFAR-10 and CIFAR-100; give a data folder", .0.title())]
    NotOnHub(DatasetName),

    /// A folder of pictures was asked for without a folder.
    #[error("the data set `folder` is a folder of pictures; give its path as the data folder")]
    NoFolder,

    /// What should be a file is a folder, a pipe or a device.
    #[error("{}: not a regular file", file.display())]
    NotAFile {
        /// The path.
        file: PathBuf,
    },

    /// The header of an idx file is not the expected one.
    #[error("{}: header {}, expected {}", file.display(), bytes(found), bytes(expected))]
    Idx {
        /// The file.
        file: PathBuf,
        /// Its header.
        found: Vec<u8>,
        /// The expected header.
        expected: Vec<u8>,
    },

    /// A folder of pictures has no classes.
    #[error(
        "{}: no folders of pictures found; expected train/CLASS/*.png (or jpg, jpeg, webp), with test/CLASS or val/CLASS if \
         there is a test part, or CLASS/*.png",
        folder.display()
    )]
    NoPictures {
        /// The folder.
        folder: PathBuf,
    },

    /// Class folders are empty, or too many.
    #[error("{}: {reason}", folder.display())]
    Classes {
        /// The folder.
        folder: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },

    /// Some pictures cannot be read.
    #[error("{count} of {total} pictures cannot be read: {}{}; repair or delete them", listed.join("; "), more(*count, listed.len()))]
    BrokenPictures {
        /// The first of them, each with what is wrong with it.
        listed: Vec<String>,
        /// How many they are.
        count: usize,
        /// The number of all pictures.
        total: usize,
    },

    /// The pictures do not fit into memory.
    #[error(
        "{images} pictures of {side}×{side} pixels need {bytes} bytes of memory; use fewer pictures or a smaller model.image"
    )]
    PicturesMemory {
        /// Number of pictures.
        images: usize,
        /// Side of the images in pixels.
        side: usize,
        /// The bytes needed.
        bytes: u128,
    },

    /// The share of the test pictures is not above 0 and below 1.
    #[error("test share {0}; expected a number above 0 and below 1")]
    TestShare(f64),

    /// Too many images were to be held out for validation.
    #[error("{found} images cannot be held out for validation; expected at most {max}")]
    Holdout {
        /// The number of images to hold out.
        found: usize,
        /// The largest possible number.
        max: usize,
    },

    /// Images were to be held out, but there already are validation images.
    #[error("the data has {images} validation images already; leave `holdout` at 0")]
    ValidationExists {
        /// Number of validation images.
        images: usize,
    },

    /// An option of the augmentation is out of range.
    #[error("augmentation: {option} is {found}; expected {expected}")]
    Augmentation {
        /// The option, with its step.
        option: String,
        /// Its value.
        found: String,
        /// The valid values.
        expected: String,
    },

    /// An option of the mixing is out of range.
    #[error("{option} is {found}; expected 0 to {max}")]
    Mix {
        /// "mixup" or "cutmix".
        option: &'static str,
        /// Its value.
        found: f64,
        /// The largest value.
        max: f64,
    },

    /// A label is not below the number of classes.
    #[error("the labels go beyond {found} classes; images can only be mixed if the number of classes is right")]
    ClassCount {
        /// The number of classes in the configuration of the loader.
        found: usize,
    },

    /// The crate was built without the feature `hub`.
    #[error("the Hugging Face hub is not part of this build; build with `--features hub` to use it")]
    NoHub,

    /// The environment names no cache folder for the hub.
    #[error("cannot find a cache folder for the hub; set HF_HUB_CACHE to one")]
    NoHubCache,

    /// A file could not be downloaded from the hub.
    #[error("{file} could not be downloaded from {endpoint}: {reason}")]
    Hub {
        /// The file, with its repository.
        file: String,
        /// URL of the hub, without credentials.
        endpoint: String,
        /// What went wrong.
        reason: String,
    },

    /// A file is not in the hub cache, and downloads are disabled.
    #[error("{file} is not in the hub cache {} and downloads are disabled (HF_HUB_OFFLINE)", cache.display())]
    HubOffline {
        /// The file, with its repository.
        file: String,
        /// The cache folder.
        cache: PathBuf,
    },

    /// A parquet file cannot be read as images and labels.
    #[error("{}: {reason}{remedy}", file.display())]
    Parquet {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to do, to be appended to the message.
        remedy: String,
    },

    /// An image of a parquet file cannot be decoded.
    #[error("{}: the image in row {row} is damaged ({reason}){remedy}", file.display())]
    Picture {
        /// The file.
        file: PathBuf,
        /// The row, from 0.
        row: usize,
        /// What is wrong with it.
        reason: String,
        /// What to do, to be appended to the message.
        remedy: String,
    },

    /// The numbers of images and labels differ.
    #[error(
        "images and labels do not match: {labels} labels and {coarse} coarse labels need {expected} bytes of images, \
         found {bytes}"
    )]
    SplitShape {
        /// Bytes of all images.
        bytes: usize,
        /// Bytes of one image per label.
        expected: usize,
        /// Number of labels.
        labels: usize,
        /// Number of coarse labels, or of labels if there are no coarse ones.
        coarse: usize,
    },

    /// The batch size is 0, or a batch would not fit into memory.
    #[error("batch size {found}; expected 1 to {max} for images of {side}×{side} pixels")]
    BatchSize {
        /// The batch size.
        found: usize,
        /// The largest batch size for these images.
        max: usize,
        /// Side of the images in pixels.
        side: usize,
    },

    /// The image size is 0 or too large.
    #[error("image size {found}; expected 1 to {max} pixels")]
    ImageSize {
        /// The image size.
        found: usize,
        /// The largest image size.
        max: usize,
    },

    /// The split has no images.
    #[error("no images to load: the split is empty")]
    Empty,

    /// The data set has no coarse labels.
    #[error("coarse labels were asked for, but this data set has only fine labels")]
    NoCoarseLabels,

    /// The batch is past the end of the epoch.
    #[error("batch {batch} was asked for, but an epoch has {batches} batches")]
    BatchPastEnd {
        /// The batch, from 0.
        batch: usize,
        /// Batches per epoch.
        batches: usize,
    },

    /// A thread could not be started.
    #[error("a loader thread could not be started: {0}")]
    Thread(#[source] std::io::Error),

    /// A file or folder could not be read.
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

/// The lines that say how to download something: `what`, and the command, to be pasted into a shell.
pub(crate) fn download(what: &str, command: &str) -> String {
    match command {
        "" => String::new(),
        _ => format!("\n{what} with:\n  {command}"),
    }
}

/// The end of a shortened list.
fn more(count: usize, listed: usize) -> String {
    match count - listed {
        0 => String::new(),
        more => format!("; and {more} more"),
    }
}

fn bytes(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}
