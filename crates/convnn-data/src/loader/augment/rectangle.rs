//! Random rectangles of a share of the image's area, as torchvision draws them.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::canvas::Canvas;
use super::geometry;
use crate::loader::random::{below, between, unit};
use crate::split::CHANNELS;

/// A random part of the image, resized to its full size (torchvision's `RandomResizedCrop`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResizedCrop {
    /// Smallest and largest share of the area.
    pub scale: [f64; 2],
    /// Smallest and largest ratio of width to height.
    pub ratio: [f64; 2],
}

impl Default for ResizedCrop {
    fn default() -> Self {
        Self { scale: [0.08, 1.], ratio: [3. / 4., 4. / 3.] }
    }
}

/// A random rectangle that is replaced by the mean color of the data set, with which the normalised image is 0
/// (torchvision's `RandomErasing` after `Normalize`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomErasing {
    /// Probability that an image is changed.
    pub probability: f64,
    /// Smallest and largest share of the area.
    pub scale: [f64; 2],
    /// Smallest and largest ratio of height to width.
    pub ratio: [f64; 2],
}

impl Default for RandomErasing {
    fn default() -> Self {
        Self { probability: 0.5, scale: [0.02, 0.33], ratio: [0.3, 3.3] }
    }
}

/// Attempts to draw a rectangle that fits.
const ATTEMPTS: usize = 10;

/// Two sides whose product is a share of `side`² in `scale`, and whose quotient is in `ratio`.
fn draw_sides(generator: &mut ChaCha8Rng, side: usize, scale: [f64; 2], ratio: [f64; 2]) -> (usize, usize) {
    let area = (side * side) as f64 * between(generator, scale);
    let quotient = between(generator, ratio.map(f64::ln)).exp();
    let round = |length: f64| length.round_ties_even() as usize;
    (round((area * quotient).sqrt()), round((area / quotient).sqrt()))
}

fn draw_start(generator: &mut ChaCha8Rng, side: usize, length: usize) -> usize {
    below(generator, (side - length + 1) as u32) as usize
}

impl ResizedCrop {
    pub(crate) fn apply(self, canvas: &mut Canvas, generator: &mut ChaCha8Rng) {
        let side = canvas.side();
        for _ in 0..ATTEMPTS {
            let (width, height) = draw_sides(generator, side, self.scale, self.ratio);
            if (1..=side).contains(&width) && (1..=side).contains(&height) {
                let top = draw_start(generator, side, height);
                let left = draw_start(generator, side, width);
                return geometry::resized_crop(canvas, top, left, height, width);
            }
        }
        // The largest part in the center whose ratio is allowed.
        let cut = |ratio: f64| ((side as f64 * ratio).round_ties_even() as usize).clamp(1, side);
        let (width, height) = (cut(self.ratio[1].min(1.)), cut(1. / self.ratio[0].max(1.)));
        geometry::resized_crop(canvas, (side - height) / 2, (side - width) / 2, height, width);
    }
}

impl RandomErasing {
    pub(crate) fn apply(self, canvas: &mut Canvas, generator: &mut ChaCha8Rng, color: [u8; CHANNELS]) {
        if unit(generator) >= self.probability {
            return;
        }
        let side = canvas.side();
        for _ in 0..ATTEMPTS {
            let (height, width) = draw_sides(generator, side, self.scale, self.ratio);
            if height < side && width < side {
                let top = draw_start(generator, side, height);
                let left = draw_start(generator, side, width);
                for (plane, color) in canvas.planes_mut().zip(color) {
                    for row in plane.chunks_exact_mut(side).skip(top).take(height) {
                        row[left..left + width].fill(color);
                    }
                }
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn an_erased_rectangle_has_the_share_and_ratio_that_were_asked_for() {
        let side = 40;
        let options = RandomErasing { probability: 0.5, scale: [0.1, 0.3], ratio: [0.5, 2.] };
        let (mut erased, mut shares) = (0, Vec::new());
        for seed in 0..2000 {
            let mut canvas = Canvas::new(side);
            canvas.load(&vec![9; CHANNELS * side * side]);
            options.apply(&mut canvas, &mut ChaCha8Rng::seed_from_u64(seed), [1, 2, 3]);
            let hit: Vec<usize> = (0..side * side).filter(|&i| canvas.pixels()[i] == 1).collect();
            let Some((first, last)) = hit.first().zip(hit.last()) else { continue };
            let (height, width) = (last / side - first / side + 1, last % side - first % side + 1);
            assert_eq!(hit.len(), height * width, "a rectangle");
            assert_eq!(canvas.pixels()[2 * side * side + first], 3, "all channels");
            let ratio = height as f64 / width as f64;
            assert!((0.45..2.2).contains(&ratio), "ratio {ratio}");
            erased += 1;
            shares.push(hit.len() as f64 / (side * side) as f64);
        }
        // Six standard deviations of a binomial with n = 2,000 and p = ½ are 134.
        assert!((866..=1134).contains(&erased), "{erased} of 2000");
        assert!(shares.iter().all(|share| (0.09..0.32).contains(share)));
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        assert!((mean - 0.2).abs() < 0.012, "mean share {mean}");
    }

    #[test]
    fn a_resized_crop_of_everything_is_the_image() {
        let side = 16;
        let image: Vec<u8> = (0..CHANNELS * side * side).map(|i| (i * 7 % 251) as u8).collect();
        let mut canvas = Canvas::new(side);
        canvas.load(&image);
        let all = ResizedCrop { scale: [1., 1.], ratio: [1., 1.] };
        all.apply(&mut canvas, &mut ChaCha8Rng::seed_from_u64(1));
        assert_eq!(canvas.pixels(), image);
        // No part is at most as large as the image and twice as wide as high with its whole area: the center is taken.
        let wide = ResizedCrop { scale: [1., 1.], ratio: [2., 2.] };
        wide.apply(&mut canvas, &mut ChaCha8Rng::seed_from_u64(1));
        let mut expected = Canvas::new(side);
        expected.load(&image);
        geometry::resized_crop(&mut expected, 4, 0, 8, 16);
        assert_eq!(canvas.pixels(), expected.pixels());
    }
}
