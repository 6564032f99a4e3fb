//! Bilinear resizing, bit-identical to torchvision's on a PIL image.
//!
//! Rows, then columns, are filtered with a triangle whose half width is one pixel of the coarser grid, so shrinking
//! averages ("antialias") and enlarging interpolates. As in Pillow's `Resample.c`, weights are integers with 22
//! fractional bits and each pass rounds to bytes. (From version 13 on, Pillow begins with the columns if an image is more than
//! twice as high as wide; then some bytes differ by 1.)

use std::ops::Range;

use crate::CHANNELS;

/// Resizes images of one size to squares of another.
#[derive(Debug, Clone)]
pub struct Resizer {
    /// Width and height of the original images.
    from: [usize; 2],
    to: usize,
    columns: Vec<Tap>,
    rows: Vec<Tap>,
    /// The original rows that contribute.
    used: Range<usize>,
}

/// Where a pixel of a resized row comes from: the first pixel of the original row that contributes, and the weights from
/// there.
type Tap = (usize, Vec<i32>);

/// A part of a row or column, resized to `resized` pixels, of which the resizer computes some.
#[derive(Clone, Debug)]
pub struct Window {
    /// The first pixel of the part.
    pub first: usize,
    /// Its length in pixels.
    pub length: usize,
    /// The number of pixels that it is resized to.
    pub resized: usize,
    /// The resized pixels that are computed.
    pub kept: Range<usize>,
}

impl Window {
    /// `length` pixels from `first` on become `resized` pixels, all of them computed.
    pub fn of(first: usize, length: usize, resized: usize) -> Self {
        Self { first, length, resized, kept: 0..resized }
    }

    fn taps(&self) -> Vec<Tap> {
        let scale = self.length as f64 / self.resized as f64;
        // Half the width of the triangle.
        let support = scale.max(1.);
        let tap = |x: usize| {
            let center = (x as f64 + 0.5) * scale;
            // These conversions truncate, and saturate at 0.
            let first = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(self.length);
            let weights: Vec<f64> =
                (first..end).map(|i| (1. - ((i as f64 - center + 0.5) * (1. / support)).abs()).max(0.)).collect();
            let sum: f64 = weights.iter().sum();
            let fixed = |weight: &f64| (0.5 + weight / sum * f64::from(1u32 << PRECISION)) as i32;
            (self.first + first, weights.iter().map(fixed).collect())
        };
        self.kept.clone().map(tap).collect()
    }
}

/// Fractional bits of a weight: 32, less 8 for the pixel and 2 for the sum.
const PRECISION: u32 = 32 - 8 - 2;

impl Resizer {
    /// A resizer from `from`×`from` to `to`×`to` pixels; both must be at least 1.
    pub fn new(from: usize, to: usize) -> Self {
        let all = Window::of(0, from, to);
        Self::build([from, from], &all, &all)
    }

    /// A resizer of a rectangle of `from`×`from` images to a square; the windows must keep equally many pixels.
    pub fn rectangle(from: usize, columns: &Window, rows: &Window) -> Self {
        Self::build([from, from], columns, rows)
    }

    /// A resizer of images of `width`×`height` pixels whose shorter side becomes `to` pixels, of which the square in the
    /// center is kept: torchvision's `Resize` and `CenterCrop`.
    pub fn center(width: usize, height: usize, to: usize) -> Self {
        let window = |side: usize| {
            let resized = (to as u64 * side as u64 / width.min(height) as u64) as usize;
            // Python's `round`, as torchvision places the crop.
            let first = ((resized - to) as f64 / 2.).round_ties_even() as usize;
            Window { first: 0, length: side, resized, kept: first..first + to }
        };
        Self::build([width, height], &window(width), &window(height))
    }

    fn build(from: [usize; 2], columns: &Window, rows: &Window) -> Self {
        let (to, columns, rows) = (columns.kept.len(), columns.taps(), rows.taps());
        let first = rows.first().map_or(0, |tap| tap.0);
        let end = rows.last().map_or(0, |tap| tap.0 + tap.1.len());
        Self { from, to, columns, rows, used: first..end }
    }

    /// Side of a resized image in pixels.
    pub fn size(&self) -> usize {
        self.to
    }

    /// Resizes an image (3, height, width) to (3, to, to), both row-major.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub fn resize(&self, image: &[u8], resized: &mut [u8]) {
        let ([width, height], to) = (self.from, self.to);
        assert_eq!(image.len(), CHANNELS * width * height, "length of the image");
        assert_eq!(resized.len(), CHANNELS * to * to, "length of the resized image");
        let mut wide = vec![0; self.used.len() * to];
        let mut sums = vec![0; to];
        for (plane, resized) in image.chunks_exact(width * height).zip(resized.chunks_exact_mut(to * to)) {
            for (row, wide) in plane.chunks_exact(width).skip(self.used.start).zip(wide.chunks_exact_mut(to)) {
                for ((first, weights), wide) in self.columns.iter().zip(wide) {
                    let pixels = &row[*first..first + weights.len()];
                    let products = pixels.iter().zip(weights).map(|(&p, w)| i32::from(p) * w);
                    *wide = round(products.sum());
                }
            }
            for ((first, weights), resized) in self.rows.iter().zip(resized.chunks_exact_mut(to)) {
                sums.fill(0);
                for (row, weight) in wide.chunks_exact(to).skip(first - self.used.start).zip(weights) {
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

/// The square in the center of an image as planes, (3, side, side): torchvision's `Resize(side)` and `CenterCrop(side)`.
///
/// `rgb` holds (height, width, 3) bytes.
///
/// # Panics
/// If `rgb` has the wrong length, or a size is 0.
pub fn center_square(rgb: &[u8], width: usize, height: usize, side: usize) -> Vec<u8> {
    let mut planes = Vec::with_capacity(rgb.len());
    push_planes(rgb.chunks_exact(CHANNELS * width), &mut planes);
    let mut square = vec![0; CHANNELS * side * side];
    Resizer::center(width, height, side).resize(&planes, &mut square);
    square
}

/// Appends the pixels of `rows`, which hold interleaved RGB bytes, as a red, a green and a blue plane.
pub fn push_planes<'a>(rows: impl Iterator<Item = &'a [u8]> + Clone, planes: &mut Vec<u8>) {
    for channel in 0..CHANNELS {
        for row in rows.clone() {
            planes.extend(row.iter().skip(channel).step_by(CHANNELS));
        }
    }
}

fn round(sum: i32) -> u8 {
    ((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests;
