//! A pretrained model as a feature extractor: which known picture is most like a new one?
//!
//! `cargo run --release --example features [-- WEIGHTS]`
//!
//! The 512 training images of the embedded sample are the known pictures, its 256 test images the new ones. Each gets the
//! class of the known picture whose features are most similar (cosine). The features are the input of the last linear
//! layer.

use candle_core::{DType, Device, Tensor};
use convnn_core::operator::{Selection, select};
use convnn_data::{Dataset, Labels, Split};
use convnn_models::{Loaded, Model, Preprocessing};
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../weights/cifar10_hybrid");
    let folder = std::env::args().nth(1).map_or_else(default, PathBuf::from);
    let loaded = Model::load(&folder, DType::F32, &Device::Cpu)?;
    let preprocessing = loaded.preprocessing.ok_or("the weights do not say how pictures are normalized")?;

    let data = Dataset::sample();
    let known = features(&loaded, &preprocessing, &data.train)?;
    let new = features(&loaded, &preprocessing, &data.test)?;
    println!("{} known and {} new pictures, {} features each", known.dim(0)?, new.dim(0)?, new.dim(1)?);

    // The core's own selection: for each new picture the most similar known one.
    let nearest = select(&new, &known, &Selection { neighbors: 1, ..Default::default() })?;
    let nearest: Vec<u32> = nearest.index().flatten_all()?.to_vec1()?;
    let labels = |split: &Split| split.labels(Labels::Fine).unwrap_or_default().to_vec();
    let (known, new) = (labels(&data.train), labels(&data.test));
    let right = nearest.iter().zip(&new).filter(|(nearest, label)| known[**nearest as usize] == **label).count();
    println!("same class as the most similar known picture: {:.1} %", 100.0 * right as f64 / new.len() as f64);
    Ok(())
}

/// The features of every image of `split`, (n, C).
fn features(loaded: &Loaded, preprocessing: &Preprocessing, split: &Split) -> convnn_models::Result<Tensor> {
    Ok(loaded.model.features(&preprocessing.tensor(split.images())?)?)
}
