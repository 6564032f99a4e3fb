//! What rounding changes: a model in f32 beside the same weights in f64.
//!
//! Rounding decides which of two equally similar tokens is the nearer one. With another neighbor the layer computes something
//! else, and the layers after it see other features.

use crate::Result;
use crate::metrics::Tally;
use candle_core::{D, DType, Tensor};
use convnn_core::nn;
use convnn_models::Model;

/// How a model in f32 differs from itself in f64.
#[derive(Clone, Debug, Default)]
pub struct Precision {
    /// Accuracy and loss in f64.
    pub tally: Tally,
    /// Images that get another class.
    pub reclassified: u64,
    /// The layers that choose neighbors.
    pub layers: Vec<Chosen>,
}

/// The neighbors that a layer chooses in all images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Number of the layer, from 1.
    pub number: usize,
    /// Neighbors.
    pub neighbors: u64,
    /// Those that are other tokens in f64, rank by rank.
    pub other: u64,
}

impl Precision {
    /// Adds images (B, 3, S, S) with labels (B). The models have the same weights, in f32 and in f64.
    ///
    /// # Errors
    /// Those of the models.
    pub fn add(&mut self, [narrow, wide]: [&Model; 2], images: &Tensor, labels: &Tensor) -> Result<()> {
        let (narrow, narrow_layers) = answer(narrow, images)?;
        let (wide, wide_layers) = answer(wide, &images.to_dtype(DType::F64)?)?;
        self.tally.add(&wide, labels, nn::cross_entropy(&wide, labels)?.to_scalar::<f64>()?)?;
        self.reclassified += differences(&classes(&narrow)?, &classes(&wide)?);
        for (place, ((number, narrow), (_, wide))) in narrow_layers.into_iter().zip(wide_layers).enumerate() {
            if place == self.layers.len() {
                self.layers.push(Chosen { number, neighbors: 0, other: 0 });
            }
            let layer = &mut self.layers[place];
            layer.neighbors += narrow.len() as u64;
            layer.other += differences(&narrow, &wide);
        }
        Ok(())
    }
}

impl Chosen {
    /// Share of the neighbors that differ in f64, in percent.
    pub fn other_percent(&self) -> f64 {
        100.0 * self.other as f64 / self.neighbors as f64
    }
}

/// Logits (B, classes), and the neighbors of each layer that chooses some.
type Answer = (Tensor, Vec<(usize, Vec<u32>)>);

fn answer(model: &Model, images: &Tensor) -> Result<Answer> {
    let mut layers = Vec::new();
    let logits = model.forward_observed(images, &mut |layer| {
        if let Some(neighbors) = layer.neighbors()? {
            layers.push((layer.index + 1, neighbors.index().flatten_all()?.to_vec1::<u32>()?));
        }
        Ok(())
    })?;
    Ok((logits, layers))
}

fn classes(logits: &Tensor) -> Result<Vec<u32>> {
    Ok(logits.argmax(D::Minus1)?.to_vec1()?)
}

fn differences(a: &[u32], b: &[u32]) -> u64 {
    a.iter().zip(b).filter(|(a, b)| a != b).count() as u64
}
