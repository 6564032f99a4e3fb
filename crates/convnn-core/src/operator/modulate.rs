//! Modulation: what the K scores of a token become before they weigh its neighbors.

use super::{Modulation, Similarity, widened};
use crate::Result;
use crate::nn::softmax;
use candle_core::{DType, Tensor};

/// Added to a distance before it is inverted.
const SMALLEST_DISTANCE: f64 = 1e-8;
/// The largest number of f16.
const LARGEST_F16: f64 = 65_504.0;

/// ρ, the weight of each chosen neighbor.
#[derive(Clone, Debug, Default)]
pub enum Rho {
    /// 1 for every neighbor: the scores choose them and nothing more.
    #[default]
    One,
    /// One weight for each neighbor: (B, N, K).
    Weights(Tensor),
}

impl Rho {
    /// The weights, or `None` for 1.
    pub const fn weights(&self) -> Option<&Tensor> {
        match self {
            Self::One => None,
            Self::Weights(weights) => Some(weights),
        }
    }
}

/// Turns scores (B, N, K) by `similarity` into ρ. `scores` is not called for [`Modulation::None`].
///
/// Gradients reach the scores.
///
/// # Errors
/// Those of `scores`.
pub fn modulate(
    modulation: Modulation,
    similarity: Similarity,
    scores: impl FnOnce() -> Result<Tensor>,
) -> Result<Rho> {
    Ok(match modulation {
        Modulation::None => Rho::One,
        Modulation::Softmax => Rho::Weights(softmax(&scores()?)?),
        Modulation::Similarity if similarity.is_distance() => {
            let scores = scores()?;
            // The smallest distance is 0 in f16.
            let distances = widened(&scores)?.neg()?;
            let weights = (distances + SMALLEST_DISTANCE)?.recip()?;
            let weights = if scores.dtype() == DType::F16 { weights.minimum(LARGEST_F16)? } else { weights };
            Rho::Weights(weights.to_dtype(scores.dtype())?)
        }
        Modulation::Similarity => Rho::Weights(scores()?),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{self, kernels::variable};
    use candle_core::Device;

    #[test]
    fn weights_and_their_gradients() {
        let scores = variable((2, 3, 4), DType::F64, 1);
        let minus_distances = || Ok((scores.abs()?.neg()? - 0.5)?);
        for (modulation, similarity) in [
            (Modulation::Softmax, Similarity::Dot),
            (Modulation::Similarity, Similarity::Cosine),
            (Modulation::Similarity, Similarity::Manhattan),
        ] {
            let f = || modulate(modulation, similarity, minus_distances).map(|rho| rho.weights().unwrap().clone());
            testing::gradients(&format!("{modulation:?}"), std::slice::from_ref(&scores), f, 1e-6).unwrap();
        }
        let distance = || Ok(Tensor::new(&[[[-4f64, 0.0]]], &Device::Cpu)?);
        let rho = modulate(Modulation::Similarity, Similarity::Euclidean, distance).unwrap();
        let expected = Tensor::new(&[[[0.25f64, 1e8]]], &Device::Cpu).unwrap();
        testing::compare("inverse distance", rho.weights().unwrap(), &expected, 1e-6).unwrap();
        let never = || panic!("no scores are needed");
        assert!(modulate(Modulation::None, Similarity::Dot, never).unwrap().weights().is_none());
    }
}
