//! Models: a network and its configuration, whatever the architecture.
//!
//! The configuration of a model is two tables, `[model]` and `[layer]`:
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
//! Every key but `architecture` and `kind` has a default, so a table lists only what it changes; a serialized
//! configuration lists everything.

use crate::error::ensure;
use crate::layer::LayerConfig;
use crate::mixer::MixerConfig;
use crate::network::{Architecture, Network, Observe};
use crate::vgg::VggConfig;
use crate::vit::VitConfig;
use crate::{LayerSummary, Memory, Result, limits, shapes};
use candle_core::Tensor;
use candle_nn::{Module, VarBuilder};
use convnn_core::{Error, Pass};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Defines [`ModelConfig`]: one variant per architecture, with the types of its tables `[model]` and `[layer]`.
macro_rules! architectures {
    ($($(#[$doc:meta])* $name:literal => $variant:ident { model: $model:ty, layer: $layer:ty },)+) => {
        /// The configuration of a model: the architecture, and the layer under test.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum ModelConfig {
            $($(#[$doc])* $variant {
                /// The table `[model]`.
                model: $model,
                /// The table `[layer]`.
                layer: $layer,
            },)+
        }

        /// The table `[model]`, which tells what `[layer]` may be.
        #[derive(Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(tag = "architecture")]
        enum ModelTable {
            $($(#[$doc])* #[serde(rename = $name)] $variant($model),)+
        }

        impl ModelConfig {
            /// Every architecture.
            pub const ARCHITECTURES: &'static [&'static str] = &[$($name),+];

            /// The name of the architecture in prose.
            pub const fn title(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => <$model as Architecture>::TITLE,)+
                }
            }

            /// Number of classes.
            pub const fn classes(&self) -> usize {
                match self {
                    $(Self::$variant { model, .. } => model.classes,)+
                }
            }

            /// Changes the number of classes, and so the last layer.
            pub const fn set_classes(&mut self, classes: usize) {
                match self {
                    $(Self::$variant { model, .. } => model.classes = classes,)+
                }
            }

            /// Height and width of the images.
            pub const fn image_size(&self) -> usize {
                match self {
                    $(Self::$variant { model, .. } => model.image,)+
                }
            }

            /// The kind of the layer under test, such as `branching_2d`.
            pub const fn layer_kind(&self) -> &'static str {
                match self {
                    $(Self::$variant { layer, .. } => layer.kind(),)+
                }
            }

            /// Floating-point operations of the forward pass of one image, counted from the configuration.
            ///
            /// A multiply-add is 2 operations. All products of matrices count: linear layers, convolutions,
            /// aggregations, similarities and attention. For a Vision Transformer, the extra terms of the published
            /// counter are included, 1 operation per element: residuals, the addition of positions, the modulation
            /// of neighbors, and scaling, masking and rotation in the baselines. Biases, norms, activations, pooling,
            /// softmax and the search for the K largest scores do not count. Work that the models skip does: the
            /// repeated pool of a VGG, and the last MLP of a Vision Transformer for all tokens but the class token.
            ///
            /// The published figures lack 1-D and "same" convolutions; with those added they agree.
            ///
            /// Fails as [`Model::new`] does.
            pub fn flops(&self) -> Result<u64> {
                Ok(self.rows()?.iter().map(|row| row.flops).sum())
            }

            fn rows(&self) -> Result<Vec<LayerSummary>> {
                match self {
                    $(Self::$variant { model, layer } => model.layers(layer),)+
                }
            }

            fn build(&self, vb: VarBuilder) -> Result<Arc<dyn Network>> {
                match self {
                    $(Self::$variant { model, layer } => model.build(layer, vb),)+
                }
            }

            /// Constants that the model computes itself but PyTorch stores with the parameters.
            pub(crate) fn buffers(&self) -> Result<Vec<(&'static str, Tensor)>> {
                match self {
                    $(Self::$variant { model, .. } => model.buffers(),)+
                }
            }

            /// The kinds of `[layer]` that an architecture accepts; empty for an unknown architecture.
            pub(crate) fn kinds(architecture: &str) -> &'static [&'static str] {
                match architecture {
                    $($name => <$layer>::KINDS,)+
                    _ => &[],
                }
            }

            /// The schemas of the tables `[layer]`.
            #[cfg(feature = "schema")]
            fn layer_schemas(generator: &mut schemars::SchemaGenerator) -> Vec<schemars::Schema> {
                vec![$(generator.subschema_for::<$layer>()),+]
            }

            fn to_tables(&self) -> serde_json::Result<Tables> {
                Ok(match self {
                    $(Self::$variant { model, layer } => Tables {
                        model: ModelTable::$variant(model.clone()),
                        layer: serde_json::to_value(layer)?,
                    },)+
                })
            }

            fn from_tables(Tables { model, layer }: Tables) -> serde_json::Result<Self> {
                Ok(match model {
                    $(ModelTable::$variant(model) => Self::$variant { model, layer: serde_json::from_value(layer)? },)+
                })
            }
        }
    };
}

