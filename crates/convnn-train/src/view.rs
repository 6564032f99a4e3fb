//! What a model sees of an image in an evaluation.

use candle_core::{D, Tensor};
use convnn_core::Pass;
use convnn_models::Model;

use crate::Result;

/// What a model sees of an image in an evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// The image.
    #[default]
    Image,
    /// The image and its mirror image, whose class probabilities are averaged.
    Flips,
}

impl View {
    /// The logits of images (B, 3, S, S), as (B, classes). For [`View::Flips`], they are the logarithms of the mean
    /// probabilities.
    ///
    /// # Errors
    /// If the model cannot compute them.
    pub fn logits(self, model: &Model, images: &Tensor) -> Result<Tensor> {
        let logits = model.forward_t(images, &Pass::evaluation())?;
        match self {
            Self::Image => Ok(logits),
            Self::Flips => {
                let mirrored = model.forward_t(&images.flip(&[3])?, &Pass::evaluation())?;
                log_mean_probabilities(&logits, &mirrored)
            }
        }
    }
}

/// ln((softmax(a) + softmax(b)) / 2), without underflow.
fn log_mean_probabilities(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let log_softmax = |logits: &Tensor| {
        let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?)?;
        shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)
    };
    let (a, b) = (log_softmax(a)?, log_softmax(b)?);
    let larger = a.maximum(&b)?;
    let sum = ((&a - &larger)?.exp()? + (&b - &larger)?.exp()?)?;
    Ok(((larger + sum.log()?)? - std::f64::consts::LN_2)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::Device;

    use super::*;

    #[test]
    fn probabilities_are_averaged_without_underflow() {
        let tensor = |logits: [[f32; 3]; 2]| Tensor::new(&logits, &Device::Cpu).unwrap();
        let (a, b) = (tensor([[1., 2., 3.], [500., 0., -500.]]), tensor([[3., 0., 1.], [500., 0., -500.]]));
        let found = log_mean_probabilities(&a, &b).unwrap().to_vec2::<f32>().unwrap();
        let softmax = |x: [f64; 3]| x.map(|value| value.exp() / x.iter().map(|other| other.exp()).sum::<f64>());
        let (p, q) = (softmax([1., 2., 3.]), softmax([3., 0., 1.]));
        for class in 0..3 {
            let expected = ((p[class] + q[class]) / 2.).ln();
            assert!((f64::from(found[0][class]) - expected).abs() < 1e-6, "{found:?}");
        }
        assert_eq!(found[1], [0., -500., -1000.]);
    }
}
