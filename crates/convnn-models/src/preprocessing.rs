//! From the pixels of a picture to the tensor that a model sees.

use crate::{Error, Result};
use candle_core::{Device, Tensor};
use convnn_image::{CHANNELS, Normalization, center_square};
use serde::{Deserialize, Serialize};

/// How a picture becomes an input: its shorter side is resized to `size` pixels (bilinear, antialiased), the square in the
/// center is kept, and each channel is normalized. These are torchvision's `Resize`, `CenterCrop`, `ToTensor` and
/// `Normalize`, to the bit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Height and width of the input in pixels.
    pub size: usize,
    /// Mean of the red, green and blue channel of images in [0, 1].
    pub mean: [f32; CHANNELS],
    /// Standard deviation of the red, green and blue channel.
    pub sd: [f32; CHANNELS],
}

impl Preprocessing {
    /// For a model of images of `size`×`size` pixels.
    pub const fn new(size: usize, normalization: Normalization) -> Self {
        Self { size, mean: normalization.mean, sd: normalization.sd }
    }

    /// The normalization alone.
    pub const fn normalization(&self) -> Normalization {
        Normalization { mean: self.mean, sd: self.sd }
    }

    /// A picture as an input: (height, width, 3) bytes to (1, 3, size, size), f32 on the CPU.
    ///
    /// # Errors
    /// [`Error::Value`] if `rgb` does not have 3 · `height` · `width` bytes, or the picture is empty.
    ///
    /// ```
    /// # fn main() -> convnn_models::Result<()> {
    /// use convnn_models::Preprocessing;
    ///
    /// let preprocessing = Preprocessing { size: 32, mean: [0.5; 3], sd: [0.25; 3] };
    /// let gray = preprocessing.apply(&[128; 3 * 480 * 640], 480, 640)?;
    /// assert_eq!(gray.dims(), [1, 3, 32, 32]);
    /// # Ok(()) }
    /// ```
    pub fn apply(&self, rgb: &[u8], height: usize, width: usize) -> Result<Tensor> {
        let expected = height.checked_mul(width).and_then(|pixels| pixels.checked_mul(CHANNELS));
        if expected != Some(rgb.len()) || rgb.is_empty() {
            return Err(Error::Value {
                key: "rgb",
                found: format!("{} bytes", rgb.len()),
                expected: format!("3 bytes for each of {height}×{width} pixels, at least one"),
            });
        }
        match self.size {
            0 => self.tensor(&[]),
            size => self.tensor(&center_square(rgb, width, height, size)),
        }
    }

    /// Images that have the right size already, one after the other as planes of bytes (n, 3, size, size), as an input.
    ///
    /// # Errors
    /// [`Error::Value`] if the number of bytes is not a multiple of that of an image, if `size` is 0, or if the mean or
    /// the standard deviation cannot normalize.
    pub fn tensor(&self, planes: &[u8]) -> Result<Tensor> {
        self.check(self.size)?;
        let plane = self.size.checked_mul(self.size).filter(|&plane| plane > 0);
        let image = plane.and_then(|plane| plane.checked_mul(CHANNELS));
        let (Some(plane), Some(image)) = (plane, image) else {
            let (found, expected) = (self.size.to_string(), "the side of an image, at least 1".to_owned());
            return Err(Error::Value { key: "preprocessing.size", found, expected });
        };
        if !planes.len().is_multiple_of(image) {
            let (found, expected) = (format!("{} bytes", planes.len()), format!("a multiple of {image}, an image's"));
            return Err(Error::Value { key: "planes", found, expected });
        }
        let tables = self.normalization().table();
        let values: Vec<f32> = planes
            .chunks(plane)
            .zip(tables.iter().cycle())
            .flat_map(|(plane, table)| plane.iter().map(|&byte| table[usize::from(byte)]))
            .collect();
        let images = planes.len() / image;
        Ok(Tensor::from_vec(values, (images, CHANNELS, self.size, self.size), &Device::Cpu)?)
    }

    /// Fails unless the numbers can normalize images of a model for `size`×`size` pixels.
    pub(crate) fn check(&self, size: usize) -> Result<()> {
        let wrong = |key, found: String, expected: String| Err(Error::Value { key, found, expected });
        if self.size != size {
            return wrong("preprocessing.size", self.size.to_string(), format!("{size}, the model's image size"));
        }
        if let Some(mean) = self.mean.iter().find(|mean| !mean.is_finite()) {
            return wrong("preprocessing.mean", mean.to_string(), "finite numbers".to_owned());
        }
        match self.sd.iter().find(|sd| !(sd.is_finite() && **sd > 0.0)) {
            Some(sd) => wrong("preprocessing.sd", sd.to_string(), "finite numbers above 0".to_owned()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn channels_keep_their_place_and_their_numbers() {
        let preprocessing = Preprocessing { size: 1, mean: [0.0, 0.5, 1.0], sd: [1.0, 0.5, 2.0] };
        let input = preprocessing.apply(&[255, 0, 51], 1, 1).unwrap();
        assert_eq!(input.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [1.0, -1.0, -0.4]);
        let two = preprocessing.tensor(&[255, 0, 51, 0, 255, 255]).unwrap();
        assert_eq!(two.dims(), [2, 3, 1, 1]);
        assert_eq!(two.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [1.0, -1.0, -0.4, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn wrong_sizes_are_refused() {
        let preprocessing = Preprocessing { size: 2, mean: [0.0; 3], sd: [1.0; 3] };
        for (bytes, height, width) in [(11, 2, 2), (0, 0, 5), (3, usize::MAX, 3)] {
            let error = preprocessing.apply(&vec![0; bytes], height, width).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`rgb` is {bytes} bytes; expected 3 bytes for each of")), "{error}");
        }
        preprocessing.tensor(&[0; 13]).unwrap_err();
        let error = Preprocessing { sd: [1.0, 0.0, 1.0], ..preprocessing }.check(2).unwrap_err().to_string();
        assert_eq!(error, "`preprocessing.sd` is 0; expected finite numbers above 0");
        let error = preprocessing.check(3).unwrap_err().to_string();
        assert_eq!(error, "`preprocessing.size` is 2; expected 3, the model's image size");
    }
}
