//! [`Neighbors`]: which tokens each token aggregates.

use super::canvas::Canvas;
use crate::error::ensure_shape;
use crate::{Error, Grid, Result};
use candle_core::{D, DType, Device, Tensor};

/// The neighbors of each token, nearest first: what selection finds and aggregation takes.
///
/// An index (B or 1, N, K) into M rows of values; M itself stands for the zero token, whose features are all 0. It is
/// checked when it is made, and trusted afterwards.
#[derive(Clone, Debug)]
pub struct Neighbors {
    index: Tensor,
    rows: usize,
    scores: Option<Tensor>,
    own_first: bool,
    geometry: Option<Geometry>,
}

/// What the rows of an index are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Geometry {
    /// The unpadded tokens of a map or sequence; the zero token stands for all of its padding.
    Tokens(Canvas),
    /// Every token of the padded map or sequence.
    Places(Canvas),
}

impl Neighbors {
    /// Neighbors that you choose yourself.
    ///
    /// # Shapes
    /// `index`: (B, N, K), or (1, N, K) if all images share it, u32 below `rows`, or `rows` for the zero token.
    ///
    /// # Errors
    /// [`Error::Shape`] unless the index has three axes, [`Error::Option`] for another type than u32 or an index past
    /// `rows`.
    pub fn new(index: &Tensor, rows: usize) -> Result<Self> {
        ensure_shape(index.rank() == 3, "neighbors", "index", index, || "(B or 1, N, K)".into())?;
        let wrong = |found: String, expected: String| {
            Err(Error::Option { layer: "neighbors".into(), option: "index", found, expected })
        };
        if index.dtype() != DType::U32 {
            return wrong(format!("of type {}", index.dtype().as_str()), "u32".into());
        }
        if index.dim(2)? == 0 {
            return wrong("of no neighbors".into(), "at least one for each token".into());
        }
        let largest = if index.elem_count() == 0 { 0 } else { index.max_all()?.to_scalar::<u32>()? };
        if largest as usize > rows {
            return wrong(largest.to_string(), format!("rows 0 to {rows}, the last meaning the zero token"));
        }
        Ok(Self::trusted(index.contiguous()?, rows))
    }

    /// An index whose maker vouches for it.
    pub(crate) const fn trusted(index: Tensor, rows: usize) -> Self {
        Self { index, rows, scores: None, own_first: false, geometry: None }
    }

    pub(crate) fn with_scores(self, scores: Tensor, own_first: bool) -> Self {
        Self { scores: Some(scores), own_first, ..self }
    }

    pub(crate) fn on(self, geometry: Geometry) -> Self {
        Self { geometry: Some(geometry), ..self }
    }

    /// The index: (B, N, K), or (1, N, K) if all images share it.
    pub const fn index(&self) -> &Tensor {
        &self.index
    }

    /// M, the rows that the index points into. M itself stands for the zero token.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// N
    pub fn tokens(&self) -> usize {
        self.index.dims()[1]
    }

    /// K
    pub fn count(&self) -> usize {
        self.index.dims()[2]
    }

    /// The scores by which the neighbors were selected, of the shape of the index and without a gradient. `None` for
    /// neighbors that were not selected by similarity. See [`score`](super::score()) for scores with gradients.
    pub const fn scores(&self) -> Option<&Tensor> {
        self.scores.as_ref()
    }

    /// Whether each token was made its own first neighbor, whatever its score.
    pub const fn own_first(&self) -> bool {
        self.own_first
    }

    /// The same neighbors as rows of the tokens of `grid`, so that [`Self::offsets`] knows where they are.
    ///
    /// # Errors
    /// [`Error::Option`] if the grid has another number of tokens than have neighbors, or than the index points into.
    pub fn on_grid(self, grid: Grid) -> Result<Self> {
        if self.rows != grid.tokens() || self.tokens() != grid.tokens() {
            return Err(Error::Option {
                layer: "neighbors".into(),
                option: "grid",
                found: format!("{}x{}", grid.height, grid.width),
                expected: format!("a grid of {} tokens", self.rows),
            });
        }
        Ok(self.on(Geometry::Tokens(Canvas::grid(grid, 0))))
    }

    /// Which neighbors are padding: 1 for padding, 0 for tokens, u8 of the shape of the index.
    ///
    /// # Errors
    /// Those of Candle.
    pub fn is_padding(&self) -> Result<Tensor> {
        if let Some(Geometry::Places(canvas)) = self.geometry {
            let padding = canvas.rows().iter().map(|&row| u8::from(row as usize == canvas.tokens())).collect();
            let padding = Tensor::from_vec(padding, canvas.padded_tokens(), self.index.device())?;
            return Ok(padding.index_select(&self.index.flatten_all()?, 0)?.reshape(self.index.shape())?);
        }
        Ok(self.index.eq(self.rows as u32)?)
    }

