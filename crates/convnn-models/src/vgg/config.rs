//! The table `[model]` of a VGG.

use crate::Result;
use crate::error::{dropout, ensure, gain, within};
use crate::limits;
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The table `[model]` of a VGG. The default is VGG-11 for 32×32 images of 10 classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct VggConfig {
    /// Layers and poolings in order, as in torchvision.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = limits::LAYERS)))]
    pub features: Vec<Feature>,
    /// What turns the last feature map into logits.
    pub head: VggHead,
    /// Width of the two hidden layers of the `mlp` head.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = limits::HIDDEN)))]
    pub hidden: usize,
    /// Number of classes.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = limits::CLASSES)))]
    pub classes: usize,
    /// Height and width of the images.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = limits::IMAGE)))]
    pub image: usize,
    /// Dropout after the first two linear layers of the `mlp` head.
    #[cfg_attr(feature = "schema", schemars(extend("minimum" = 0.0, "exclusiveMaximum" = 1.0)))]
    pub dropout: f64,
    /// Factor on the initial values of the last layer; with a small one, training starts at chance level.
    #[cfg_attr(feature = "schema", schemars(extend("exclusiveMinimum" = 0.0, "maximum" = limits::GAIN)))]
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
        within("model.classes", self.classes, 1, limits::CLASSES)?;
        within("model.image", self.image, 1, limits::IMAGE)?;
        dropout("model.dropout", self.dropout)?;
        gain("model.head_gain", self.head_gain)?;
        if self.head == VggHead::Mlp {
            within("model.hidden", self.hidden, 1, limits::HIDDEN)?;
        }
        let entries = format!("a list of 1 to {} entries", limits::LAYERS);
        let found = format!("a list of {}", self.features.len());
        ensure((1..=limits::LAYERS).contains(&self.features.len()), "model.features", found, &entries)?;
        let mut widths = self.features.iter().filter_map(|feature| match feature {
            Feature::Layer(width) => Some(*width),
            Feature::Pool => None,
        });
        let channels = format!("numbers of channels from 1 to {}, and \"M\"", limits::WIDTH);
        let out_of_range = |width: &usize| !(1..=limits::WIDTH).contains(width);
        if let Some(width) = widths.clone().find(out_of_range) {
            return ensure(false, "model.features", format!("a list with {width}"), &channels);
        }
        ensure(widths.next().is_some(), "model.features", "a list without layers", "at least one number of channels")
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Feature {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Feature".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A number of output channels, or \"M\" for 2×2 max-pooling.",
            "oneOf": [
                { "type": "integer", "minimum": 1, "maximum": limits::WIDTH },
                { "type": "string", "const": "M" },
            ],
        })
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum VggHead {
    /// Adaptive average pool to 7×7, then three linear layers with ReLU and dropout between: `classifier.{0,3,6}`.
    #[default]
    Mlp,
    /// Global average pool, then one linear layer: `classifier`.
    Linear,
}
