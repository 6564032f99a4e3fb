//! Pixels to channels and back, on tokens.

use crate::{Grid, Result, Shuffle};
use candle_core::Tensor;

/// Pixel-unshuffle by `scale`: (B, H·W, C) to (B, H/s·W/s, C·s²), channels in PyTorch's order (c, dy, dx).
pub(super) fn pixel_unshuffle(x: &Tensor, grid: Grid, scale: usize, layer: &str) -> Result<(Tensor, Grid)> {
    let divides = scale > 0 && grid.height.is_multiple_of(scale) && grid.width.is_multiple_of(scale);
    let sides = format!("{scale} for a map of {}x{}", grid.height, grid.width);
    super::ensure(divides, layer, "shuffle_scale", sides, "a divisor of both sides")?;
    let (b, _, c) = x.dims3()?;
    let small = Grid::new(grid.height / scale, grid.width / scale);
    let x = x.reshape(&[b, small.height, scale, small.width, scale, c][..])?.permute([0, 1, 3, 5, 2, 4])?;
    Ok((x.reshape((b, small.tokens(), c * scale * scale))?, small))
}

/// Pixel-shuffle by `scale`: (B, H·W, C·s²) to (B, H·s·W·s, C).
pub(super) fn pixel_shuffle(x: &Tensor, grid: Grid, scale: usize) -> Result<(Tensor, Grid)> {
    let (b, _, c) = x.dims3()?;
    let large = Grid::new(grid.height * scale, grid.width * scale);
    let c = c / (scale * scale);
    let x = x.reshape(&[b, grid.height, grid.width, c, scale, scale][..])?.permute([0, 1, 4, 2, 5, 3])?;
    Ok((x.reshape((b, large.tokens(), c))?, large))
}

/// Channels that the kernel takes in and gives out, for a layer of `inputs` and `outputs`.
pub(super) const fn channels(shuffle: Shuffle, scale: usize, inputs: usize, outputs: usize) -> (usize, usize) {
    let square = scale * scale;
    (if shuffle.before() { inputs * square } else { inputs }, if shuffle.after() { outputs * square } else { outputs })
}
