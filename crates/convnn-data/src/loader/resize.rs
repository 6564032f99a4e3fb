//! Bilinear resizing, bit-identical to torchvision's on a PIL image.
//!
//! Rows, then columns, are filtered with a triangle whose half width is one pixel of the coarser grid, so shrinking
//! averages ("antialias") and enlarging interpolates. As in Pillow's `Resample.c`, weights are integers with 22
//! fractional bits and each pass rounds to bytes.

use crate::split::CHANNELS;

/// Resizes square images of one size to another.
#[derive(Debug, Clone)]
pub struct Resizer {
    from: usize,
    to: usize,
    /// For each pixel of a resized row: the first pixel of the original row that contributes, and the weights from there.
    taps: Vec<(usize, Vec<i32>)>,
}

/// Fractional bits of a weight: 32, less 8 for the pixel and 2 for the sum.
const PRECISION: u32 = 32 - 8 - 2;

impl Resizer {
    /// A resizer from `from`×`from` to `to`×`to` pixels; both must be at least 1.
    pub fn new(from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        // Half the width of the triangle.
        let support = scale.max(1.);
        let taps = (0..to)
            .map(|x| {
                let center = (x as f64 + 0.5) * scale;
                // These conversions truncate, and saturate at 0.
                let first = (center - support + 0.5) as usize;
                let end = ((center + support + 0.5) as usize).min(from);
                let weights: Vec<f64> =
                    (first..end).map(|i| (1. - ((i as f64 - center + 0.5) * (1. / support)).abs()).max(0.)).collect();
                let sum: f64 = weights.iter().sum();
                let fixed = |weight: &f64| (0.5 + weight / sum * f64::from(1u32 << PRECISION)) as i32;
                (first, weights.iter().map(fixed).collect())
            })
            .collect();
        Self { from, to, taps }
    }

    /// Side of a resized image in pixels.
    pub fn size(&self) -> usize {
        self.to
    }

    /// Resizes an image (3, from, from) to (3, to, to), both row-major.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub fn resize(&self, image: &[u8], resized: &mut [u8]) {
        let (from, to) = (self.from, self.to);
        assert_eq!(image.len(), CHANNELS * from * from, "length of the image");
        assert_eq!(resized.len(), CHANNELS * to * to, "length of the resized image");
        let mut wide = vec![0; from * to];
        let mut sums = vec![0; to];
        for (plane, resized) in image.chunks_exact(from * from).zip(resized.chunks_exact_mut(to * to)) {
            for (row, wide) in plane.chunks_exact(from).zip(wide.chunks_exact_mut(to)) {
                for ((first, weights), wide) in self.taps.iter().zip(wide) {
                    let pixels = &row[*first..first + weights.len()];
                    let products = pixels.iter().zip(weights).map(|(&p, w)| i32::from(p) * w);
                    *wide = round(products.sum());
                }
            }
            for ((first, weights), resized) in self.taps.iter().zip(resized.chunks_exact_mut(to)) {
                sums.fill(0);
                for (row, weight) in wide.chunks_exact(to).skip(*first).zip(weights) {
                    for (sum, &pixel) in sums.iter_mut().zip(row) {
                        *sum += i32::from(pixel) * weight;
                    }
                }
                for (resized, &sum) in resized.iter_mut().zip(&sums) {
                    *resized = round(sum);
                }
            }
        }
    }
}

fn round(sum: i32) -> u8 {
    ((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests;