architectures! {
    /// VGG with a 2-D layer in place of each convolution.
    "vgg" => Vgg { model: VggConfig, layer: LayerConfig },
    /// A Vision Transformer with a token mixer in place of each attention.
    "vit" => Vit { model: VitConfig, layer: MixerConfig },
}

impl ModelConfig {
    /// Checks the whole configuration, including that every layer has as many candidates as it has neighbors, and that
    /// an image takes at most 1000 GFLOPs.
    ///
    /// This builds the model with parameters that take no memory.
    pub fn check(&self) -> Result<()> {
        self.shapes()?;
        let flops = self.flops()?;
        let expected = format!("at most {} GFLOPs per image", limits::FLOPS / 1_000_000_000);
        let found = format!("{}, which makes {:.1} GFLOPs per image", self.image_size(), flops as f64 / 1e9);
        ensure(flops <= limits::FLOPS, "model.image", found, &expected)
    }

    /// Name and shape of every parameter and running statistic, sorted by name.
    ///
    /// Fails as [`Model::new`] does.
    pub fn shapes(&self) -> Result<BTreeMap<String, Vec<usize>>> {
        Ok(shapes::record(|vb| self.build(vb))?.1)
    }

    /// Number of trainable values.
    ///
    /// Fails as [`Model::new`] does.
    pub fn parameter_count(&self) -> Result<usize> {
        Ok(trainable(&self.shapes()?).map(|(_, values)| values).sum())
    }

    /// The layers and what lies between them, from the images to the logits, with their costs.
    ///
    /// Operations and parameters add up to [`Self::flops`] and [`Self::parameter_count`]. Fails as [`Model::new`] does.
    pub fn layers(&self) -> Result<Vec<LayerSummary>> {
        let (mut rows, shapes) = (self.rows()?, self.shapes()?);
        for (name, values) in trainable(&shapes) {
            // The longest prefix wins; the dot keeps `features.1` from matching `features.10`.
            let holds = |row: &&mut LayerSummary| {
                name.strip_prefix(row.name.as_str()).is_some_and(|rest| rest.starts_with('.'))
            };
            if let Some(row) = rows.iter_mut().filter(holds).max_by_key(|row| row.name.len()) {
                row.parameters += values;
            }
        }
        Ok(rows)
    }

    /// What the memory of training depends on.
    ///
    /// Fails as [`Model::new`] does.
    pub fn memory(&self) -> Result<Memory> {
        Ok(Memory::new(&self.shapes()?, &self.rows()?, self.image_size()))
    }
}

impl ModelConfig {
    /// The table `[model]` of an architecture with its defaults, as JSON.
    pub(crate) fn model_defaults(architecture: &str) -> serde_json::Result<serde_json::Value> {
        let table: ModelTable = serde_json::from_value(serde_json::json!({ "architecture": architecture }))?;
        serde_json::to_value(table)
    }
}

/// The schema of the two tables `[model]` and `[layer]`, which are told apart by `architecture` and `kind`.
#[cfg(feature = "schema")]
impl schemars::JsonSchema for ModelConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ModelConfig".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let (model, layers) = (generator.subschema_for::<ModelTable>(), Self::layer_schemas(generator));
        schemars::json_schema!({
            "type": "object",
            "properties": { "model": model, "layer": { "anyOf": layers } },
        })
    }
}

/// Name and number of values of each trainable parameter.
fn trainable(shapes: &BTreeMap<String, Vec<usize>>) -> impl Iterator<Item = (&str, usize)> {
    let trained = shapes.iter().filter(|(name, _)| !convnn_core::is_running_statistic(name));
    trained.map(|(name, shape)| (name.as_str(), shape.iter().product()))
}

