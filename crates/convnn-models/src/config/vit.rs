//! The architecture Vision Transformer.

use serde::{Deserialize, Serialize};

/// The table `[model]` of a Vision Transformer. The default is ViT-Tiny for 10 classes of 224×224 images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VitConfig {
    /// Side of the square images.
    pub image: usize,
    /// Side of a patch, P.
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
    /// Factor on the initial values of the last layer; a small one lets training start at chance.
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
}
