//! Select and aggregate for the layers without projections: what `conv_nn_1d` and `conv_nn_2d` share.

use crate::operator::canvas::{Canvas, checked};
use crate::ops::{self, Selection};
use crate::{Candidates, Compare, Kernel, Pass, Result, Similarity, Values};
use candle_core::{D, Tensor};

/// How a layer without projections chooses and aggregates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neighborhood<'a> {
    pub(crate) layer: &'a str,
    pub(crate) neighbors: usize,
    pub(crate) similarity: Similarity,
    pub(crate) compare: Compare,
    pub(crate) values: Values,
    pub(crate) candidates: Candidates,
    /// Standard or depthwise.
    pub(crate) kernel: Kernel,
}

impl Neighborhood<'_> {
    /// Tokens `x` (B, N, C) to (B, N, O); `sample` replaces the candidates that would be drawn, by place on the
    /// padded map.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        canvas: Canvas,
        weight: &Tensor,
        bias: &Tensor,
        sample: Option<&[u32]>,
        pass: &Pass,
    ) -> Result<Tensor> {
        let index = self.select(x, canvas, sample, pass)?;
        let aggregate = match self.kernel {
            Kernel::Depthwise => ops::aggregate_depthwise,
            _ => ops::aggregate,
        };
        match self.values {
            Values::Features => aggregate(x, &index, None, weight, Some(bias)),
            Values::FeaturesPosition => {
                let positions = canvas.positions(x.dtype(), x.device())?;
                let positions = positions.broadcast_left(x.dim(0)?)?.squeeze(1)?;
                let values = Tensor::cat(&[canvas.pad(x)?, positions], 2)?;
                aggregate(&values, &index, None, weight, Some(bias))
            }
        }
    }

    /// The neighbors of each token as rows of the values: (B or 1, N, K).
    pub(crate) fn select(&self, x: &Tensor, canvas: Canvas, sample: Option<&[u32]>, pass: &Pass) -> Result<Tensor> {
        let sample = canvas.candidates(sample, self.candidates, pass, self.layer)?;
        let features = x.detach();
        let on_padded_map = self.values == Values::FeaturesPosition;
        match self.compare {
            // All padding tokens are one zero vector, so that the map need not be padded.
            Compare::Features if !on_padded_map => {
                let rows = canvas.rows();
                let selection = self.selection(
                    (0..canvas.tokens() as u32).collect(),
                    sample.as_ref().map(|places| places.iter().map(|&place| rows[place as usize]).collect()),
                    if sample.is_none() { canvas.zeros() } else { Vec::new() },
                );
                ops::select(&features, &features, &checked(selection, self.layer, canvas.tokens())?)
            }
            Compare::Features => self.select_on_padded_map(&features, &canvas.pad(&features)?, canvas, sample),
            Compare::Position => {
                let (dtype, device) = (x.dtype(), x.device());
                let positions = match self.similarity {
                    Similarity::Chebyshev => canvas.pixels(dtype, device)?,
                    _ => canvas.positions(dtype, device)?,
                };
                let index = self.select_on_padded_map(&canvas.crop(&positions)?, &positions, canvas, sample)?;
                rename(&sorted(&index)?, canvas, on_padded_map)
            }
            Compare::Blend(share) => {
                let positions = canvas.positions(x.dtype(), x.device())?;
                let blend = |rows: &[u32], positions: &Tensor| {
                    let padded_tokens = canvas.padded_tokens();
                    ops::Blend { share, padded_tokens, rows, positions: &positions.squeeze(0)? }.apply(&features)
                };
                let own: Vec<u32> = (0..canvas.tokens() as u32).collect();
                let queries = blend(&own, &canvas.crop(&positions)?)?;
                let index = self.select_on_padded_map(&queries, &blend(&canvas.rows(), &positions)?, canvas, sample)?;
                rename(&index, canvas, on_padded_map)
            }
        }
    }

    /// Chooses among `pool` (B, T, D), whose rows are the places of the padded map, for the unpadded tokens.
    fn select_on_padded_map(
        &self,
        queries: &Tensor,
        pool: &Tensor,
        canvas: Canvas,
        sample: Option<Vec<u32>>,
    ) -> Result<Tensor> {
        let selection = self.selection(canvas.places(), sample, Vec::new());
        ops::select(queries, pool, &checked(selection, self.layer, canvas.padded_tokens())?)
    }

    fn selection(&self, own: Vec<u32>, candidates: Option<Vec<u32>>, zeros: Vec<u32>) -> Selection {
        Selection { similarity: self.similarity, neighbors: self.neighbors, own: Some(own), candidates, zeros }
    }
}

/// Places on the padded map become rows of the values, unless the values are padded too.
fn rename(index: &Tensor, canvas: Canvas, on_padded_map: bool) -> Result<Tensor> {
    if on_padded_map {
        return Ok(index.clone());
    }
    let rows = Tensor::from_vec(canvas.rows(), canvas.padded_tokens(), index.device())?;
    Ok(rows.index_select(&index.flatten_all()?, 0)?.reshape(index.dims())?)
}

/// Each row of an index in rising order.
fn sorted(index: &Tensor) -> Result<Tensor> {
    let k = index.dim(D::Minus1)?;
    let mut rows = index.flatten_all()?.to_vec1::<u32>()?;
    rows.chunks_mut(k).for_each(<[u32]>::sort_unstable);
    Ok(Tensor::from_vec(rows, index.dims(), index.device())?)
}
