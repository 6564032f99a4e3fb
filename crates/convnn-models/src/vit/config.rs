//! The table `[model]` of a Vision Transformer.

use crate::Result;
use crate::error::{dropout, ensure, gain, within};
use crate::limits;
use serde::{Deserialize, Serialize};

/// The most numbers of the positional encoding, which is computed before any weight is read; ViT-Huge has 329,000.
const POSITIONS: usize = 1 << 24;

/// The table `[model]` of a Vision Transformer. The default is ViT-Tiny for 224×224 images of 10 classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct VitConfig {
    /// Height and width of the images.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = limits::IMAGE)))]
    pub image: usize,
    /// Height and width of a patch, P.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = limits::IMAGE)))]
    pub patch: usize,
    /// Width of the tokens, D.
    #[cfg_attr(feature = "schema", schemars(range(min = 2, max = limits::WIDTH)))]
    pub dim: usize,
    /// Width of the hidden layer in each block.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = limits::HIDDEN)))]
    pub mlp: usize,
    /// Number of blocks.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = limits::LAYERS)))]
    pub layers: usize,
    /// Number of classes.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = limits::CLASSES)))]
    pub classes: usize,
    /// Dropout after the mixer, after GELU and after the MLP.
    #[cfg_attr(feature = "schema", schemars(extend("minimum" = 0.0, "exclusiveMaximum" = 1.0)))]
    pub dropout: f64,
    /// Factor on the initial values of the last layer; with a small one, training starts at chance level.
    #[cfg_attr(feature = "schema", schemars(extend("exclusiveMinimum" = 0.0, "maximum" = limits::GAIN)))]
    pub head_gain: f64,
}

impl Default for VitConfig {
    fn default() -> Self {
        Self { image: 224, patch: 16, dim: 192, mlp: 768, layers: 12, classes: 10, dropout: 0.1, head_gain: 1.0 }
    }
}

impl VitConfig {
    /// Number of tokens, N: the patches and the class token.
    ///
    /// # Panics
    /// If `patch` is 0, which [`ModelConfig::check`](crate::ModelConfig::check) refuses.
    pub const fn tokens(&self) -> usize {
        (self.image / self.patch) * (self.image / self.patch) + 1
    }

    /// Checks the options of the model itself; those of its mixers are checked when they are built.
    pub(super) fn check(&self) -> Result<()> {
        within("model.classes", self.classes, 1, limits::CLASSES)?;
        within("model.image", self.image, 1, limits::IMAGE)?;
        within("model.patch", self.patch, 1, limits::IMAGE)?;
        let expected = format!("a divisor of {}, the side of the images", self.image);
        ensure(self.image.is_multiple_of(self.patch), "model.patch", self.patch, &expected)?;
        let expected = format!("patches large enough for at most {} tokens", limits::TOKENS);
        ensure(self.tokens() <= limits::TOKENS, "model.patch", self.patch, &expected)?;
        within("model.layers", self.layers, 1, limits::LAYERS)?;
        within("model.mlp", self.mlp, 1, limits::HIDDEN)?;
        within("model.dim", self.dim, 2, limits::WIDTH)?;
        ensure(self.dim.is_multiple_of(2), "model.dim", self.dim, "an even number of at least 2")?;
        let expected = format!("at most {} numbers in all {} tokens", POSITIONS, self.tokens());
        ensure(self.tokens() * self.dim <= POSITIONS, "model.dim", self.dim, &expected)?;
        dropout("model.dropout", self.dropout)?;
        gain("model.head_gain", self.head_gain)
    }
}
