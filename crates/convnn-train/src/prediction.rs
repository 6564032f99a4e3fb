//! Classes of single pictures.

use crate::Result;
use crate::weights::Weights;
use candle_core::DType;
use convnn_core::nn::softmax;
use convnn_image::Picture;
use convnn_models::{Model, Preprocessing};
use serde::Serialize;

use crate::view::View;

/// A trained model that names what pictures show.
#[derive(Debug)]
pub struct Classifier {
    model: Model,
    preprocessing: Preprocessing,
    labels: Vec<String>,
    view: View,
}

/// A class with its probability.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// The number of the class.
    pub class: usize,
    /// Its name, or its number if it has none.
    pub label: String,
    /// From 0 to 1.
    pub probability: f32,
}

/// Below this probability of the first class, a prediction is not to be relied on.
pub const CONFIDENT: f32 = 0.5;

impl Classifier {
    /// A classifier with these weights.
    ///
    /// # Errors
    /// Those of [`Weights::known_preprocessing`] and [`Weights::model`].
    pub fn new(weights: Weights, view: View) -> Result<Self> {
        let preprocessing = weights.known_preprocessing()?;
        let labels = match &weights.labels {
            Some(labels) => labels.clone(),
            None => (0..weights.config.classes()).map(|class| class.to_string()).collect(),
        };
        Ok(Self { model: weights.model(DType::F32)?, preprocessing, labels, view })
    }

    /// What a picture becomes: the bytes of the planes (3, size, size).
    pub fn prepare(&self, picture: &Picture) -> Vec<u8> {
        picture.center(self.preprocessing.size)
    }

    /// The classes of prepared pictures, most probable first.
    ///
    /// # Errors
    /// If the model cannot compute them.
    pub fn predict(&self, prepared: &[Vec<u8>]) -> Result<Vec<Vec<Candidate>>> {
        let images = self.preprocessing.tensor(&prepared.concat())?;
        let probabilities = softmax(&self.view.logits(&self.model, &images)?)?.to_vec2::<f32>()?;
        let ranked = |row: Vec<f32>| {
            let mut candidates: Vec<_> = row
                .into_iter()
                .zip(&self.labels)
                .enumerate()
                .map(|(class, (probability, label))| Candidate { class, label: label.clone(), probability })
                .collect();
            // Equal probabilities keep the order of the classes.
            candidates.sort_by(|a, b| b.probability.total_cmp(&a.probability));
            candidates
        };
        Ok(probabilities.into_iter().map(ranked).collect())
    }
}
