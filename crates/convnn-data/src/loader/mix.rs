//! Mixup (Zhang et al., 2018) and CutMix (Yun et al., 2019): every image of a batch is mixed with the one before it.

use rand_chacha::ChaCha8Rng;

use super::random::{below, beta, unit};
use crate::error::{Error, Result};
use crate::split::CHANNELS;

/// How the images of a batch are mixed, and their labels with them.
///
/// As with torchvision's `MixUp` and `CutMix`, a batch draws one share λ from the beta distribution with both parameters α, and
/// each image is mixed with the image before it (the first with the last). If both are on, a batch uses one of them, with
/// probability ½.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Mix {
    /// α of mixup, which averages images: λ·x + (1 − λ)·x'. 0 is off.
    pub mixup: f64,
    /// α of CutMix, which copies a rectangle of 1 − λ of the area from the other image. 0 is off.
    pub cutmix: f64,
}

/// The largest α; from about here on, λ is always ½.
const LARGEST_ALPHA: f64 = 1000.;

impl Mix {
    /// Whether batches are mixed at all.
    pub fn is_on(&self) -> bool {
        self.mixup > 0. || self.cutmix > 0.
    }

    /// Checks that both numbers are from 0 to 1,000.
    ///
    /// # Errors
    /// [`Error::Mix`] for the first that is not.
    pub fn check(&self) -> Result<()> {
        let wrong = |alpha: f64| !(0. ..=LARGEST_ALPHA).contains(&alpha);
        let all = [("mixup", self.mixup), ("cutmix", self.cutmix)];
        match all.into_iter().find(|(_, alpha)| wrong(*alpha)) {
            None => Ok(()),
            Some((option, found)) => Err(Error::Mix { option, found, max: LARGEST_ALPHA }),
        }
    }

    /// Mixes normalised images, (B, 3, side, side), and returns their targets, (B, classes).
    pub(super) fn apply(
        &self,
        images: &mut [f32],
        side: usize,
        labels: &[u32],
        classes: usize,
        generator: &mut ChaCha8Rng,
    ) -> Vec<f32> {
        let cut = match (self.mixup > 0., self.cutmix > 0.) {
            (true, true) => below(generator, 2) == 1,
            (_, cutmix) => cutmix,
        };
        let own = if cut {
            let own = beta(generator, self.cutmix);
            let rectangle = Rectangle::draw(generator, own, side);
            with_previous(images, CHANNELS * side * side, |image, previous| rectangle.copy(image, previous));
            rectangle.own_share()
        } else {
            let own = beta(generator, self.mixup) as f32;
            with_previous(images, CHANNELS * side * side, |image, previous| {
                image.iter_mut().zip(previous).for_each(|(x, other)| *x = own * *x + (1. - own) * other);
            });
            own
        };
        let mut targets = vec![0.; labels.len() * classes];
        for (row, target) in targets.chunks_exact_mut(classes).enumerate() {
            let previous = (row + labels.len() - 1) % labels.len();
            target[labels[row] as usize] += own;
            target[labels[previous] as usize] += 1. - own;
        }
        targets
    }
}

/// Calls `mix` with every image and the original of the one before it; before the first comes the last.
fn with_previous(images: &mut [f32], len: usize, mut mix: impl FnMut(&mut [f32], &[f32])) {
    let Some(last) = images.chunks_exact(len).next_back() else { return };
    let mut previous = last.to_vec();
    for image in images.chunks_exact_mut(len) {
        let original = image.to_vec();
        mix(image, &previous);
        previous = original;
    }
}

/// The part of a square image that CutMix replaces.
struct Rectangle {
    side: usize,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
}

impl Rectangle {
    /// A rectangle of 1 − `own` of the area around a random center, cut off at the border.
    fn draw(generator: &mut ChaCha8Rng, own: f64, side: usize) -> Self {
        let half = (0.5 * (1. - own).sqrt() * side as f64) as usize;
        let mut range = || {
            let center = (unit(generator) * side as f64) as usize;
            center.saturating_sub(half)..(center + half).min(side)
        };
        Self { side, columns: range(), rows: range() }
    }

    fn copy(&self, image: &mut [f32], other: &[f32]) {
        let plane = self.side * self.side;
        for (to, from) in image.chunks_exact_mut(plane).zip(other.chunks_exact(plane)) {
            for row in self.rows.clone() {
                let row = row * self.side + self.columns.start..row * self.side + self.columns.end;
                to[row.clone()].copy_from_slice(&from[row]);
            }
        }
    }

    /// The share of the area that stays.
    fn own_share(&self) -> f32 {
        1. - (self.rows.len() * self.columns.len()) as f32 / (self.side * self.side) as f32
    }
}
