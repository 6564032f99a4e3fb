//! `RandAugment` (Cubuk et al., 2020), with the operations and ranges of torchvision.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::canvas::Canvas;
use super::{color, geometry};
use crate::loader::random::below;

/// A few random operations, all of the same strength.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandAugment {
    /// Number of operations; an operation may be drawn twice.
    pub operations: u32,
    /// Strength, from 0 to below `bins`.
    pub magnitude: u32,
    /// Number of strengths.
    pub bins: u32,
}

impl Default for RandAugment {
    fn default() -> Self {
        Self { operations: 2, magnitude: 9, bins: 31 }
    }
}

/// An operation of [`RandAugment`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
}

impl Operation {
    /// In the order of torchvision.
    pub(crate) const ALL: [Self; 14] = [
        Self::Identity,
        Self::ShearX,
        Self::ShearY,
        Self::TranslateX,
        Self::TranslateY,
        Self::Rotate,
        Self::Brightness,
        Self::Color,
        Self::Contrast,
        Self::Sharpness,
        Self::Posterize,
        Self::Solarize,
        Self::AutoContrast,
        Self::Equalize,
    ];

    /// Whether the magnitude is negated with probability ½.
    fn is_signed(self) -> bool {
        !matches!(self, Self::Identity | Self::Posterize | Self::Solarize | Self::AutoContrast | Self::Equalize)
    }

    /// The magnitude at `strength`, from 0 to 1, for images of `side` pixels.
    pub(crate) fn magnitude(self, strength: f64, side: usize) -> f64 {
        match self {
            Self::Identity | Self::AutoContrast | Self::Equalize => 0.,
            Self::ShearX | Self::ShearY => 0.3 * strength,
            Self::TranslateX | Self::TranslateY => 150. / 331. * side as f64 * strength,
            Self::Rotate => 30. * strength,
            Self::Brightness | Self::Color | Self::Contrast | Self::Sharpness => 0.9 * strength,
            Self::Posterize => 8. - (4. * strength).round_ties_even(),
            Self::Solarize => 255. * (1. - strength),
        }
    }

    pub(crate) fn apply(self, canvas: &mut Canvas, magnitude: f64) {
        let side = canvas.side();
        match self {
            Self::Identity => {}
            Self::ShearX => geometry::transform(canvas, geometry::shear_x(magnitude)),
            Self::ShearY => geometry::transform(canvas, geometry::shear_y(magnitude)),
            Self::TranslateX => geometry::transform(canvas, geometry::translate(magnitude, 0.)),
            Self::TranslateY => geometry::transform(canvas, geometry::translate(0., magnitude)),
            Self::Rotate => geometry::transform(canvas, geometry::rotate(magnitude, side)),
            Self::Brightness => color::brightness(canvas, 1. + magnitude),
            Self::Color => color::saturation(canvas, 1. + magnitude),
            Self::Contrast => color::contrast(canvas, 1. + magnitude),
            Self::Sharpness => color::sharpness(canvas, 1. + magnitude),
            Self::Posterize => color::posterize(canvas, magnitude as u32),
            Self::Solarize => color::solarize(canvas, magnitude),
            Self::AutoContrast => color::autocontrast(canvas),
            Self::Equalize => color::equalize(canvas),
        }
    }
}

impl RandAugment {
    pub(crate) fn apply(self, canvas: &mut Canvas, generator: &mut ChaCha8Rng) {
        let strength = f64::from(self.magnitude) / f64::from(self.bins.saturating_sub(1).max(1));
        for _ in 0..self.operations {
            let operation = Operation::ALL[below(generator, Operation::ALL.len() as u32) as usize];
            let negative = operation.is_signed() && below(generator, 2) == 1;
            let magnitude = operation.magnitude(strength, canvas.side());
            operation.apply(canvas, if negative { -magnitude } else { magnitude });
        }
    }
}
