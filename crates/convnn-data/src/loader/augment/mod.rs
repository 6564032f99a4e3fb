//! Augmentation of training images: a list of steps.
//!
//! The steps work on bytes, before resizing and normalisation, and draw from the stream of their image alone.

mod canvas;
mod color;
mod geometry;
mod rand_augment;
mod rectangle;
mod step;
#[cfg(test)]
mod tests;

use std::fmt;

use rand_chacha::ChaCha8Rng;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) use canvas::Canvas;
pub use rand_augment::RandAugment;
pub use rectangle::{RandomErasing, ResizedCrop};
pub use step::{Crop, Noise, Step};

use crate::error::{Error, Result};
use crate::split::CHANNELS;

/// Width in pixels of the black border that the crops of [`Augmentation::CropFlip`] may reach into.
pub const PADDING: usize = 4;

/// The largest number of steps.
const MOST_STEPS: usize = 16;

/// Random changes to training images, written `"none"`, `"crop_flip"`, or as a list of steps:
///
/// ```toml
/// augmentation = [{ crop = { padding = 4 } }, "flip", "rand_augment", { random_erasing = { probability = 0.25 } }]
/// ```
///
/// | step | options and defaults | as in torchvision |
/// |---|---|---|
/// | `crop` | `padding = 4` | `RandomCrop(side, padding)` |
/// | `flip`, `vertical_flip` | | `RandomHorizontalFlip`, `RandomVerticalFlip` |
/// | `resized_crop` | `scale = [0.08, 1.0]`, `ratio = [0.75, 1.333…]` | `RandomResizedCrop(side)` |
/// | `noise` | `sd = 0.1` | `v2.GaussianNoise`, rounded to bytes |
/// | `rand_augment` | `operations = 2`, `magnitude = 9`, `bins = 31` | `RandAugment` on a PIL image |
/// | `random_erasing` | `probability = 0.5`, `scale = [0.02, 0.33]`, `ratio = [0.3, 3.3]` | `RandomErasing` after `Normalize` |
///
/// The operations are bit-identical to torchvision's on PIL images; the random numbers are not.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub enum Augmentation {
    /// None, as in the paper's runs on CIFAR.
    #[default]
    None,
    /// The steps `crop` and `flip`.
    CropFlip,
    /// These steps, one after the other.
    Steps(Vec<Step>),
}

impl Augmentation {
    /// The steps, one after the other.
    pub fn steps(&self) -> &[Step] {
        match self {
            Self::None => &[],
            Self::CropFlip => &[Step::Crop(Crop { padding: PADDING }), Step::Flip {}],
            Self::Steps(steps) => steps,
        }
    }

    /// Checks the options of every step.
    ///
    /// # Errors
    /// [`Error::Augmentation`] for the first option out of range, or more than 16 steps.
    pub fn check(&self) -> Result<()> {
        if self.steps().len() > MOST_STEPS {
            let (option, expected) = ("the number of steps".to_owned(), format!("at most {MOST_STEPS}"));
            return Err(Error::Augmentation { option, found: self.steps().len().to_string(), expected });
        }
        match self.steps().iter().find_map(Step::fault) {
            None => Ok(()),
            Some((option, found, expected)) => {
                Err(Error::Augmentation { option: option.to_owned(), found, expected: expected.to_owned() })
            }
        }
    }

    /// Applies all steps. `mean` is the color that becomes 0 by normalisation.
    pub(crate) fn apply(&self, canvas: &mut Canvas, generator: &mut ChaCha8Rng, mean: [u8; CHANNELS]) {
        self.steps().iter().for_each(|step| step.apply(canvas, generator, mean));
    }
}

impl Serialize for Augmentation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_str("none"),
            Self::CropFlip => serializer.serialize_str("crop_flip"),
            Self::Steps(steps) => steps.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Augmentation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AugmentationVisitor)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Augmentation {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Augmentation".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "x-words": WORDS,
            "anyOf": [
                { "enum": ["none", "crop_flip"] },
                { "type": "array", "maxItems": MOST_STEPS, "items": { "type": ["string", "object"] } },
            ],
        })
    }
}

/// What an augmentation may be, in words.
const WORDS: &str = "`none`, `crop_flip`, or a list of steps such as [\"crop\", \"flip\", \"rand_augment\"]";

/// Reads a word, or a list of steps.
struct AugmentationVisitor;

impl<'de> Visitor<'de> for AugmentationVisitor {
    type Value = Augmentation;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(WORDS)
    }

    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Augmentation, E> {
        match word {
            "none" => Ok(Augmentation::None),
            "crop_flip" => Ok(Augmentation::CropFlip),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(word), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Augmentation, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(Augmentation::Steps)
    }
}
