//! The table `[model]` of a VGG.

use crate::Result;
use crate::error::{at_least_one, dropout, ensure, gain};
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The table `[model]` of a VGG. The default is VGG-11 for 32×32 images of 10 classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VggConfig {
    /// Layers and poolings in order, as in torchvision.
    pub features: Vec<Feature>,
    /// What turns the last feature map into logits.
    pub head: VggHead,
    /// Width of the two hidden layers of the `mlp` head.
    pub hidden: usize,
    /// Number of classes.
    pub classes: usize,
    /// Height and width of the images.
    pub image: usize,
    /// Dropout after the first two linear layers of the `mlp` head.
    pub dropout: f64,
    /// Factor on the initial values of the last layer; with a small one, training starts at chance level.
    pub head_gain: f64,
}

impl Default for VggConfig {
    fn default() -> Self {
        use Feature::{Layer, Pool};
        let features = vec![
            Layer(64),
            Pool,
            Layer(128),
            Pool,
            Layer(256),
            Layer(256),
            Pool,
            Layer(512),
            Layer(512),
            Pool,
            Layer(512),
            Layer(512),
            Pool,
        ];
        Self { features, head: VggHead::Mlp, hidden: 4096, classes: 10, image: 32, dropout: 0.5, head_gain: 1.0 }
    }
}

/// One entry of `features`: a number of output channels, or `"M"`, as in torchvision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// A layer with this many output channels, batch norm and ReLU.
    Layer(usize),
    /// 2×2 max-pooling.
    Pool,
}

impl VggConfig {
    /// Checks the options of the model itself; those of its layers are checked when they are built.
    pub(super) fn check(&self) -> Result<()> {
        at_least_one("model.classes", self.classes)?;
        at_least_one("model.image", self.image)?;
        dropout("model.dropout", self.dropout)?;
        gain("model.head_gain", self.head_gain)?;
        if self.head == VggHead::Mlp {
            at_least_one("model.hidden", self.hidden)?;
        }
        let mut widths = self.features.iter().filter_map(|feature| match feature {
            Feature::Layer(width) => Some(*width),
            Feature::Pool => None,
        });
        match widths.next() {
            Some(first) => std::iter::once(first).chain(widths).try_for_each(|n| at_least_one("model.features", n)),
            None => ensure(false, "model.features", "a list without layers", "at least one number of channels"),
        }
    }
}

impl Serialize for Feature {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Layer(width) => serializer.serialize_u64(*width as u64),
            Self::Pool => serializer.serialize_str("M"),
        }
    }
}

impl<'de> Deserialize<'de> for Feature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Entry;
        impl Visitor<'_> for Entry {
            type Value = Feature;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a number of channels, or \"M\" for a max-pool")
            }

            fn visit_u64<E: de::Error>(self, width: u64) -> std::result::Result<Feature, E> {
                let wrong = |_| E::invalid_value(Unexpected::Unsigned(width), &self);
                usize::try_from(width).map(Feature::Layer).map_err(wrong)
            }

            fn visit_i64<E: de::Error>(self, width: i64) -> std::result::Result<Feature, E> {
                let wrong = |_| E::invalid_value(Unexpected::Signed(width), &self);
                usize::try_from(width).map(Feature::Layer).map_err(wrong)
            }

            fn visit_str<E: de::Error>(self, mark: &str) -> std::result::Result<Feature, E> {
                match mark {
                    "M" => Ok(Feature::Pool),
                    _ => Err(E::invalid_value(Unexpected::Str(mark), &self)),
                }
            }
        }
        deserializer.deserialize_any(Entry)
    }
}

/// What turns the last feature map of a VGG into logits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum VggHead {
    /// Adaptive average pool to 7×7, then three linear layers with ReLU and dropout between: `classifier.{0,3,6}`.
    #[default]
    Mlp,
    /// Global average pool, then one linear layer: `classifier`.
    Linear,
}
