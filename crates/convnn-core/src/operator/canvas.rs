//! The padded map that a layer chooses neighbors on: token numbers, positions, and candidates.

use super::{Candidates, Values};
use crate::random::streams;
use crate::{Error, Grid, Pass, Result};
use candle_core::{DType, Device, Tensor};

/// A grid or a sequence, with zero tokens added on every side.
///
/// Tokens have two numbers: their place on the padded map, and their row among the unpadded values, where every
/// padding token is the one zero token after the last row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Canvas {
    inner: Grid,
    padding: usize,
    sequence: bool,
}

impl Canvas {
    pub(crate) const fn grid(inner: Grid, padding: usize) -> Self {
        Self { inner, padding, sequence: false }
    }

    pub(crate) const fn sequence(tokens: usize, padding: usize) -> Self {
        Self { inner: Grid::new(1, tokens), padding, sequence: true }
    }

    /// N
    pub(crate) const fn tokens(self) -> usize {
        self.inner.tokens()
    }

    /// N with the padding.
    pub(crate) const fn padded_tokens(self) -> usize {
        self.outer().tokens()
    }

    /// The grid without its padding; a sequence is one row.
    pub(crate) const fn inner(self) -> Grid {
        self.inner
    }

    /// The grid with its padding.
    pub(crate) const fn outer(self) -> Grid {
        if self.sequence { Grid::new(1, self.inner.width + 2 * self.padding) } else { self.inner.padded(self.padding) }
    }

    const fn top(self) -> usize {
        if self.sequence { 0 } else { self.padding }
    }

    /// The numbers of the unpadded tokens.
    pub(crate) fn tokens_in_order(self) -> Vec<u32> {
        (0..self.tokens() as u32).collect()
    }

    /// Place on the padded map of each unpadded token.
    pub(crate) fn places(self) -> Vec<u32> {
        let width = self.outer().width;
        let row = |y: usize| (0..self.inner.width).map(move |x| ((y + self.top()) * width + x + self.padding) as u32);
        (0..self.inner.height).flat_map(row).collect()
    }

    /// Row among the unpadded values of each place on the padded map; N for padding.
    pub(crate) fn rows(self) -> Vec<u32> {
        let mut rows = vec![self.tokens() as u32; self.padded_tokens()];
        self.places().iter().enumerate().for_each(|(row, &place)| rows[place as usize] = row as u32);
        rows
    }

    /// For each padding token in the order of the padded map, the number of unpadded tokens before it.
    pub(crate) fn zeros(self) -> Vec<u32> {
        let mut before = 0;
        let mut zeros = Vec::with_capacity(self.padded_tokens() - self.tokens());
        for row in self.rows() {
            if row as usize == self.tokens() { zeros.push(before) } else { before += 1 }
        }
        zeros
    }

    /// Positions of the padded map, linspace(−1, 1) on each axis: (1, T, 2), width first, or (1, T, 1) on a sequence.
    pub(crate) fn positions(self, dtype: DType, device: &Device) -> Result<Tensor> {
        let Grid { height, width } = self.outer();
        let (xs, ys) = (linspace(width), linspace(height));
        let values: Vec<f64> =
            if self.sequence { xs } else { ys.iter().flat_map(|&y| xs.iter().flat_map(move |&x| [x, y])).collect() };
        Ok(Tensor::from_vec(values, (1, height * width, self.position_channels()), device)?.to_dtype(dtype)?)
    }

    /// The same in pixels: whole numbers, exact in bf16 up to 256 and in f16 up to 2048.
    pub(crate) fn pixels(self, dtype: DType, device: &Device) -> Result<Tensor> {
        let channels = self.position_channels();
        let values: Vec<f32> =
            self.pixels_of(self.outer()).into_iter().flat_map(|pixel| pixel.into_iter().take(channels)).collect();
        Ok(Tensor::from_vec(values, (1, self.padded_tokens(), channels), device)?.to_dtype(dtype)?)
    }

    /// Column and row of each token of `grid`.
    pub(crate) fn pixels_of(self, grid: Grid) -> Vec<[f32; 2]> {
        (0..grid.tokens()).map(|i| [(i % grid.width) as f32, (i / grid.width) as f32]).collect()
    }

