//! A choice of neighbors between convolution and attention, whatever the layer.

use super::{Choice, Seen};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use convnn_core::{Compare, ConvNn2d, ConvNn2dConfig, Grid, Pass, Similarity};
use convnn_models::ModelConfig;

/// How neighbors are chosen among the features of a map: as `conv_nn_2d` does, all cells and the padding being candidates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Selector {
    /// K, the cell itself included.
    pub neighbors: usize,
    /// λ: 0 compares positions, as a convolution does; 1 compares features, as attention does.
    pub lambda: f64,
    /// How close two tokens are.
    pub similarity: Similarity,
    /// Zero tokens on every side.
    pub padding: usize,
}

impl Selector {
    /// The similarities that features can be compared by.
    pub const SIMILARITIES: [Similarity; 3] = [Similarity::Cosine, Similarity::Euclidean, Similarity::Manhattan];

    /// What the layers of a model do, as far as it applies to features; for the rest 9 neighbors by cosine similarity.
    pub fn of_model(config: &ModelConfig) -> Self {
        // Which options there are depends on the kind of layer; as JSON they have one form.
        let table = serde_json::to_value(config).unwrap_or_default();
        let layer = &table["layer"];
        let named = |name: &str| Self::SIMILARITIES.into_iter().find(|similarity| similarity.name() == name);
        let number = |key: &str| layer[key].as_u64().and_then(|number| usize::try_from(number).ok());
        let lambda = match &layer["compare"] {
            serde_json::Value::String(compare) if compare == "position" => 0.0,
            compare => compare["blend"].as_f64().unwrap_or(1.0),
        };
        let padded = usize::from(matches!(config, ModelConfig::Vgg { .. }));
        Self {
            neighbors: number("neighbors").unwrap_or(9),
            lambda,
            similarity: layer["similarity"].as_str().and_then(named).unwrap_or_default(),
            padding: number("padding").unwrap_or(padded),
        }
    }

    /// The neighbors among the features of a layer.
    ///
    /// # Errors
    /// [`Error::Value`] if there are fewer than K candidates.
    pub fn choose(&self, layer: &Seen) -> Result<Choice> {
        let Seen { grid, number, .. } = *layer;
        let candidates = grid.padded(self.padding).tokens();
        if self.neighbors > candidates {
            let padding = if self.padding > 0 { " with its padding" } else { "" };
            let map = format!("{}×{}", grid.width, grid.height);
            return Err(Error::Value {
                key: "--k".to_owned(),
                found: self.neighbors.to_string(),
                expected: format!("at most {candidates}, the candidates of layer {number} (a map of {map}{padding})"),
            });
        }
        self.among(&layer.features, grid)
    }

    /// The neighbors among `features` (B, H·W, C) of a map.
    ///
    /// # Errors
    /// Those of [`ConvNn2d`].
    pub fn among(&self, features: &Tensor, grid: Grid) -> Result<Choice> {
        // Positions alone are compared exactly.
        let compare = match self.lambda {
            0.0 => Compare::Position,
            1.0 => Compare::Features,
            lambda => Compare::Blend(lambda),
        };
        let config = ConvNn2dConfig {
            neighbors: self.neighbors,
            padding: self.padding,
            similarity: self.similarity,
            compare,
            ..ConvNn2dConfig::default()
        };
        let zeros = |shape: &[usize]| Tensor::zeros(shape, features.dtype(), &Device::Cpu);
        let weight = zeros(&[1, features.dim(2)?, self.neighbors])?;
        let layer = ConvNn2d::from_tensors(&config, weight, zeros(&[1])?)?;
        Ok(Choice::on_map(&layer.neighbors_of_tokens(features, grid, &Pass::evaluation())?, grid)?)
    }
}

/// The unbiased standard deviation of the features (1, H·W, C) of a map, over all channels and all tokens of the padded
/// map, plus 1e-6: what a blend divides features by.
///
/// # Errors
/// Those of Candle.
pub(super) fn deviation(features: &Tensor, grid: Grid, padding: usize) -> Result<f64> {
    let values = features.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    let count = (grid.padded(padding).tokens() * features.dim(2)?) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let apart = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    let zeros = (count - values.len() as f64) * mean * mean;
    Ok(((apart + zeros) / (count - 1.0).max(1.0)).sqrt() + 1e-6)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::neighbors::Place;

    #[test]
    fn positions_choose_the_window_and_features_the_equal_pixel() {
        // The last pixel looks like the first; all others differ from both.
        let mut values: Vec<f32> = (0..25).flat_map(|i| [i as f32, 100.0 - i as f32]).collect();
        values[48..].copy_from_slice(&[0.0, 100.0]);
        let features = Tensor::from_vec(values, (1, 25, 2), &Device::Cpu).unwrap();
        let grid = Grid::new(5, 5);
        let mut selector = Selector { neighbors: 9, lambda: 0.0, similarity: Similarity::Euclidean, padding: 1 };
        let found = selector.among(&features, grid).unwrap();
        let mut window: Vec<_> = (1..4).flat_map(|y| (1..4).map(move |x| Place::Cell(x, y))).collect();
        let mut places = found.neighbors(0, (2, 2)).to_vec();
        assert_eq!(places[0], Place::Cell(2, 2));
        // The four that share a side come before the corners.
        assert_eq!(places[1..5], [Place::Cell(2, 1), Place::Cell(1, 2), Place::Cell(3, 2), Place::Cell(2, 3)]);
        let key = |place: &Place| format!("{place:?}");
        places.sort_by_key(key);
        window.sort_by_key(key);
        assert_eq!(places, window);
        assert_eq!(found.neighbors(0, (0, 0)).iter().filter(|&&place| place == Place::Padding).count(), 5);

        (selector.lambda, selector.neighbors) = (1.0, 2);
        let found = selector.among(&features, grid).unwrap();
        assert_eq!(found.neighbors(0, (0, 0)), [Place::Cell(0, 0), Place::Cell(4, 4)]);
    }
}
