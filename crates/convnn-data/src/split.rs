//! A set of images with their labels, as bytes.

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Height and width of an image in pixels.
pub const SIDE: usize = 32;
/// Channels of an image: red, green, blue.
pub const CHANNELS: usize = 3;
/// Bytes of an image, (3, 32, 32) row-major.
pub const IMAGE: usize = CHANNELS * SIDE * SIDE;

/// Which labels of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Labels {
    /// The classes: 10 of CIFAR-10, 100 of CIFAR-100.
    #[default]
    Fine,
    /// The 20 superclasses of CIFAR-100.
    Coarse,
}

impl Labels {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Coarse => "coarse",
        }
    }
}

/// The training or the test half of a data set: n images of (3, 32, 32) bytes, each with its label.
///
/// Large, so it is shared behind an `Arc` and never copied.
#[derive(Clone, PartialEq, Eq)]
pub struct Split {
    images: Vec<u8>,
    labels: Vec<u8>,
    coarse: Option<Vec<u8>>,
}

impl Split {
    /// Puts images, (n, 3, 32, 32) row-major, and labels together.
    ///
    /// # Errors
    /// Where the numbers of images, labels and coarse labels differ.
    pub fn new(images: Vec<u8>, labels: Vec<u8>, coarse: Option<Vec<u8>>) -> Result<Self> {
        let n = labels.len();
        let n_coarse = coarse.as_ref().map_or(n, Vec::len);
        if images.len() != n * IMAGE || n_coarse != n {
            return Err(Error::SplitShape { bytes: images.len(), labels: n, coarse: n_coarse });
        }
        Ok(Self { images, labels, coarse })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// All images, (n, 3, 32, 32) row-major.
    pub fn images(&self) -> &[u8] {
        &self.images
    }

    /// One image, (3, 32, 32) row-major.
    ///
    /// # Panics
    /// Where `index` is not below [`len`](Self::len).
    pub fn image(&self, index: usize) -> &[u8] {
        &self.images[index * IMAGE..(index + 1) * IMAGE]
    }

    /// The labels, or `None` for the coarse ones of a data set that has none.
    pub fn labels(&self, labels: Labels) -> Option<&[u8]> {
        match labels {
            Labels::Fine => Some(&self.labels),
            Labels::Coarse => self.coarse.as_deref(),
        }
    }

    /// A copy of the first `n` images (all of them where there are fewer).
    pub fn first(&self, n: usize) -> Self {
        let n = n.min(self.len());
        Self {
            images: self.images[..n * IMAGE].to_vec(),
            labels: self.labels[..n].to_vec(),
            coarse: self.coarse.as_ref().map(|coarse| coarse[..n].to_vec()),
        }
    }

    /// The images as a tensor (n, 3, 32, 32) of f32 from 0 to 1, without normalisation.
    ///
    /// # Errors
    /// Those of Candle.
    pub fn image_tensor(&self) -> Result<Tensor> {
        let shape = (self.len(), CHANNELS, SIDE, SIDE);
        let bytes = Tensor::from_slice(&self.images, shape, &Device::Cpu)?;
        Ok((bytes.to_dtype(DType::F32)? / 255.)?)
    }

    /// The fine labels as a tensor (n) of u32.
    ///
    /// # Errors
    /// Those of Candle.
    pub fn label_tensor(&self) -> Result<Tensor> {
        let labels: Vec<u32> = self.labels.iter().map(|&label| label.into()).collect();
        Ok(Tensor::new(labels, &Device::Cpu)?)
    }
}

impl std::fmt::Debug for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Split").field("images", &self.len()).field("coarse_labels", &self.coarse.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn images_and_labels_must_agree_in_number() {
        assert!(Split::new(vec![0; 2 * IMAGE], vec![0, 1], Some(vec![0, 1])).is_ok());
        for (bytes, coarse) in [(2 * IMAGE - 1, 2), (2 * IMAGE, 1), (IMAGE, 2)] {
            let result = Split::new(vec![0; bytes], vec![0, 1], Some(vec![0; coarse]));
            assert!(matches!(result, Err(Error::SplitShape { .. })), "{bytes} bytes");
        }
    }

    #[test]
    fn the_first_images_keep_their_labels() {
        let mut images = vec![0; 3 * IMAGE];
        images[IMAGE] = 9;
        let split = Split::new(images, vec![4, 5, 6], Some(vec![1, 2, 3])).unwrap();
        let first = split.first(2);
        assert_eq!(first.len(), 2);
        assert_eq!(first.image(1)[0], 9);
        assert_eq!(first.labels(Labels::Fine), Some(&[4, 5][..]));
        assert_eq!(first.labels(Labels::Coarse), Some(&[1, 2][..]));
        assert_eq!(split.first(7), split);
    }

    #[test]
    fn tensors_hold_the_bytes_as_shares_of_one() {
        let mut images = vec![0; IMAGE];
        images[1] = 255;
        images[SIDE] = 51;
        let split = Split::new(images, vec![7], None).unwrap();
        let tensor = split.image_tensor().unwrap();
        assert_eq!(tensor.dims(), [1, CHANNELS, SIDE, SIDE]);
        let red = tensor.get(0).unwrap().get(0).unwrap();
        let red = red.to_vec2::<f32>().unwrap();
        // Candle divides by multiplying with the reciprocal.
        assert_eq!((red[0][1], red[1][0], red[0][0]), (1., 51. * (1. / 255.), 0.));
        let labels = split.label_tensor().unwrap().to_vec1::<u32>().unwrap();
        assert_eq!(labels, [7]);
    }
}
