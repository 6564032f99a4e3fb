//! Augmentation of training images.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::random::below;
use crate::split::{CHANNELS, IMAGE, SIDE};

/// Width in pixels of the black border that crops may reach into.
pub const PADDING: usize = 4;

/// Random changes to training images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Augmentation {
    /// None, as in the paper's runs on CIFAR.
    #[default]
    None,
    /// A random 32×32 crop of the image padded by 4 black pixels, then a horizontal flip with probability ½.
    CropFlip,
}

/// Where to crop and whether to flip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Draw {
    /// First row of the crop in the padded image, 0 to 2·[`PADDING`].
    top: usize,
    /// First column.
    left: usize,
    flip: bool,
}

impl Draw {
    pub(crate) fn new(generator: &mut ChaCha8Rng) -> Self {
        let offsets = 2 * PADDING as u32 + 1;
        Self {
            top: below(generator, offsets) as usize,
            left: below(generator, offsets) as usize,
            flip: below(generator, 2) == 1,
        }
    }

    /// Writes the augmented image; both are (3, 32, 32).
    pub(crate) fn apply(self, image: &[u8], augmented: &mut [u8; IMAGE]) {
        augmented.fill(0);
        // Columns of the image inside the crop, and the first column of the crop that shows them.
        let columns = self.left.saturating_sub(PADDING)..(SIDE + self.left - PADDING).min(SIDE);
        let shown = columns.start + PADDING - self.left;
        for channel in 0..CHANNELS {
            for row in 0..SIDE {
                let source_row = row + self.top;
                if !(PADDING..PADDING + SIDE).contains(&source_row) {
                    continue;
                }
                let source = (channel * SIDE + source_row - PADDING) * SIDE;
                let target = (channel * SIDE + row) * SIDE;
                let target = &mut augmented[target..target + SIDE];
                target[shown..shown + columns.len()]
                    .copy_from_slice(&image[source + columns.start..source + columns.end]);
                if self.flip {
                    target.reverse();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    /// An image without zeros, whose neighboring pixels all differ.
    fn image() -> Vec<u8> {
        (0..IMAGE).map(|i| (i * 7 % 251 + 1) as u8).collect()
    }

    #[test]
    fn a_centred_crop_is_the_image() {
        let mut augmented = [0; IMAGE];
        let draw = Draw { top: PADDING, left: PADDING, flip: false };
        draw.apply(&image(), &mut augmented);
        assert_eq!(augmented[..], image()[..]);
    }

    #[test]
    fn crops_and_flips_match_the_padded_image() {
        let image = image();
        let padded = |channel: usize, row: usize, column: usize| {
            let inside = |i: usize| (PADDING..PADDING + SIDE).contains(&i);
            if inside(row) && inside(column) {
                image[(channel * SIDE + row - PADDING) * SIDE + column - PADDING]
            } else {
                0
            }
        };
        for (top, left, flip) in (0..=2 * PADDING)
            .flat_map(|top| (0..=2 * PADDING).map(move |left| (top, left)))
            .flat_map(|(top, left)| [(top, left, false), (top, left, true)])
        {
            let mut augmented = [9; IMAGE];
            Draw { top, left, flip }.apply(&image, &mut augmented);
            for (i, &pixel) in augmented.iter().enumerate() {
                let (channel, row, column) = (i / SIDE / SIDE, i / SIDE % SIDE, i % SIDE);
                let column = if flip { SIDE - 1 - column } else { column };
                assert_eq!(
                    pixel,
                    padded(channel, row + top, column + left),
                    "top {top}, left {left}, flip {flip}, element {i}"
                );
            }
        }
    }

    #[test]
    fn all_offsets_and_both_directions_are_drawn() {
        let mut generator = ChaCha8Rng::seed_from_u64(4);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..5_000 {
            let draw = Draw::new(&mut generator);
            seen.insert((draw.top, draw.left, draw.flip));
        }
        assert_eq!(seen.len(), 9 * 9 * 2);
    }
}
