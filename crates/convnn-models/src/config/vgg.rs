//! The architecture VGG and where its layers stand.

use super::LayerConfig;
use crate::{Error, Result};
use convnn_core::Grid;
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The table `[model]` of a VGG. The default is VGG-11 for 10 classes of 32×32 images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VggConfig {
    /// Layers and poolings in order, as torchvision lists them.
    pub features: Vec<Feature>,
    /// What turns the last map into logits.
    pub head: VggHead,
    /// Width of the two hidden layers of the head `mlp`.
    pub hidden: usize,
    /// Number of classes.
    pub classes: usize,
    /// Side of the square images.
    pub image: usize,
    /// Dropout after the first two linear layers of the head `mlp`.
    pub dropout: f64,
    /// Factor on the initial values of the last layer; a small one lets training start at chance.
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

/// One entry of `features`: a number of output channels, or `"M"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// A layer of so many output channels, batch norm and ReLU.
    Layer(usize),
    /// Max-pool 2×2.
    Pool,
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

/// What turns the last map of a VGG into logits.
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

/// Where one layer of a VGG stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Index in `features` of PyTorch's module list: layer, batch norm and ReLU count one each, as does a pool.
    pub index: usize,
    /// Channels in.
    pub inputs: usize,
    /// Channels out.
    pub outputs: usize,
    /// The map that comes in.
    pub grid: Grid,
    /// The map that goes out, before any pool.
    pub out_grid: Grid,
}

/// One step of the feature part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Layer, batch norm and ReLU.
    Layer(Place),
    /// Max-pool 2×2.
    Pool,
}

impl VggConfig {
    /// The steps of the feature part, with the shapes that `layer` gives them, and the channels that reach the head.
    ///
    /// # Errors
    /// [`Error::Value`] where a map is too small to pool, or its sides do not suit the pixel shuffle.
    pub(crate) fn steps(&self, layer: &LayerConfig) -> Result<(Vec<Step>, usize)> {
        let (mut index, mut channels, mut grid) = (0, 3, Grid::new(self.image, self.image));
        let mut steps = Vec::with_capacity(self.features.len());
        for feature in &self.features {
            match *feature {
                Feature::Layer(outputs) => {
                    let out_grid = shuffled(layer, grid, index)?;
                    steps.push(Step::Layer(Place { index, inputs: channels, outputs, grid, out_grid }));
                    (channels, grid) = (outputs, out_grid);
                    index += 3;
                }
                Feature::Pool => {
                    let Grid { height, width } = grid;
                    if height < 2 || width < 2 {
                        let map = format!("the map at features.{index} is {height}×{width}");
                        let expected = format!("a larger side: {map} and cannot be pooled");
                        return Err(Error::Value { key: "model.image", found: self.image.to_string(), expected });
                    }
                    steps.push(Step::Pool);
                    grid = Grid::new(height / 2, width / 2);
                    index += 1;
                }
            }
        }
        Ok((steps, channels))
    }

    /// The places of the layers alone.
    ///
    /// # Errors
    /// As [`Self::steps`].
    pub(crate) fn places(&self, layer: &LayerConfig) -> Result<Vec<Place>> {
        let layers = self.steps(layer)?.0.into_iter().filter_map(|step| match step {
            Step::Layer(place) => Some(place),
            Step::Pool => None,
        });
        Ok(layers.collect())
    }
}

/// The map that leaves `layer`.
fn shuffled(layer: &LayerConfig, grid: Grid, index: usize) -> Result<Grid> {
    let Some(options) = layer.neighbor_options() else { return Ok(grid) };
    let (shuffle, scale, Grid { height, width }) = (options.shuffle, options.shuffle_scale, grid);
    if shuffle.before() && (scale == 0 || !height.is_multiple_of(scale) || !width.is_multiple_of(scale)) {
        let expected = format!("a divisor of both sides of the map at features.{index}, which is {height}×{width}");
        return Err(Error::Value { key: "layer.shuffle_scale", found: scale.to_string(), expected });
    }
    let down = if shuffle.before() { scale } else { 1 };
    let up = if shuffle.after() { scale } else { 1 };
    Ok(Grid::new(height / down * up, width / down * up))
}
