//! Images and labels as bytes.

use std::fmt;

use candle_core::{DType, Device, Tensor};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::name::Labels;
use crate::source::hex;

/// Height and width in pixels of the images of CIFAR, and of MNIST with its border.
pub const SIDE: usize = 32;
pub use convnn_image::CHANNELS;

/// Bytes of an image of [`SIDE`] pixels, (3, 32, 32) row-major.
pub const IMAGE: usize = CHANNELS * SIDE * SIDE;

/// The training, validation or test images of a data set: n images of (3, S, S) bytes with their labels.
///
/// A split can be large; share it through an `Arc`.
#[derive(Clone, PartialEq, Eq)]
pub struct Split {
    side: usize,
    images: Vec<u8>,
    labels: Vec<u16>,
    coarse: Option<Vec<u16>>,
}

impl Split {
    /// Creates a split from images of 32×32 pixels, (n, 3, 32, 32) row-major, and their labels.
    ///
    /// # Errors
    /// If the numbers of images, labels and coarse labels differ.
    pub fn new(images: Vec<u8>, labels: Vec<u16>, coarse: Option<Vec<u16>>) -> Result<Self> {
        Self::with_side(SIDE, images, labels, coarse)
    }

    /// Creates a split from images of `side`×`side` pixels, (n, 3, side, side) row-major, and their labels.
    ///
    /// # Errors
    /// If the numbers of images, labels and coarse labels differ, or `side` is 0.
    pub fn with_side(side: usize, images: Vec<u8>, labels: Vec<u16>, coarse: Option<Vec<u16>>) -> Result<Self> {
        let n = labels.len();
        let n_coarse = coarse.as_ref().map_or(n, Vec::len);
        let bytes = n as u128 * CHANNELS as u128 * (side as u128).pow(2);
        let expected = usize::try_from(bytes).unwrap_or(usize::MAX);
        if images.len() as u128 != bytes || n_coarse != n || side == 0 {
            return Err(Error::SplitShape { bytes: images.len(), expected, labels: n, coarse: n_coarse });
        }
        Ok(Self { side, images, labels, coarse })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether the split has no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Height and width of the images in pixels.
    pub fn side(&self) -> usize {
        self.side
    }

    fn image_len(&self) -> usize {
        CHANNELS * self.side * self.side
    }

    /// All images, (n, 3, S, S) row-major.
    pub fn images(&self) -> &[u8] {
        &self.images
    }

    /// One image, (3, S, S) row-major.
    ///
    /// # Panics
    /// If `index` is not less than [`len`](Self::len).
    pub fn image(&self, index: usize) -> &[u8] {
        let len = self.image_len();
        &self.images[index * len..(index + 1) * len]
    }

    /// The labels; `None` for the coarse labels of a data set without them.
    pub fn labels(&self, labels: Labels) -> Option<&[u16]> {
        match labels {
            Labels::Fine => Some(&self.labels),
            Labels::Coarse => self.coarse.as_deref(),
        }
    }

    /// SHA-256 over the size, images and labels in order, as 64 hexadecimal digits.
    ///
    /// It reads every image: call it once.
    pub fn sha256(&self) -> String {
        let mut digest = Sha256::new();
        for size in [self.side, self.len(), usize::from(self.coarse.is_some())] {
            digest.update((size as u64).to_le_bytes());
        }
        digest.update(&self.images);
        for labels in [Some(&self.labels), self.coarse.as_ref()].into_iter().flatten() {
            let bytes: Vec<u8> = labels.iter().flat_map(|label| label.to_le_bytes()).collect();
            digest.update(bytes);
        }
        hex(&digest.finalize())
    }

    /// A copy of the first `n` images, or of all of them if there are fewer.
    pub fn first(&self, n: usize) -> Self {
        let n = n.min(self.len());
        Self {
            side: self.side,
            images: self.images[..n * self.image_len()].to_vec(),
            labels: self.labels[..n].to_vec(),
            coarse: self.coarse.as_ref().map(|coarse| coarse[..n].to_vec()),
        }
    }

    /// A copy of the images at `indices`, in that order.
    pub(crate) fn select(&self, indices: &[usize]) -> Self {
        let mut images = Vec::with_capacity(indices.len() * self.image_len());
        indices.iter().for_each(|&index| images.extend_from_slice(self.image(index)));
        let select = |labels: &[u16]| indices.iter().map(|&index| labels[index]).collect();
        Self { side: self.side, images, labels: select(&self.labels), coarse: self.coarse.as_deref().map(select) }
    }

    /// The images as an f32 tensor (n, 3, S, S) with values in [0, 1], not normalised.
    pub fn image_tensor(&self) -> Result<Tensor> {
        let shape = (self.len(), CHANNELS, self.side, self.side);
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
        f.debug_struct("Split")
            .field("images", &self.len())
            .field("side", &self.side)
            .field("coarse_labels", &self.coarse.is_some())
            .finish()
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
        assert!(Split::with_side(4, vec![0; 2 * 48], vec![0, 1], None).is_ok());
        assert!(Split::with_side(4, vec![0; 2 * IMAGE], vec![0, 1], None).is_err());
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
        let selected = split.select(&[2, 1]);
        assert_eq!(selected.labels(Labels::Fine), Some(&[6, 5][..]));
        assert_eq!(selected.labels(Labels::Coarse), Some(&[3, 2][..]));
        assert_eq!((selected.image(0)[0], selected.image(1)[0]), (0, 9));
    }

    #[test]
    fn the_digest_covers_pixels_labels_and_their_order() {
        let split = |pixel: u8, labels: [u16; 2], coarse: Option<[u16; 2]>| {
            let mut images = vec![0; 2 * IMAGE];
            images[2 * IMAGE - 1] = pixel;
            Split::new(images, labels.to_vec(), coarse.map(Vec::from)).unwrap()
        };
        let base = split(1, [3, 4], Some([0, 1])).sha256();
        assert_eq!(base.len(), 64);
        assert_eq!(base, split(1, [3, 4], Some([0, 1])).sha256());
        let others = [
            split(2, [3, 4], Some([0, 1])),
            split(1, [4, 3], Some([0, 1])),
            split(1, [3, 260], Some([0, 1])),
            split(1, [3, 4], Some([0, 2])),
            split(1, [3, 4], None),
            split(1, [3, 4], Some([0, 1])).select(&[1, 0]),
            split(1, [3, 4], Some([0, 1])).first(1),
        ];
        for (i, other) in others.iter().enumerate() {
            assert_ne!(base, other.sha256(), "case {i}");
        }
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
