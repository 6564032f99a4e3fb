//! The configuration of a model: two tables, `[model]` and `[layer]`.
//!
//! ```toml
//! [model]
//! architecture = "vgg"
//! features = [16, "M", 32, "M", 64, 64, "M", 128, 128, "M", 128, 128, "M"]
//! head = "linear"
//!
//! [layer]
//! kind = "branching_2d"
//! branch_ratio = 0.5
//! ```
//!
//! Every field has a default, so that a table may name only what it changes; a serialised configuration names all.

mod check;
mod fixture;
mod layer;
mod mixer;
mod vgg;
mod vit;

pub use layer::{BranchingConfig, ConvolutionConfig, LayerConfig, NeighborConfig};
pub use mixer::{
    BranchingTokensConfig, KvtAttentionConfig, LocalAttentionConfig, MixerConfig, MultiHeadAttentionConfig,
    NeighborAttentionConfig, OtherBranch, SparseAttentionConfig, SparseMode,
};
pub use vgg::{Feature, VggConfig, VggHead};
pub(crate) use vgg::{Place, Step};
pub use vit::VitConfig;

use crate::{Error, Result};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// A model: the architecture, and the layer under test in each of its places.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ModelConfig {
    /// VGG with a 2-D layer in place of each convolution.
    Vgg {
        /// The table `[model]`.
        model: VggConfig,
        /// The table `[layer]`.
        layer: LayerConfig,
    },
    /// A Vision Transformer with a token mixer in place of each attention.
    Vit {
        /// The table `[model]`.
        model: VitConfig,
        /// The table `[layer]`.
        layer: MixerConfig,
    },
}

impl ModelConfig {
    /// Number of classes.
    pub const fn classes(&self) -> usize {
        match self {
            Self::Vgg { model, .. } => model.classes,
            Self::Vit { model, .. } => model.classes,
        }
    }

    /// Changes the number of classes, and with it the last layer.
    pub const fn set_classes(&mut self, classes: usize) {
        match self {
            Self::Vgg { model, .. } => model.classes = classes,
            Self::Vit { model, .. } => model.classes = classes,
        }
    }

    /// Side of the square images.
    pub const fn image_size(&self) -> usize {
        match self {
            Self::Vgg { model, .. } => model.image,
            Self::Vit { model, .. } => model.image,
        }
    }

    /// The kind of the layer under test, such as `branching_2d`.
    pub const fn layer_kind(&self) -> &'static str {
        match self {
            Self::Vgg { layer, .. } => layer.kind(),
            Self::Vit { layer, .. } => layer.kind(),
        }
    }

    /// The kinds that the table `[layer]` of this architecture takes.
    pub const fn layer_kinds(&self) -> &'static [&'static str] {
        match self {
            Self::Vgg { .. } => &LayerConfig::KINDS,
            Self::Vit { .. } => &MixerConfig::KINDS,
        }
    }

    /// Puts the layer `kind` with its default options in place of the present one.
    ///
    /// # Errors
    /// [`Error::Value`] where the architecture takes no such layer.
    pub fn set_layer_kind(&mut self, kind: &str) -> Result<()> {
        let table = serde_json::json!({ "kind": kind });
        let unknown = |kinds: &[&str]| Error::Value {
            key: "layer.kind",
            found: format!("`{kind}`"),
            expected: format!("one of {}", kinds.join(", ")),
        };
        match self {
            Self::Vgg { layer, .. } if LayerConfig::KINDS.contains(&kind) => {
                *layer = serde_json::from_value(table).map_err(Error::Words)?;
            }
            Self::Vit { layer, .. } if MixerConfig::KINDS.contains(&kind) => {
                *layer = serde_json::from_value(table).map_err(Error::Words)?;
            }
            _ => return Err(unknown(self.layer_kinds())),
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "architecture", rename_all = "snake_case")]
enum Architecture {
    Vgg(VggConfig),
    Vit(VitConfig),
}

/// The two tables as they are written. Which layers `[layer]` may hold depends on `[model]`, so it is read second.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    model: Architecture,
    layer: Value,
}

impl Serialize for ModelConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let (model, layer) = match self {
            Self::Vgg { model, layer } => (Architecture::Vgg(model.clone()), serde_json::to_value(layer)),
            Self::Vit { model, layer } => (Architecture::Vit(model.clone()), serde_json::to_value(layer)),
        };
        Tables { model, layer: layer.map_err(S::Error::custom)? }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ModelConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let Tables { model, layer } = Tables::deserialize(deserializer)?;
        let wrong = |e: serde_json::Error| D::Error::custom(format!("[layer]: {e}"));
        Ok(match model {
            Architecture::Vgg(model) => Self::Vgg { model, layer: serde_json::from_value(layer).map_err(wrong)? },
            Architecture::Vit(model) => Self::Vit { model, layer: serde_json::from_value(layer).map_err(wrong)? },
        })
    }
}
