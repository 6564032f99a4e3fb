//! How a layer finds the neighbors of each token: the one path from its options to [`Neighbors`].

use super::canvas::Canvas;
use super::neighbors::Geometry;
use super::{
    Blend, CandidateRows, Candidates, Compare, Neighbors, Score, Selection, Similarity, Values, score, select,
};
use crate::{Pass, Result};
use candle_core::Tensor;

/// The choices of a layer that decide which neighbors it finds.
#[derive(Clone, Copy)]
pub(crate) struct Search<'a> {
    /// The layer, for messages and for the stream of its candidates.
    pub(crate) layer: &'a str,
    pub(crate) canvas: Canvas,
    pub(crate) similarity: Similarity,
    /// K
    pub(crate) neighbors: usize,
    pub(crate) candidates: Candidates,
    /// Token numbers on the padded map that replace the sample that would be drawn.
    pub(crate) sample: Option<&'a [u32]>,
    pub(crate) pass: &'a Pass,
}

/// What the rows of the pool are.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Pool {
    /// The tokens themselves. All padding is one zero token and need not be stored.
    Tokens,
    /// Every token of the padded map.
    Places,
}

impl Search<'_> {
    /// Neighbors by features, positions or both, each token first: what the layers without projections aggregate.
    ///
    /// They are rows of the tokens `x` (B, N, C), or places on the padded map if `values` carry positions.
    pub(crate) fn compare(&self, x: &Tensor, compare: Compare, values: Values) -> Result<Neighbors> {
        let canvas = self.canvas;
        let features = x.detach();
        let carried = match values {
            Values::Features => Pool::Tokens,
            Values::FeaturesPosition => Pool::Places,
        };
        match compare {
            Compare::Features if carried == Pool::Tokens => self.choose(&features, &features, Pool::Tokens, true),
            Compare::Features => self.choose(&features, &canvas.pad(&features)?, Pool::Places, true),
            // Distances of positions alone are exact, which those of a blend are not. A blend has no pixels.
            Compare::Blend(0.0) if self.similarity != Similarity::Chebyshev => {
                self.carried(self.by_position(x)?, carried)
            }
            Compare::Position => self.carried(self.by_position(x)?.by_index()?, carried),
            Compare::Blend(share) => {
                let positions = canvas.positions(x.dtype(), x.device())?;
                let blend = |rows: &[u32], positions: &Tensor| {
                    let padded_tokens = canvas.padded_tokens();
                    Blend { share, padded_tokens, rows, positions: &positions.squeeze(0)? }.apply(&features)
                };
                let own: Vec<u32> = (0..canvas.tokens() as u32).collect();
                let queries = blend(&own, &canvas.crop(&positions)?)?;
                let pool = blend(&canvas.rows(), &positions)?;
                self.carried(self.choose(&queries, &pool, Pool::Places, true)?, carried)
            }
        }
    }

    /// Chooses for each token, `queries` (B, N, D), among the rows of `pool` (B, N or T, D).
    ///
    /// With `own_first`, or if candidates are a sample, each token is its own first neighbor.
    pub(crate) fn choose(&self, queries: &Tensor, pool: &Tensor, rows: Pool, own_first: bool) -> Result<Neighbors> {
        let selection = self.selection(rows, own_first)?;
        let geometry = match rows {
            Pool::Tokens => Geometry::Tokens(self.canvas),
            Pool::Places => Geometry::Places(self.canvas),
        };
        Ok(select(&queries.detach(), &pool.detach(), &selection)?.on(geometry))
    }

    /// Fails unless every token has K candidates.
    pub(crate) fn check(&self, own_first: bool) -> Result<()> {
        self.selection(Pool::Places, own_first).map(|_| ())
    }

    fn selection(&self, rows: Pool, own_first: bool) -> Result<Selection> {
        let canvas = self.canvas;
        let sample = canvas.candidates(self.sample, self.candidates, self.pass, self.layer)?;
        let own_first = own_first || sample.is_some();
        let (own, candidates, count) = match rows {
            Pool::Tokens => {
                let rows = canvas.rows();
                let candidates = match sample {
                    None => CandidateRows::Padded(canvas.zeros()),
                    Some(places) => CandidateRows::Sample(places.iter().map(|&place| rows[place as usize]).collect()),
                };
                (canvas.tokens_in_order(), candidates, canvas.tokens())
            }
            Pool::Places => {
                let candidates = sample.map_or(CandidateRows::All, CandidateRows::Sample);
                (canvas.places(), candidates, canvas.padded_tokens())
            }
        };
        let (similarity, neighbors) = (self.similarity, self.neighbors);
        let selection = Selection { similarity, neighbors, candidates, own: own_first.then_some(own) };
        selection.check(self.layer, count)?;
        Ok(selection)
    }

    /// The places that are closest to each token by position alone: the same for every image.
    fn by_position(&self, x: &Tensor) -> Result<Neighbors> {
        let (canvas, k) = (self.canvas, self.neighbors);
        let selection = self.selection(Pool::Places, true)?;
        let sample = match &selection.candidates {
            CandidateRows::Sample(places) => Some(&places[..]),
            CandidateRows::All | CandidateRows::Padded(_) => None,
        };
        let index = canvas.nearest_places(self.similarity, k, sample);
        let index = Tensor::from_vec(index, (1, canvas.tokens(), k), x.device())?;
        let neighbors = Neighbors::trusted(index, canvas.padded_tokens()).on(Geometry::Places(canvas));
        let positions = match self.similarity {
            Similarity::Chebyshev => canvas.pixels(x.dtype(), x.device())?,
            _ => canvas.positions(x.dtype(), x.device())?,
        };
        let scores = score(&canvas.crop(&positions)?, &positions, &neighbors, Score::new(self.similarity))?;
        Ok(neighbors.with_scores(scores, true))
    }

    /// Places on the padded map as rows of what is carried.
    fn carried(&self, neighbors: Neighbors, carried: Pool) -> Result<Neighbors> {
        match carried {
            Pool::Tokens => neighbors.among_tokens(self.canvas),
            Pool::Places => Ok(neighbors),
        }
    }
}
