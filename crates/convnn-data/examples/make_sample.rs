//! Makes the embedded sample again from the official files.
//!
//! `cargo run -p convnn-data --example make_sample -- DIR`, with DIR the folder that holds `cifar-10-batches-bin`, writes
//! `sample.png` and `sample.labels` in `assets/`. The same files come out each time.
//!
//! Taken are, of each class, the first images in the official order: 51 or 52 of the training images and 25 or 26 of
//! the test images, one more of the lower labels, since 512 and 256 are no multiples of 10. They keep the official
//! order. The indices are printed.

use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use convnn_data::{Dataset, DatasetName, IMAGE, Labels, SIDE, Source, Split};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

const COLUMNS: usize = 32;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: make_sample DIR")?;
    let data = Dataset::open(DatasetName::Cifar10, &Source::Directory(folder.into()))?;
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for (title, split, n) in [("training", &data.train, 512), ("test", &data.test, 256)] {
        let indices = balanced(split, n);
        println!("{title}: {indices:?}");
        for index in indices {
            images.extend_from_slice(split.image(index));
            labels.push(fine_labels(split)[index]);
        }
    }
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
    std::fs::write(assets.join("sample.labels"), &labels)?;

    let (width, height) = (COLUMNS * SIDE, labels.len() / COLUMNS * SIDE);
    let mut sheet = vec![0; width * height * 3];
    for (tile, image) in images.chunks_exact(IMAGE).enumerate() {
        let (top, left) = (tile / COLUMNS * SIDE, tile % COLUMNS * SIDE);
        for (i, &pixel) in image.iter().enumerate() {
            let (channel, row, column) = (i / SIDE / SIDE, i / SIDE % SIDE, i % SIDE);
            sheet[((top + row) * width + left + column) * 3 + channel] = pixel;
        }
    }
    let file = BufWriter::new(File::create(assets.join("sample.png"))?);
    PngEncoder::new_with_quality(file, CompressionType::Best, FilterType::Adaptive).write_image(
        &sheet,
        width as u32,
        height as u32,
        ExtendedColorType::Rgb8,
    )?;
    Ok(())
}

/// The first images of each class, `n` in all, in their order.
fn balanced(split: &Split, n: usize) -> Vec<usize> {
    let classes = DatasetName::Cifar10.classes();
    let mut wanted: Vec<usize> = (0..classes).map(|label| n / classes + usize::from(label < n % classes)).collect();
    let take = |(_, label): &(usize, &u8)| {
        let wanted = &mut wanted[usize::from(**label)];
        let take = *wanted > 0;
        *wanted -= usize::from(take);
        take
    };
    fine_labels(split).iter().enumerate().filter(take).map(|(index, _)| index).collect()
}

fn fine_labels(split: &Split) -> &[u8] {
    split.labels(Labels::Fine).unwrap_or_default()
}