    /// What the layers without projections aggregate: `x` (B, N, C), or the padded map with its positions (B, T, C + P).
    pub(crate) fn values(self, x: &Tensor, values: Values) -> Result<Tensor> {
        match values {
            Values::Features => Ok(x.clone()),
            Values::FeaturesPosition => self.with_positions(&self.pad(x)?),
        }
    }

    /// Position channels after the features of a padded map `x` (B, T, C): (B, T, C + P).
    pub(crate) fn with_positions(self, x: &Tensor) -> Result<Tensor> {
        let positions = self.positions(x.dtype(), x.device())?;
        Ok(Tensor::cat(&[x, &positions.broadcast_left(x.dim(0)?)?.squeeze(1)?], 2)?)
    }

    /// Channels of a position: 2 on a grid, 1 on a sequence.
    pub(crate) const fn position_channels(self) -> usize {
        if self.sequence { 1 } else { 2 }
    }

    /// Zero tokens added around `x` (B, N, C): (B, T, C).
    pub(crate) fn pad(self, x: &Tensor) -> Result<Tensor> {
        if self.padding == 0 {
            return Ok(x.clone());
        }
        let (b, _, c) = x.dims3()?;
        let map = x.reshape((b, self.inner.height, self.inner.width, c))?;
        let map = map.pad_with_zeros(1, self.top(), self.top())?.pad_with_zeros(2, self.padding, self.padding)?;
        Ok(map.reshape((b, self.padded_tokens(), c))?)
    }

    /// The unpadded tokens of `x` (B, T, C): (B, N, C).
    pub(crate) fn crop(self, x: &Tensor) -> Result<Tensor> {
        if self.padding == 0 {
            return Ok(x.clone());
        }
        let (b, _, c) = x.dims3()?;
        let Grid { height, width } = self.outer();
        let map = x.reshape((b, height, width, c))?;
        let map = map.narrow(1, self.top(), self.inner.height)?.narrow(2, self.padding, self.inner.width)?;
        Ok(map.reshape((b, self.tokens(), c))?)
    }

    /// Whether `candidates` are a sample of the tokens. A lattice finer than the map would repeat itself and counts as
    /// all of them.
    pub(crate) fn is_sampled(self, candidates: Candidates) -> bool {
        match candidates {
            Candidates::All => false,
            Candidates::Random { .. } => true,
            Candidates::Spatial { n, .. } => self.sequence || n <= self.inner.height.min(self.inner.width),
        }
    }

    /// Places of the candidates on the padded map in rising order; `None` for all. The places `given` stand in for
    /// those that would be drawn.
    ///
    /// # Errors
    /// Where a margin leaves no candidate, or a given place is not on the map.
    pub(crate) fn candidates(
        self,
        given: Option<&[u32]>,
        candidates: Candidates,
        pass: &Pass,
        layer: &str,
    ) -> Result<Option<Vec<u32>>> {
        let mut places = match (given, candidates) {
            (Some(given), _) => {
                let tokens = self.padded_tokens();
                if let Some(place) = given.iter().find(|&&place| place as usize >= tokens) {
                    return Err(Error::Option {
                        layer: layer.to_owned(),
                        option: "candidates",
                        found: format!("a sample with token {place}"),
                        expected: format!("numbers of the {tokens} tokens of the padded map"),
                    });
                }
                given.to_vec()
            }
            (None, candidates) if !self.is_sampled(candidates) => return Ok(None),
            (None, Candidates::All) => return Ok(None),
            (None, Candidates::Random { n }) => {
                streams::sample(&mut pass.generator("candidates", layer), self.padded_tokens(), n)
            }
            (None, Candidates::Spatial { n, margin }) => {
                let xs = lattice(self.inner.width, n, margin, layer)?;
                let ys = if self.sequence { vec![0] } else { lattice(self.inner.height, n, margin, layer)? };
                let width = self.outer().width;
                let row = |&y: &usize| {
                    let first = (y + self.top()) * width + self.padding;
                    xs.iter().map(move |x| (first + x) as u32)
                };
                ys.iter().flat_map(row).collect()
            }
        };
        // Among equal candidates the lower token index is chosen first.
        places.sort_unstable();
        // A lattice finer than the sequence repeats positions.
        places.dedup();
        Ok(Some(places))
    }
}

