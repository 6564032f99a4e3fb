//! The steps of an augmentation, and how they are written.

use std::collections::BTreeMap;
use std::fmt;
use std::iter;

use rand_chacha::ChaCha8Rng;
use serde::de::value::{MapAccessDeserializer, MapDeserializer};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::PADDING;
use super::canvas::Canvas;
use super::geometry;
use super::rand_augment::RandAugment;
use super::rectangle::{RandomErasing, ResizedCrop};
use crate::loader::random::{below, normal};
use crate::split::CHANNELS;

/// One step of an [`Augmentation`](super::Augmentation), written `"flip"` or, with options, `{ crop = { padding = 4 } }`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", remote = "Self", deny_unknown_fields)]
#[non_exhaustive]
pub enum Step {
    /// A random crop of the image padded by black pixels.
    Crop(Crop),
    /// A horizontal flip with probability ½.
    Flip {},
    /// A vertical flip with probability ½.
    VerticalFlip {},
    /// A random part of the image, resized to its full size.
    ResizedCrop(ResizedCrop),
    /// Gaussian noise on every byte.
    Noise(Noise),
    /// A few random operations, such as rotations and changes of color.
    RandAugment(RandAugment),
    /// A random rectangle that is replaced by the mean color.
    RandomErasing(RandomErasing),
}

/// Options of [`Step::Crop`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Crop {
    /// Width in pixels of the black border that crops may reach into.
    pub padding: usize,
}

impl Default for Crop {
    fn default() -> Self {
        Self { padding: PADDING }
    }
}

/// Options of [`Step::Noise`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Noise {
    /// Standard deviation, with images in [0, 1].
    pub sd: f64,
}

impl Default for Noise {
    fn default() -> Self {
        Self { sd: 0.1 }
    }
}

impl Step {
    /// Applies the step. `mean` is the color that becomes 0 by normalisation.
    pub(crate) fn apply(&self, canvas: &mut Canvas, generator: &mut ChaCha8Rng, mean: [u8; CHANNELS]) {
        match self {
            Self::Crop(Crop { padding }) => {
                let offsets = 2 * *padding as u32 + 1;
                let (top, left) = (below(generator, offsets), below(generator, offsets));
                geometry::crop(canvas, *padding, top as usize, left as usize);
            }
            Self::Flip {} => {
                if below(generator, 2) == 1 {
                    geometry::flip(canvas);
                }
            }
            Self::VerticalFlip {} => {
                if below(generator, 2) == 1 {
                    geometry::flip_vertically(canvas);
                }
            }
            Self::ResizedCrop(options) => options.apply(canvas, generator),
            Self::Noise(Noise { sd }) => {
                let noisy = |pixel: &mut u8| {
                    // The conversion saturates.
                    *pixel = (f64::from(*pixel) + 255. * sd * normal(generator)).round_ties_even() as u8;
                };
                canvas.pixels_mut().iter_mut().for_each(noisy);
            }
            Self::RandAugment(options) => options.apply(canvas, generator),
            Self::RandomErasing(options) => options.apply(canvas, generator, mean),
        }
    }

    /// What is wrong with the options: the name of one, what was found, and what is expected.
    pub(crate) fn fault(&self) -> Option<(&'static str, String, &'static str)> {
        let share = |range: [f64; 2]| 0. < range[0] && range[0] <= range[1] && range[1] <= 1.;
        let ratio = |range: [f64; 2]| 0.01 <= range[0] && range[0] <= range[1] && range[1] <= 100.;
        let fault = |holds: bool, option, found: &dyn fmt::Debug, expected| {
            (!holds).then(|| (option, format!("{found:?}"), expected))
        };
        let shares = "two numbers above 0 and up to 1, the smaller one first";
        let ratios = "two numbers from 0.01 to 100, the smaller one first";
        match self {
            Self::Flip {} | Self::VerticalFlip {} => None,
            Self::Crop(Crop { padding }) => {
                fault((1..=1024).contains(padding), "crop.padding", padding, "1 to 1024 pixels")
            }
            Self::Noise(Noise { sd }) => fault(*sd > 0. && *sd <= 1., "noise.sd", sd, "a number above 0 and up to 1"),
            Self::ResizedCrop(options) => fault(share(options.scale), "resized_crop.scale", &options.scale, shares)
                .or_else(|| fault(ratio(options.ratio), "resized_crop.ratio", &options.ratio, ratios)),
            Self::RandAugment(options) => {
                let RandAugment { operations, magnitude, bins } = options;
                fault((1..=14).contains(operations), "rand_augment.operations", operations, "1 to 14")
                    .or_else(|| fault((2..=1000).contains(bins), "rand_augment.bins", bins, "2 to 1000"))
                    .or_else(|| fault(magnitude < bins, "rand_augment.magnitude", magnitude, "less than `bins`"))
            }
            Self::RandomErasing(options) => {
                let probability = options.probability;
                fault((0. ..=1.).contains(&probability), "random_erasing.probability", &probability, "0 to 1")
                    .or_else(|| fault(share(options.scale), "random_erasing.scale", &options.scale, shares))
                    .or_else(|| fault(ratio(options.ratio), "random_erasing.ratio", &options.ratio, ratios))
            }
        }
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StepVisitor)
    }
}

/// Reads the name of a step, or a table with one.
struct StepVisitor;

impl<'de> Visitor<'de> for StepVisitor {
    type Value = Step;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a step such as \"flip\" or { crop = { padding = 4 } }")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Step, E> {
        let without_options = iter::once((name, BTreeMap::<&str, ()>::new()));
        Step::deserialize(MapAccessDeserializer::new(MapDeserializer::new(without_options)))
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Step, A::Error> {
        Step::deserialize(MapAccessDeserializer::new(table))
    }
}
