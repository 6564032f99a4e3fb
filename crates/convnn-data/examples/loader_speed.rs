//! Times the readers and the loader: `cargo run --release -p convnn-data --example loader_speed -- DIR`.
//!
//! DIR holds `cifar-10-batches-bin` and `cifar-100-binary`. The loader runs alone, so its images per second are an
//! upper bound for training.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use convnn_data::{
    Augmentation, Dataset, DatasetName, Directory, Loader, LoaderConfig, Order, RandAugment, Source, Step, Streams,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: loader_speed DIR")?;
    let notes = std::env::temp_dir().join(format!("convnn-notes-{}", std::process::id()));
    for name in [DatasetName::Cifar10, DatasetName::Cifar100] {
        for checksums in ["computed", "remembered"] {
            let directory = Directory { notes: Some(notes.clone()), ..Directory::from(&path) };
            let start = Instant::now();
            let data = Dataset::open(name, &Source::Directory(directory))?;
            println!(
                "{}: {} training and {} test images in {:.2} s, checksums {checksums}",
                name.title(),
                data.train.len(),
                data.test.len(),
                start.elapsed().as_secs_f64()
            );
        }
    }
    std::fs::remove_dir_all(&notes)?;

    let data = Dataset::open(DatasetName::Cifar10, &Source::Directory(path.into()))?;
    let rand_augment = Augmentation::Steps(vec![Step::RandAugment(RandAugment::default())]);
    for (image_size, augmentation) in [
        (32, Augmentation::None),
        (32, Augmentation::CropFlip),
        (32, rand_augment),
        (224, Augmentation::None),
        (224, Augmentation::CropFlip),
    ] {
        let config = LoaderConfig {
            order: Order::Shuffled,
            image_size,
            augmentation: augmentation.clone(),
            ..LoaderConfig::new(DatasetName::Cifar10, 128)
        };
        let loader = Loader::new(Arc::clone(&data.train), config, streams())?;
        let start = Instant::now();
        let mut images = 0;
        for batch in loader.epoch(0)?.take(if image_size == 32 { 391 } else { 40 }) {
            images += batch?.labels.elem_count();
        }
        let speed = images as f64 / start.elapsed().as_secs_f64();
        println!("{image_size}×{image_size}, {augmentation:?}: {speed:.0} images/s");
    }
    Ok(())
}

/// One generator per name; the trainer passes its own.
fn streams() -> Streams {
    Arc::new(|name| {
        let mut seed = [0; 32];
        for (i, byte) in name.bytes().enumerate() {
            seed[i % 32] ^= byte;
        }
        ChaCha8Rng::from_seed(seed)
    })
}