/// linspace(−1, 1) of `n` numbers; −1 alone where `n` is 1, as PyTorch has it.
pub(crate) fn linspace(n: usize) -> Vec<f64> {
    let step = 2.0 / (n.max(2) - 1) as f64;
    // From both ends, so that the numbers are symmetric.
    (0..n)
        .map(|i| if 2 * i < n { -1.0 + step * i as f64 } else { 1.0 - step * (n - 1 - i) as f64 })
        .map(|v| if n == 1 { -1.0 } else { v })
        .collect()
}

/// margin + ⌊i·(side−1−2·margin)/(n−1)⌋ for i from 0 to n − 1; for n = 1 the margin alone.
pub(crate) fn lattice(side: usize, n: usize, margin: usize, layer: &str) -> Result<Vec<usize>> {
    if n == 0 || 2 * margin >= side {
        return Err(Error::Option {
            layer: layer.to_owned(),
            option: "candidates",
            found: format!("spatial with n = {n}, margin = {margin} on a side of {side}"),
            expected: "n of at least 1 and a margin that leaves positions".into(),
        });
    }
    Ok((0..n).map(|i| margin + i * (side - 1 - 2 * margin) / (n - 1).max(1)).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_tokens() {
        let canvas = Canvas::grid(Grid::new(2, 3), 1);
        assert_eq!(canvas.places(), [6, 7, 8, 11, 12, 13]);
        assert_eq!(canvas.rows()[5..15], [6, 0, 1, 2, 6, 6, 3, 4, 5, 6]);
        assert_eq!(canvas.zeros(), [0, 0, 0, 0, 0, 0, 3, 3, 6, 6, 6, 6, 6, 6]);
        let sequence = Canvas::sequence(3, 2);
        assert_eq!(sequence.places(), [2, 3, 4]);
        assert_eq!(sequence.zeros(), [0, 0, 3, 3]);
    }

    #[test]
    fn positions_run_along_the_width_first() {
        let canvas = Canvas::grid(Grid::new(1, 2), 0);
        let positions = canvas.positions(DType::F64, &Device::Cpu).unwrap().to_vec3::<f64>().unwrap();
        assert_eq!(positions[0], [[-1.0, -1.0], [1.0, -1.0]]);
        assert_eq!(linspace(5), [-1.0, -0.5, 0.0, 0.5, 1.0]);
        let pixels = Canvas::grid(Grid::new(2, 2), 0).pixels(DType::F64, &Device::Cpu).unwrap();
        assert_eq!(pixels.to_vec3::<f64>().unwrap()[0], [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]);
    }

    #[test]
    fn lattices() {
        assert_eq!(lattice(9, 4, 0, "l").unwrap(), [0, 2, 5, 8]);
        assert_eq!(lattice(9, 5, 1, "l").unwrap(), [1, 2, 4, 5, 7]);
        assert_eq!(lattice(9, 1, 2, "l").unwrap(), [2]);
        assert!(lattice(4, 2, 2, "l").unwrap_err().to_string().starts_with("l: `candidates`"));
        let canvas = Canvas::grid(Grid::new(2, 2), 1);
        let candidates =
            |given| canvas.candidates(given, Candidates::Spatial { n: 2, margin: 0 }, &Pass::evaluation(), "l");
        assert_eq!(candidates(None).unwrap().unwrap(), [5, 6, 9, 10]);
        let too_fine = Candidates::Spatial { n: 3, margin: 0 };
        assert!(canvas.candidates(None, too_fine, &Pass::evaluation(), "l").unwrap().is_none());
        assert_eq!(candidates(Some(&[15, 0, 3])).unwrap().unwrap(), [0, 3, 15]);
        let line = candidates(Some(&[16])).unwrap_err().to_string();
        assert!(line.starts_with("l: `candidates` is a sample with token 16; expected numbers of the 16"), "{line}");
    }

    #[test]
    fn pad_and_crop_are_inverse() {
        for canvas in [Canvas::grid(Grid::new(2, 3), 2), Canvas::sequence(6, 1)] {
            let x = Tensor::arange(0f32, 24.0, &Device::Cpu).unwrap().reshape((2, 6, 2)).unwrap();
            let padded = canvas.pad(&x).unwrap();
            assert_eq!(padded.dim(1).unwrap(), canvas.padded_tokens());
            let cropped = canvas.crop(&padded).unwrap();
            assert_eq!(cropped.to_vec3::<f32>().unwrap(), x.to_vec3::<f32>().unwrap());
        }
    }
}
