//! Images and labels as bytes.

use std::fmt;

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::name::Labels;

/// Height and width of an image in pixels.
pub const SIDE: usize = 32;
/// Channels of an image: red, green, blue.
pub const CHANNELS: usize = 3;
/// Bytes per image, (3, 32, 32) row-major.
pub const IMAGE: usize = CHANNELS * SIDE * SIDE;

/// The training or test images of a data set: n images of (3, 32, 32) bytes with their labels.
///
/// A split can be large; share it through an `Arc`.
#[derive(Clone, PartialEq, Eq)]
pub struct Split {
    images: Vec<u8>,
    labels: Vec<u8>,
    coarse: Option<Vec<u8>>,
}

impl Split {
    /// Creates a split from images, (n, 3, 32, 32) row-major, and their labels.
    ///
    /// # Errors
    /// If the numbers of images, labels and coarse labels differ.
    pub fn new(images: Vec<u8>, labels: Vec<u8>, coarse: Option<Vec<u8>>) -> Result<Self> {
        let n = labels.len();
        let n_coarse = coarse.as_ref().map_or(n, Vec::len);
        if images.len() != n * IMAGE || n_coarse != n {
            return Err(Error::SplitShape { bytes: images.len(), expected: n * IMAGE, labels: n, coarse: n_coarse });
        }
        Ok(Self { images, labels, coarse })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether the split has no images.
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
    /// If `index` is not less than [`len`](Self::len).
    pub fn image(&self, index: usize) -> &[u8] {
        &self.images[index * IMAGE..(index + 1) * IMAGE]
    }

    /// The labels; `None` for the coarse labels of a data set without them.
    pub fn labels(&self, labels: Labels) -> Option<&[u8]> {
        match labels {
            Labels::Fine => Some(&self.labels),
            Labels::Coarse => self.coarse.as_deref(),
        }
    }

    /// A copy of the first `n` images, or of all of them if there are fewer.
    pub fn first(&self, n: usize) -> Self {
        let n = n.min(self.len());
        Self {
            images: self.images[..n * IMAGE].to_vec(),
            labels: self.labels[..n].to_vec(),
            coarse: self.coarse.as_ref().map(|coarse| coarse[..n].to_vec()),
        }
    }

    /// The images as an f32 tensor (n, 3, 32, 32) with values in [0, 1], not normalised.
    pub fn image_tensor(&self) -> Result<Tensor> {
        let shape = (self.len(), CHANNELS, SIDE, SIDE);
        let bytes = Tensor::from_slice(&self.images, shape, &Device::Cpu)?;
        Ok((bytes.to_dtype(DType::F32)? / 255.)?)
    }

    /// The fine labels as a u32 tensor (n).
    pub fn label_tensor(&self) -> Result<Tensor> {
        let labels: Vec<u32> = self.labels.iter().map(|&label| label.into()).collect();
        Ok(Tensor::new(labels, &Device::Cpu)?)
    }
}

impl fmt::Debug for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Split").field("images", &self.len()).field("coarse_labels", &self.coarse.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn images_and_labels_must_match_in_number() {
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
    fn image_tensors_are_scaled_to_one() {
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
