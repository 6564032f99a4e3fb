//! Which neighbors the layers of a model choose in pictures.
//!
//! [`observe`] runs a model and keeps what each layer sees and chooses; [`Selector`] chooses among the same features in
//! another way, between convolution and attention. The results become a picture ([`drawing`]), an interactive page
//! ([`page`]) or numbers ([`statistics`]).

mod choice;
pub mod drawing;
pub mod page;
mod png;
mod scene;
mod selector;
pub mod statistics;
mod svg;

pub use choice::{Choice, Place};
pub use scene::Scene;
pub use selector::Selector;

use crate::Result;
use candle_core::Tensor;
use convnn_core::Grid;
use convnn_models::{Model, Observed};

/// What a layer sees of a batch of images, and what it chooses.
#[derive(Debug)]
pub struct Seen {
    /// Number of the layer, from 1.
    pub number: usize,
    /// The tokens that enter it, (B, H·W, C), without the class token.
    pub features: Tensor,
    /// The map that they are the cells of: pixels, or the patches of a Vision Transformer.
    pub grid: Grid,
    /// Its neighbors; `None` for a layer that chooses none, such as a convolution.
    pub choice: Option<Choice>,
}

/// What the layers of `model` see of images (B, 3, S, S), and what they choose, from the first to the last.
///
/// # Errors
/// Those of the model.
pub fn observe(model: &Model, images: &Tensor) -> Result<Vec<Seen>> {
    let mut layers = Vec::new();
    model.forward_observed(images, &mut |layer| {
        layers.push(seen(&layer)?);
        Ok(())
    })?;
    Ok(layers)
}

/// The same layers, each with the neighbors that `selector` chooses among its features.
///
/// # Errors
/// Those of [`Selector::choose`].
pub fn rechosen(layers: Vec<Seen>, selector: &Selector) -> Result<Vec<Seen>> {
    layers.into_iter().map(|layer| Ok(Seen { choice: Some(selector.choose(&layer)?), ..layer })).collect()
}

fn seen(layer: &Observed<'_>) -> convnn_core::Result<Seen> {
    let (features, grid) = match layer.grid {
        Some(grid) => (layer.tokens.clone(), grid),
        None => {
            let patches = layer.tokens.dim(1)? - 1;
            (layer.tokens.narrow(1, 1, patches)?.contiguous()?, Grid::new(patches.isqrt(), patches.isqrt()))
        }
    };
    let choice = match (layer.neighbors()?, layer.grid) {
        (None, _) => None,
        (Some(neighbors), Some(_)) => Some(Choice::on_map(&neighbors, grid)?),
        (Some(neighbors), None) => Some(Choice::of_patches(&neighbors, grid)?),
    };
    Ok(Seen { number: layer.index + 1, features, grid, choice })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use convnn_core::{Parameters, Streams};
    use convnn_models::preset;

    fn observed(preset_name: &str) -> Vec<Seen> {
        let config = preset(preset_name).unwrap().config();
        let parameters = Parameters::new(&Streams::new(1), DType::F32, &Device::Cpu);
        let model = Model::new(&config, parameters.builder()).unwrap();
        let images = Tensor::rand(-1f32, 1.0, (2, 3, 32, 32), &Device::Cpu).unwrap();
        observe(&model, &images).unwrap()
    }

    #[test]
    fn layers_of_a_vgg_are_maps() {
        let layers = observed("vgg11_compact");
        assert_eq!((layers.len(), layers[0].number, layers[0].grid), (8, 1, Grid::new(32, 32)));
        assert_eq!(layers[1].grid, Grid::new(16, 16));
        let cell = |layer: &Seen| layer.choice.as_ref().unwrap().cell((31, 5), 32);
        assert_eq!((cell(&layers[0]), cell(&layers[1])), ((31, 5), (15, 2)));
        for layer in &layers {
            let choice = layer.choice.as_ref().unwrap();
            assert_eq!((choice.grid(), choice.count(), choice.rows()), (layer.grid, 9, 2));
            assert_eq!(choice.neighbors(1, (0, 0))[0], Place::Cell(0, 0), "each token is its own first neighbor");
        }
    }

    #[test]
    fn layers_of_a_transformer_are_patches_and_the_class_token() {
        let layers = observed("vit_compact");
        let choice = layers[0].choice.as_ref().unwrap();
        assert_eq!((layers[0].features.dims()[1], layers[0].grid), (64, Grid::new(8, 8)));
        assert_eq!((choice.grid(), choice.rows() % 2), (Grid::new(8, 8), 0));
        let mut places = (0..8).flat_map(|y| (0..8).map(move |x| (x, y))).flat_map(|at| choice.neighbors(0, at));
        assert!(places.all(|place| matches!(place, Place::Cell(0..8, 0..8) | Place::ClassToken)));
    }
}
