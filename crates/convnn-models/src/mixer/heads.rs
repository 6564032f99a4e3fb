//! What the attention mixers share: heads, scores, and the weighted sum.

use super::Slot;
use crate::error::ensure_option;
use crate::flops::values;
use candle_core::Tensor;
use candle_nn::VarBuilder;
use convnn_core::nn::{Dropout, softmax};
use convnn_core::{Pass, Result};

/// Fails unless `heads` divides the width `dim` and `dropout` is a probability.
pub(super) fn check(vb: &VarBuilder, kind: &str, dim: usize, heads: usize, dropout: f64) -> Result<()> {
    let divides = heads >= 1 && dim.is_multiple_of(heads);
    ensure_option(divides, vb, kind, "heads", heads, format!("a divisor of the width, {dim}"))?;
    let holds = (0.0..1.0).contains(&dropout);
    ensure_option(holds, vb, kind, "dropout", dropout, "a number from 0 to below 1")
}

/// (B, N, h·d) → (B, h, N, d), contiguous.
pub(super) fn split(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (batch, tokens, dim) = x.dims3()?;
    Ok(x.reshape((batch, tokens, heads, dim / heads))?.transpose(1, 2)?.contiguous()?)
}

/// (B, h, N, d) → (B, N, h·d)
pub(super) fn join(x: &Tensor) -> Result<Tensor> {
    let (batch, heads, tokens, width) = x.dims4()?;
    Ok(x.transpose(1, 2)?.contiguous()?.reshape((batch, tokens, heads * width))?)
}

/// q·k / √d for every pair: (B, h, N, d) twice → (B, h, N, N).
pub(super) fn scores(queries: &Tensor, keys: &Tensor) -> Result<Tensor> {
    let scale = 1.0 / (queries.dim(3)? as f64).sqrt();
    // Scaling the queries costs d operations per row, scaling the scores N.
    Ok((queries * scale)?.matmul(&keys.t()?)?)
}

/// Softmax of `scores` (B, h, N, N), dropout, and the sum of `values` (B, h, N, d) with these weights.
pub(super) fn attend(scores: &Tensor, values: &Tensor, dropout: Option<&Dropout>, pass: &Pass) -> Result<Tensor> {
    let mut weights = softmax(scores)?;
    if let Some(dropout) = dropout {
        weights = dropout.forward_t(&weights, pass)?;
    }
    Ok(weights.matmul(values)?)
}

/// (N, M) for `scores` (B, h, N, M): 0 where `allowed`, −∞ elsewhere.
pub(super) fn mask(scores: &Tensor, allowed: impl Fn(usize, usize) -> bool) -> Result<Tensor> {
    let (_, _, rows, columns) = scores.dims4()?;
    let value = |i, j| if allowed(i, j) { 0f32 } else { f32::NEG_INFINITY };
    let values: Vec<f32> = (0..rows * columns).map(|at| value(at / columns, at % columns)).collect();
    Ok(Tensor::from_vec(values, (rows, columns), scores.device())?.to_dtype(scores.dtype())?)
}

/// Operations of the projections and products of full attention.
pub(super) const fn attention_flops(dim: usize, tokens: usize) -> u64 {
    4 * crate::flops::matmul(tokens, dim, dim) + 2 * crate::flops::matmul(tokens, dim, tokens)
}

/// What full attention in one op keeps: queries, keys and values, the result, and its projection.
pub(super) const fn attention_kept(slot: &Slot) -> u64 {
    values(slot.tokens, 5 * slot.dim)
}
