//! Pixels to channels and back, on tokens.

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
        super::ensure(scale > 0, layer, "shuffle_scale", scale, "at least 1")?;
        Ok(Self { shuffle, block: (scale, scale) })
    }

    pub(super) fn on_sequence(shuffle: Shuffle, scale: usize, layer: &str) -> Result<Self> {
        Ok(Self { block: (1, scale), ..Self::on_grid(shuffle, scale, layer)? })
    }

    /// Channels that the kernel takes and gives, for a layer of `inputs` and `outputs` channels.
    pub(super) const fn channels(self, inputs: usize, outputs: usize) -> (usize, usize) {
        let size = self.block.0 * self.block.1;
        let inputs = if self.shuffle.before() { inputs * size } else { inputs };
        (inputs, if self.shuffle.after() { outputs * size } else { outputs })
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
        let large = Grid::new(grid.height * rows, grid.width * columns);
        let c = c / (rows * columns);
        let x = x.reshape(&[b, grid.height, grid.width, c, rows, columns][..])?.permute([0, 1, 4, 2, 5, 3])?;
        Ok((x.reshape((b, large.tokens(), c))?, large))
    }
}