/// Both tables as they are written. Which layers `[layer]` may hold depends on `[model]`, so it is read second.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    model: ModelTable,
    layer: serde_json::Value,
}

impl Serialize for ModelConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.to_tables().map_err(S::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ModelConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Self::from_tables(Tables::deserialize(deserializer)?).map_err(|e| D::Error::custom(format!("[layer]: {e}")))
    }
}

/// An image classifier.
///
/// As a [`Module`] it is in evaluation; training uses [`Self::forward_t`].
#[derive(Clone, Debug)]
pub struct Model {
    network: Arc<dyn Network>,
    image: usize,
}

impl Model {
    /// Builds the model that `config` describes, taking parameters from `vb`.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) and [`Error::Option`] for an option out of its range,
    /// [`Error::NeighborsExceedCandidates`], and those of `vb`.
    pub fn new(config: &ModelConfig, vb: VarBuilder) -> Result<Self> {
        Ok(Self { network: config.build(vb)?, image: config.image_size() })
    }

    /// The network.
    pub fn network(&self) -> &dyn Network {
        &*self.network
    }

    /// Images (B, 3, S, S) to logits (B, classes), with gradients to the images and every parameter.
    ///
    /// # Errors
    /// [`Error::Shape`] if the images are of another size than the model's, and those of the layers.
    pub fn forward_t(&self, images: &Tensor, pass: &Pass) -> convnn_core::Result<Tensor> {
        self.check(images)?;
        self.network.forward_t(images, pass)
    }

    /// [`Self::forward_t`] in evaluation, calling `observe` with each layer under test before it computes.
    ///
    /// ```
    /// # fn main() -> convnn_models::Result<()> {
    /// use candle_core::{DType, Device, Tensor};
    /// use convnn_core::{Parameters, Streams};
    /// use convnn_models::{Model, preset};
    ///
    /// let config = preset("vgg11_compact").unwrap().config();
    /// let parameters = Parameters::new(&Streams::new(42), DType::F32, &Device::Cpu);
    /// let model = Model::new(&config, parameters.builder())?;
    /// let images = Tensor::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
    /// let mut shapes = Vec::new();
    /// model.forward_observed(&images, &mut |layer| {
    ///     let neighbors = layer.neighbors()?.expect("every layer has a ConvNN branch");
    ///     shapes.push(neighbors.index().dims().to_vec());
    ///     Ok(())
    /// })?;
    /// assert_eq!(shapes[..2], [[1, 1024, 9], [1, 256, 9]]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`Self::forward_t`] and of `observe`.
    pub fn forward_observed(&self, images: &Tensor, observe: Observe<'_>) -> convnn_core::Result<Tensor> {
        self.check(images)?;
        self.network.classify(&self.network.features(images, &Pass::evaluation(), observe)?)
    }

    /// Images (B, 3, S, S) to the features (B, C) that the last linear layer sees, in evaluation.
    ///
    /// # Errors
    /// Those of [`Self::forward_t`].
    pub fn features(&self, images: &Tensor) -> convnn_core::Result<Tensor> {
        self.check(images)?;
        self.network.features(images, &Pass::evaluation(), &mut |_| Ok(()))
    }

    fn check(&self, images: &Tensor) -> convnn_core::Result<()> {
        let side = self.image;
        if images.rank() != 4 || images.dims()[1..] != [3, side, side] {
            let (found, expected) = (images.dims().to_vec(), format!("(B, 3, {side}, {side})"));
            return Err(Error::Shape { op: "model", tensor: "images", found, expected });
        }
        Ok(())
    }

    /// The model with a ConvNN layer in place of each convolution and each multi-head or KVT attention.
    ///
    /// Both models compute the same function (in evaluation: attention loses its dropout) over the same tensors, so
    /// gradients reach the same parameters. Layers of other kinds stay. Fails if the kernel of a convolution is even.
    pub fn to_conv_nn(&self) -> convnn_core::Result<Self> {
        Ok(Self { network: self.network.to_conv_nn()?, image: self.image })
    }
}

impl Module for Model {
    /// Images (B, 3, S, S) to logits (B, classes), in evaluation.
    fn forward(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        Ok(self.forward_t(images, &Pass::evaluation())?)
    }
}
