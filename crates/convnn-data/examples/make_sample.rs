//! Regenerates the embedded sample from the official files:
//! `cargo run --release -p convnn-data --example make_sample -- DIR`, where DIR holds `cifar-10-batches-bin`.
//!
//! Writes `sample.png` and `sample.labels` to `assets/`, the same bytes every time, and prints the indices of the images.
//! These are the first ones of each class, in the official order: 51 or 52 for training and 25 or 26 for testing, with
//! the extra image for the lower labels, since 512 and 256 are not multiples of 10.

use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use convnn_data::{Dataset, DatasetName, IMAGE, Labels, SIDE, Source, Split};
use png::{ColorType, Compression, Encoder, Filter};

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
            labels.push(u8::try_from(fine_labels(split)[index])?);
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
    let mut encoder = Encoder::new(file, width as u32, height as u32);
    encoder.set_color(ColorType::Rgb);
    encoder.set_compression(Compression::High);
    encoder.set_filter(Filter::Adaptive);
    encoder.write_header()?.write_image_data(&sheet)?;
    Ok(())
}

/// Indices of the first images of each class, `n` in total, in order.
fn balanced(split: &Split, n: usize) -> Vec<usize> {
    let classes = DatasetName::Cifar10.classes().unwrap_or_default();
    let mut wanted: Vec<usize> = (0..classes).map(|label| n / classes + usize::from(label < n % classes)).collect();
    let take = |(_, label): &(usize, &u16)| {
        let wanted = &mut wanted[usize::from(**label)];
        let take = *wanted > 0;
        *wanted -= usize::from(take);
        take
    };
    fine_labels(split).iter().enumerate().filter(take).map(|(index, _)| index).collect()
}

fn fine_labels(split: &Split) -> &[u16] {
    split.labels(Labels::Fine).unwrap_or_default()
}