    /// How far each neighbor is from its token, in pixels to the right and down: (B or 1, N, K, 2), f32. Zero tokens of
    /// padding that is not stored have no place; theirs is NaN.
    ///
    /// On a sequence the second number is 0.
    ///
    /// # Errors
    /// [`Error::Option`] for neighbors whose grid is not known; [`Self::on_grid`] tells it.
    pub fn offsets(&self) -> Result<Tensor> {
        let (positions, own): (Vec<[f32; 2]>, Vec<u32>) = match self.geometry {
            Some(Geometry::Places(canvas)) => (canvas.pixels_of(canvas.outer()), canvas.places()),
            Some(Geometry::Tokens(canvas)) => {
                let mut pixels = canvas.pixels_of(canvas.inner());
                pixels.push([f32::NAN; 2]);
                (pixels, (0..canvas.tokens() as u32).collect())
            }
            None => {
                return Err(Error::Option {
                    layer: "neighbors".into(),
                    option: "grid",
                    found: "unknown".into(),
                    expected: "a grid: call `on_grid` first".into(),
                });
            }
        };
        let k = self.count().max(1);
        let index = self.index.flatten_all()?.to_vec1::<u32>()?;
        let offset = |(i, &row): (usize, &u32)| {
            let ([x, y], [own_x, own_y]) = (positions[row as usize], positions[own[i / k % own.len()] as usize]);
            [x - own_x, y - own_y]
        };
        let offsets: Vec<f32> = index.iter().enumerate().flat_map(offset).collect();
        let (b, n, k) = self.index.dims3()?;
        Ok(Tensor::from_vec(offsets, (b, n, k, 2), &Device::Cpu)?.to_device(self.index.device())?)
    }

    /// Each row in rising order of the index.
    pub(crate) fn by_index(self) -> Result<Self> {
        let k = self.count();
        let mut rows = self.index.flatten_all()?.to_vec1::<u32>()?;
        let scores = match &self.scores {
            None => {
                rows.chunks_mut(k.max(1)).for_each(<[u32]>::sort_unstable);
                None
            }
            Some(scores) => {
                let mut order: Vec<u32> = (0..rows.len() as u32).map(|i| i % k as u32).collect();
                for (order, rows) in order.chunks_mut(k.max(1)).zip(rows.chunks_mut(k.max(1))) {
                    order.sort_unstable_by_key(|&rank| rows[rank as usize]);
                    rows.sort_unstable();
                }
                let order = Tensor::from_vec(order, self.index.shape(), self.index.device())?;
                Some(scores.gather(&order, D::Minus1)?)
            }
        };
        let index = Tensor::from_vec(rows, self.index.shape(), self.index.device())?;
        Ok(Self { index, scores, own_first: false, ..self })
    }

    /// The neighbors after the first; `None` if there are no more.
    pub(crate) fn without_first(&self) -> Result<Option<Self>> {
        match self.count() {
            0 | 1 => Ok(None),
            k => Ok(Some(Self::trusted(self.index.narrow(D::Minus1, 1, k - 1)?.contiguous()?, self.rows))),
        }
    }

    /// Places on the padded map as rows of the unpadded tokens.
    pub(crate) fn among_tokens(self, canvas: Canvas) -> Result<Self> {
        let rows = Tensor::from_vec(canvas.rows(), canvas.padded_tokens(), self.index.device())?;
        let index = rows.index_select(&self.index.flatten_all()?, 0)?.reshape(self.index.dims())?;
        Ok(Self { index, rows: canvas.tokens(), ..self }.on(Geometry::Tokens(canvas)))
    }

    /// Fails unless the index points into `rows` rows of `batch` images and has `tokens` tokens.
    pub(crate) fn ensure_fits(&self, layer: &str, batch: usize, tokens: usize, rows: usize) -> Result<()> {
        let (b, n, _) = self.index.dims3()?;
        if (b == batch || b == 1) && n == tokens && self.rows == rows {
            return Ok(());
        }
        Err(Error::Option {
            layer: layer.to_owned(),
            option: "neighbors",
            found: format!("an index {:?} into {} rows", self.index.dims(), self.rows),
            expected: format!("({batch} or 1, {tokens}, K) into {rows} rows"),
        })
    }

    /// The index in main memory.
    pub(crate) fn values(&self) -> candle_core::Result<Vec<u32>> {
        self.index.flatten_all()?.to_vec1::<u32>()
    }

    /// The chosen rows of `values` (B, M, C) in tensor operations, (B, N, K, C), row M being 0.
    pub(crate) fn gather_reference(&self, values: &Tensor) -> Result<Tensor> {
        let (b, m, c) = values.dims3()?;
        let (_, n, k) = self.index.dims3()?;
        let device = values.device();
        let zero = Tensor::zeros((b, 1, c), values.dtype(), device)?;
        let rows = Tensor::cat(&[values, &zero], 1)?.reshape((b * (m + 1), c))?;
        let first: Vec<u32> = (0..b as u32).map(|image| image * (m as u32 + 1)).collect();
        let index = self.index.broadcast_add(&Tensor::from_vec(first, (b, 1, 1), device)?)?.flatten_all()?;
        Ok(rows.index_select(&index, 0)?.reshape((b, n, k, c))?)
    }
}
