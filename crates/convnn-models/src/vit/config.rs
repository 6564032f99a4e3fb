//! The table `[model]` of a Vision Transformer.

use crate::Result;
use crate::error::{at_least_one, dropout, ensure, gain};
use serde::{Deserialize, Serialize};

/// The table `[model]` of a Vision Transformer. The default is ViT-Tiny for 224×224 images of 10 classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VitConfig {
    /// Height and width of the images.
    pub image: usize,
    /// Height and width of a patch, P.
    pub patch: usize,
    /// Width of the tokens, D.
    pub dim: usize,
    /// Width of the hidden layer in each block.
    pub mlp: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Number of classes.
    pub classes: usize,
    /// Dropout after the mixer, after GELU and after the hidden layer.
    pub dropout: f64,
    /// Factor on the initial values of the last layer; with a small one, training starts at chance level.
    pub head_gain: f64,
}

impl Default for VitConfig {
    fn default() -> Self {
        Self { image: 224, patch: 16, dim: 192, mlp: 768, layers: 12, classes: 10, dropout: 0.1, head_gain: 1.0 }
    }
}

impl VitConfig {
    /// Number of tokens, N: the patches and the class token.
    pub const fn tokens(&self) -> usize {
        (self.image / self.patch) * (self.image / self.patch) + 1
    }

    /// Checks the options of the model itself; those of its mixers are checked when they are built.
    pub(super) fn check(&self) -> Result<()> {
        at_least_one("model.classes", self.classes)?;
        at_least_one("model.image", self.image)?;
        at_least_one("model.patch", self.patch)?;
        let expected = format!("a divisor of {}, the side of the images", self.image);
        ensure(self.image.is_multiple_of(self.patch), "model.patch", self.patch, &expected)?;
        at_least_one("model.layers", self.layers)?;
        at_least_one("model.mlp", self.mlp)?;
        let even = self.dim >= 2 && self.dim.is_multiple_of(2);
        ensure(even, "model.dim", self.dim, "an even number of at least 2")?;
        dropout("model.dropout", self.dropout)?;
        gain("model.head_gain", self.head_gain)
    }
}
