//! Conversion to the type of candle-datasets.

use candle_core::{DType, Device, Tensor};
use candle_datasets::vision;

use crate::dataset::Dataset;
use crate::error::Result;
use crate::name::Labels;
use crate::split::Split;

impl Dataset {
    /// Converts to the type of candle-datasets: images (n, 3, 32, 32) f32 in [0, 1], fine labels (n), u8, or u32
    /// if there are more than 256 classes.
    ///
    /// Needs the feature `candle-datasets`.
    pub fn to_candle(&self) -> Result<vision::Dataset> {
        Ok(vision::Dataset {
            train_images: self.train.image_tensor()?,
            train_labels: labels(&self.train, self.classes.len())?,
            test_images: self.test.image_tensor()?,
            test_labels: labels(&self.test, self.classes.len())?,
            labels: self.classes.len(),
        })
    }
}

fn labels(split: &Split, classes: usize) -> Result<Tensor> {
    let labels = split.labels(Labels::Fine).unwrap_or_default();
    let labels: Vec<u32> = labels.iter().map(|&label| u32::from(label)).collect();
    let labels = Tensor::from_vec(labels, split.len(), &Device::Cpu)?;
    Ok(if classes <= 256 { labels.to_dtype(DType::U8)? } else { labels })
}
