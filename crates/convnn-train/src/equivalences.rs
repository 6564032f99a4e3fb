//! Convolution and attention as ConvNN: how far the two sides differ.

use crate::Result;
use candle_core::{DType, Device, Tensor};
use candle_nn::Linear;
use convnn_core::nn;
use convnn_core::random::streams;
use convnn_core::{AttentionWeights, ConvNn2d, ConvNnAttention, Pass, Streams};

/// An operation, and the choices that make ConvNN compute it.
#[derive(Clone, Debug)]
pub struct Equivalence {
    /// The operation.
    pub operation: &'static str,
    /// What ConvNN chooses.
    pub choices: &'static str,
    /// The largest difference between two outputs of order one, in f64.
    pub f64: f64,
    /// The same in f32.
    pub f32: f64,
}

/// Heads, width and tokens of the attention layers.
const HEADS: usize = 4;
const DIM: usize = 32;
const TOKENS: usize = 48;
/// Neighbors of KVT attention.
const NEIGHBORS: usize = 9;

/// Every equivalence on random weights and inputs: ConvNN layers against Candle's `conv2d` and
/// [`nn::attention`].
///
/// # Errors
/// If a layer cannot be computed.
pub fn all() -> Result<Vec<Equivalence>> {
    type Case = (&'static str, &'static str, fn(DType) -> Result<f64>);
    let cases: [Case; 5] = [
        ("3×3 convolution", "nearest positions, K = 9, ρ = 1, standard kernel", |dtype| convolution(3, false, dtype)),
        ("5×5 convolution", "nearest positions, K = 25, ρ = 1, standard kernel", |dtype| {
            convolution(5, false, dtype)
        }),
        ("3×3 depthwise convolution", "nearest positions, K = 9, ρ = 1, depthwise kernel", |dtype| {
            convolution(3, true, dtype)
        }),
        ("self-attention, 4 heads", "dot product, K = N, ρ = softmax, kernel of ones", |dtype| attention(None, dtype)),
        ("KVT attention, K = 9", "dot product, K = 9, ρ = softmax, kernel of ones", |dtype| {
            attention(Some(NEIGHBORS), dtype)
        }),
    ];
    let measure = |(operation, choices, case): Case| {
        Ok(Equivalence { operation, choices, f64: case(DType::F64)?, f32: case(DType::F32)? })
    };
    cases.into_iter().map(measure).collect()
}

fn convolution(size: usize, depthwise: bool, dtype: DType) -> Result<f64> {
    let channels = 8;
    let x = normal((2, channels, 16, 16), 1.0, "x", dtype)?;
    let inputs = if depthwise { 1 } else { channels };
    let scale = 1.0 / ((inputs * size * size) as f64).sqrt();
    let weight = normal((channels, inputs, size, size), scale, "weight", dtype)?;
    let layer = match depthwise {
        true => ConvNn2d::from_depthwise_convolution(&weight, None)?,
        false => ConvNn2d::from_convolution(&weight, None)?,
    };
    let groups = if depthwise { channels } else { 1 };
    difference(&layer.forward_t(&x, &Pass::evaluation())?, &x.conv2d(&weight, size / 2, 1, 1, groups)?)
}

fn attention(neighbors: Option<usize>, dtype: DType) -> Result<f64> {
    let x = normal((2, TOKENS, DIM), 1.0, "x", dtype)?;
    let scale = 1.0 / (DIM as f64).sqrt();
    let linear = |name: &str| Ok::<_, crate::Error>(Linear::new(normal((DIM, DIM), scale, name, dtype)?, None));
    let weights =
        AttentionWeights { query: linear("query")?, key: linear("key")?, value: linear("value")?, out: linear("out")? };
    let projected = |linear: &Linear| x.broadcast_matmul(&linear.weight().t()?);
    let parts = [&weights.query, &weights.key, &weights.value].map(projected);
    let [q, k, v] = parts;
    let qkv = Tensor::cat(&[q?, k?, v?], 2)?;
    let options = nn::Attention { heads: HEADS, neighbors, dropout: None };
    let plain = nn::attention(&qkv, options)?.broadcast_matmul(&weights.out.weight().t()?)?;
    let layer = ConvNnAttention::from_attention(&weights, HEADS, neighbors.unwrap_or(TOKENS))?;
    difference(&layer.forward_t(&x, &Pass::evaluation())?, &plain)
}

/// The largest |a − b|.
fn difference(a: &Tensor, b: &Tensor) -> Result<f64> {
    Ok((a - b)?.abs()?.flatten_all()?.max(0)?.to_dtype(DType::F64)?.to_scalar()?)
}

fn normal(shape: impl Into<candle_core::Shape>, scale: f64, name: &str, dtype: DType) -> Result<Tensor> {
    let shape = shape.into();
    let mut generator = Streams::new(0).generator(name);
    let values: Vec<f64> = (0..shape.elem_count()).map(|_| scale * streams::normal(&mut generator)).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_operation_is_convnn_to_rounding() {
        for found in all().unwrap() {
            assert!(found.f64 < 1e-13 && found.f32 < 1e-5, "{found:?}");
        }
    }

    #[test]
    fn a_difference_is_noticed() {
        let x = normal((2, 3), 1.0, "x", DType::F64).unwrap();
        let largest: f64 = x.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap();
        assert_eq!(difference(&x, &(&x * 2.0).unwrap()).unwrap(), largest);
    }
}
