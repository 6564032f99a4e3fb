//! Pixels to channels and back, on tokens.

use super::limits::{self, within};
use crate::{Grid, Result, Shuffle};
use candle_core::Tensor;

/// Where a layer exchanges pixels for channels, and how many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shuffler {
    shuffle: Shuffle,
    /// Rows and columns of the blocks that become channels; a sequence has one row.
    block: (usize, usize),
}

impl Shuffler {
    pub(super) fn on_grid(shuffle: Shuffle, scale: usize, layer: &str) -> Result<Self> {
        within(scale, 1, limits::SHUFFLE_SCALE, layer, "shuffle_scale")?;
        Ok(Self { shuffle, block: (scale, scale) })
    }

    pub(super) fn on_sequence(shuffle: Shuffle, scale: usize, layer: &str) -> Result<Self> {
        Ok(Self { block: (1, scale), ..Self::on_grid(shuffle, scale, layer)? })
    }

    /// Channels that the kernel takes and gives, for a layer of `inputs` and `outputs` channels.
    ///
    /// # Errors
    /// If one of them is above the limit.
    pub(super) fn channels(self, inputs: usize, outputs: usize, layer: &str) -> Result<(usize, usize)> {
        for (channels, option) in [(inputs, "in_channels"), (outputs, "out_channels")] {
            within(channels, 0, limits::CHANNELS, layer, option)?;
        }
        let size = self.block.0 * self.block.1;
        let inputs = if self.shuffle.before() { inputs * size } else { inputs };
        let outputs = if self.shuffle.after() { outputs * size } else { outputs };
        let expected = format!("a number that leaves at most {} channels", limits::CHANNELS);
        let found = || format!("{}, which makes {} channels", self.block.1, inputs.max(outputs));
        super::ensure(inputs.max(outputs) <= limits::CHANNELS, layer, "shuffle_scale", found(), &expected)?;
        Ok((inputs, outputs))
    }

    /// The grid on which a layer works, for an input on `grid`.
    pub(super) fn inner(self, grid: Grid, layer: &str) -> Result<Grid> {
        let (rows, columns) = self.block;
        if !self.shuffle.before() {
            return Ok(grid);
        }
        let divides = grid.height.is_multiple_of(rows) && grid.width.is_multiple_of(columns);
        let found = format!("{columns} for a map of {}x{}", grid.height, grid.width);
        super::ensure(divides, layer, "shuffle_scale", found, "a divisor of both sides")?;
        Ok(Grid::new(grid.height / rows, grid.width / columns))
    }

    /// The grid of the output, for a layer that works on `inner`.
    pub(super) fn outer(self, inner: Grid) -> Grid {
        if !self.shuffle.after() {
            return inner;
        }
        Grid::new(inner.height * self.block.0, inner.width * self.block.1)
    }

    /// Pixel-unshuffle before the layer: (B, H·W, C) to (B, H·W/s², C·s²), channels in PyTorch's order (c, dy, dx).
    pub(super) fn before(self, x: &Tensor, grid: Grid, layer: &str) -> Result<(Tensor, Grid)> {
        let small = self.inner(grid, layer)?;
        if !self.shuffle.before() {
            return Ok((x.clone(), grid));
        }
        let (rows, columns) = self.block;
        let (b, _, c) = x.dims3()?;
        let x = x.reshape(&[b, small.height, rows, small.width, columns, c][..])?.permute([0, 1, 3, 5, 2, 4])?;
        Ok((x.reshape((b, small.tokens(), c * rows * columns))?, small))
    }

    /// Pixel-shuffle after the layer: (B, H·W, C·s²) to (B, H·W·s², C).
    pub(super) fn after(self, x: Tensor, grid: Grid) -> Result<(Tensor, Grid)> {
        if !self.shuffle.after() {
            return Ok((x, grid));
        }
        let (rows, columns) = self.block;
        let (b, _, c) = x.dims3()?;
        let large = self.outer(grid);
        let c = c / (rows * columns);
        let x = x.reshape(&[b, grid.height, grid.width, c, rows, columns][..])?.permute([0, 1, 4, 2, 5, 3])?;
        Ok((x.reshape((b, large.tokens(), c))?, large))
    }
}
