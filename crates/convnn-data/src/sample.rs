//! The embedded sample of CIFAR-10.
//!
//! 512 training and 256 test images, so that everything runs without a download. In each half the classes are as
//! even as the numbers allow (51 or 52 and 25 or 26 images, the lower labels having one more), and of each class it
//! is the first images in the official order; the sample keeps that order. So it holds the first training image, a
//! frog, and the first test image, a cat. `examples/make_sample.rs` makes the two files of `assets/` again:
//! `sample.png`, a lossless sheet of 32 × 24 images, and `sample.labels`, one byte an image.

use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::name::DatasetName;
use crate::picture;
use crate::split::{IMAGE, SIDE, Split};

const SHEET: &[u8] = include_bytes!("../assets/sample.png");
const LABELS: &[u8] = include_bytes!("../assets/sample.labels");

const TRAIN: usize = 512;
const TEST: usize = 256;
/// Images in a row of the sheet.
const COLUMNS: usize = 32;

pub(crate) fn open(name: DatasetName) -> Result<Dataset> {
    match name {
        DatasetName::Cifar10 => Ok(dataset()),
        DatasetName::Cifar100 => Err(Error::NotInSample(name)),
    }
}

pub(crate) fn dataset() -> Dataset {
    let mut train = images();
    let test = train.split_off(TRAIN * IMAGE);
    let (train_labels, test_labels) = LABELS.split_at(TRAIN);
    let split = |images, labels: &[u8]| {
        #[expect(clippy::expect_used, reason = "the sheet is part of the program, and a test counts its images")]
        Split::new(images, labels.to_vec(), None).expect("as many labels as images")
    };
    let origin = "embedded sample".to_owned();
    Dataset::new(DatasetName::Cifar10, split(train, train_labels), split(test, test_labels), origin)
}

/// All images of the sheet, (768, 3, 32, 32).
fn images() -> Vec<u8> {
    let (width, height) = (COLUMNS * SIDE, (TRAIN + TEST) / COLUMNS * SIDE);
    #[expect(clippy::expect_used, reason = "the sheet is part of the program, and a test decodes it")]
    let sheet = picture::decode(SHEET, width as u32, height as u32).expect("the sheet decodes");
    let mut images = Vec::with_capacity((TRAIN + TEST) * IMAGE);
    for tile in 0..TRAIN + TEST {
        let (top, left) = (tile / COLUMNS * SIDE, tile % COLUMNS * SIDE);
        let rows = sheet.chunks_exact(3 * width).skip(top).take(SIDE);
        picture::push_planes(rows.map(|row| &row[3 * left..3 * (left + SIDE)]), &mut images);
    }
    images
}
