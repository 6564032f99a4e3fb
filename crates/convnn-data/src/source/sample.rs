//! The embedded sample of CIFAR-10.
//!
//! 512 training and 256 test images, so that everything runs without a download: the first images of each class, in
//! the official order, 51 or 52 per class for training and 25 or 26 for testing. `examples/make_sample.rs` regenerates
//! the two files in `assets/`: `sample.png`, a lossless sheet of 32 × 24 images, and `sample.labels`, one byte per
//! image.

use super::picture;
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::name::DatasetName;
use crate::split::{IMAGE, SIDE, Split};

const SHEET: &[u8] = include_bytes!("../../assets/sample.png");
const LABELS: &[u8] = include_bytes!("../../assets/sample.labels");

const TRAIN: usize = 512;
const TEST: usize = 256;
/// Images per row of the sheet.
const COLUMNS: usize = 32;

pub(crate) fn open(name: DatasetName) -> Result<Dataset> {
    match name {
        DatasetName::Cifar10 => Ok(dataset()),
        _ => Err(Error::NotInSample(name)),
    }
}

pub(crate) fn dataset() -> Dataset {
    let mut train = images();
    let test = train.split_off(TRAIN * IMAGE);
    let (train_labels, test_labels) = LABELS.split_at(TRAIN);
    let split = |images, labels: &[u8]| {
        #[expect(clippy::expect_used, reason = "the sheet is embedded, and a test counts its images")]
        Split::new(images, labels.iter().map(|&label| label.into()).collect(), None).expect("one label per image")
    };
    let origin = "embedded sample".to_owned();
    Dataset::new(DatasetName::Cifar10, split(train, train_labels), split(test, test_labels), origin)
}

/// All images of the sheet, (768, 3, 32, 32).
fn images() -> Vec<u8> {
    let (width, height) = (COLUMNS * SIDE, (TRAIN + TEST) / COLUMNS * SIDE);
    #[expect(clippy::expect_used, reason = "the sheet is embedded, and a test decodes it")]
    let sheet = picture::decode(SHEET, width, height).expect("the embedded sheet decodes");
    let mut images = Vec::with_capacity((TRAIN + TEST) * IMAGE);
    for tile in 0..TRAIN + TEST {
        let (top, left) = (tile / COLUMNS * SIDE, tile % COLUMNS * SIDE);
        let rows = sheet.chunks_exact(3 * width).skip(top).take(SIDE);
        convnn_image::push_planes(rows.map(|row| &row[3 * left..3 * (left + SIDE)]), &mut images);
    }
    images
}
