//! What the attention mixers share: heads, scores and the weighted sum.

use crate::nn::Dropout;
use candle_core::Tensor;
use convnn_core::{Pass, Result, ops};

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
    // Scaling the queries costs d a row where scaling the scores would cost N.
    Ok((queries * scale)?.matmul(&keys.t()?)?)
}

/// Softmax of `scores` (B, h, N, N), dropout, and the sum of `values` (B, h, N, d) so weighed.
pub(super) fn attend(scores: &Tensor, values: &Tensor, dropout: Option<&Dropout>, pass: &Pass) -> Result<Tensor> {
    let mut weights = ops::softmax(scores)?;
    if let Some(dropout) = dropout {
        weights = dropout.forward(&weights, pass)?;
    }
    Ok(weights.matmul(values)?)
}
