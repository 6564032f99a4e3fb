//! Convolution as aggregation over a fixed table of neighbors.

use super::canvas::Canvas;
use super::neighbors::Geometry;
use super::{Neighbors, Rho, Weights, aggregate};
use crate::error::ensure_shape;
use crate::nn::linear;
use crate::{Grid, Result};
use candle_core::{Device, Tensor};

/// The neighbors of a κ×κ convolution of stride 1 with PyTorch's "same" padding: (1, N, κ²), row by row of the window.
///
/// N = H·W stands for the zero token outside the map. For even κ the extra row and column are at the end.
///
/// # Errors
/// Where the tensor cannot be made on `device`.
pub fn stencil(grid: Grid, kernel_size: usize, device: &Device) -> Result<Neighbors> {
    let before = kernel_size.saturating_sub(1) / 2;
    let zero = grid.tokens() as u32;
    let mut index = Vec::with_capacity(grid.tokens() * kernel_size * kernel_size);
    for y in 0..grid.height {
        for x in 0..grid.width {
            for dy in 0..kernel_size {
                for dx in 0..kernel_size {
                    let (y, x) = ((y + dy).wrapping_sub(before), (x + dx).wrapping_sub(before));
                    let inside = y < grid.height && x < grid.width;
                    index.push(if inside { (y * grid.width + x) as u32 } else { zero });
                }
            }
        }
    }
    let index = Tensor::from_vec(index, (1, grid.tokens(), kernel_size * kernel_size), device)?;
    Ok(Neighbors::trusted(index, grid.tokens()).on(Geometry::Tokens(Canvas::grid(grid, 0))))
}

/// A κ×κ convolution of stride 1 with PyTorch's "same" padding, on tokens.
///
/// # Shapes
/// - `x`: (B, H·W, C)
/// - `weight`: (O, C, κ, κ)
/// - `bias`: (O), or `None`
/// - result: (B, H·W, O)
///
/// Gradients reach `x`, `weight` and `bias`.
///
/// # Errors
/// [`crate::Error::Shape`].
pub fn convolution(x: &Tensor, grid: Grid, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let fits = x.rank() == 3 && x.dim(1)? == grid.tokens();
    ensure_shape(fits, "convolution", "x", x, || format!("(B, {}, C)", grid.tokens()))?;
    let fits = weight.rank() == 4 && weight.dim(2)? == weight.dim(3)?;
    ensure_shape(fits, "convolution", "weight", weight, || "(O, C, κ, κ)".into())?;
    let (o, c, size, _) = weight.dims4()?;
    if size == 1 {
        return linear(x, &weight.reshape((o, c))?, bias);
    }
    let neighbors = stencil(grid, size, x.device())?;
    aggregate(x, &neighbors, &Rho::One, &Weights::Standard(weight.clone()), bias)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing;
    use crate::testing::kernels::variable;
    use candle_core::DType;

    /// Candle's `conv2d` is right (STYLE 1.1) and pads alike on both sides, hence the padded and cropped map for even κ.
    #[test]
    fn equals_candle_and_gradients_are_exact() {
        for (h, w, size) in [(5, 4, 3), (4, 4, 1), (3, 6, 5), (5, 3, 2), (1, 1, 3), (2, 2, 4)] {
            let x = variable((2, h * w, 3), DType::F64, 1);
            let (weight, bias) = (variable((4, 3, size, size), DType::F64, 2), variable(4, DType::F64, 3));
            let grid = Grid::new(h, w);
            let f = || convolution(&x, grid, &weight, Some(&bias));
            let found = f().unwrap();
            let map = x.t().unwrap().reshape((2, 3, h, w)).unwrap();
            let (before, after) = ((size - 1) / 2, size / 2);
            let padded = map.pad_with_zeros(2, before, after).unwrap().pad_with_zeros(3, before, after).unwrap();
            let expected = padded.contiguous().unwrap().conv2d(&weight, 0, 1, 1, 1).unwrap();
            let expected = expected.broadcast_add(&bias.reshape((1, 4, 1, 1)).unwrap()).unwrap();
            let expected = expected.flatten_from(2).unwrap().t().unwrap();
            testing::compare(&format!("{h}x{w} {size}"), &found, &expected, 1e-12).unwrap();
            testing::gradients(&format!("{h}x{w} {size}"), &[x.clone(), weight.clone(), bias.clone()], f, 1e-7)
                .unwrap();
        }
    }
}
