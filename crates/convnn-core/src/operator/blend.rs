//! What `compare = "blend"` compares: features and positions side by side (docs/specification.md, section 2).

use super::Neighbors;
use crate::Result;
use crate::kernel::float::Float;
use crate::kernel::op::{Input, Op, apply1};
use crate::kernel::simd::{kernel, sum_of};
use candle_core::{D, Shape, Tensor};
use rayon::prelude::*;

/// [λ · features / σ ; (1 − λ) · position] of chosen tokens, σ + 1e-6 the unbiased standard deviation of an image over
/// all channels and all tokens of the padded map, whose padding is zero.
pub(crate) struct Blend<'a> {
    /// λ
    pub(crate) share: f64,
    /// Tokens of the padded map.
    pub(crate) padded_tokens: usize,
    /// Row among the tokens of each place; N for the zero token.
    pub(crate) rows: &'a [u32],
    /// Position of each place: (R, P).
    pub(crate) positions: &'a Tensor,
}

impl Blend<'_> {
    /// Tokens `x` (B, N, C) to (B, R, C + P), without a gradient.
    ///
    /// # Errors
    /// Where Candle fails.
    pub(crate) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        if !x.device().is_cpu() {
            return self.apply_reference(x);
        }
        let op = BlendRows {
            rows: self.rows.to_vec(),
            positions: self.scaled_positions()?.flatten_all()?.to_dtype(candle_core::DType::F64)?.to_vec1()?,
            share: self.share,
            padded_tokens: self.padded_tokens,
        };
        apply1(op, &x.detach())
    }

    /// [`Self::apply`] in tensor operations.
    fn apply_reference(&self, x: &Tensor) -> Result<Tensor> {
        let (b, n, c) = x.dims3()?;
        let padding = Tensor::zeros((b, self.padded_tokens - n, c), x.dtype(), x.device())?;
        let map = Tensor::cat(&[x, &padding], 1)?.flatten_from(1)?; // (B, T·C)
        let centered = map.broadcast_sub(&map.mean_keepdim(1)?)?;
        let variance = (centered.sqr()?.sum_keepdim(1)? / (map.dim(1)? - 1).max(1) as f64)?;
        let deviation = (variance.sqrt()? + 1e-6)?.unsqueeze(2)?; // (B, 1, 1)
        let rows = Tensor::from_vec(self.rows.to_vec(), (1, self.rows.len(), 1), x.device())?;
        let features = Neighbors::trusted(rows, n).gather_reference(x)?.squeeze(2)?; // (B, R, C)
        let positions = self.scaled_positions()?.broadcast_left(b)?;
        Ok(Tensor::cat(&[(features.broadcast_div(&deviation)? * self.share)?, positions], D::Minus1)?)
    }

    fn scaled_positions(&self) -> Result<Tensor> {
        Ok((self.positions * (1.0 - self.share))?)
    }
}

struct BlendRows {
    rows: Vec<u32>,
    /// Times 1 − λ.
    positions: Vec<f64>,
    share: f64,
    padded_tokens: usize,
}

impl Op<1> for BlendRows {
    const NAME: &'static str = "blend";
    const INPUTS: [&'static str; 1] = ["features"];

    fn forward<T: Float>(&self, [x]: [Input<'_, T>; 1]) -> Result<(Vec<T>, Shape)> {
        let (b, n, c) = (x.dims[0], x.dims[1], x.dims[2]);
        let count = self.rows.len();
        let width = c + self.positions.len() / count.max(1);
        let positions: Vec<T> = self.positions.iter().map(|&position| T::narrow(position)).collect();
        let mut out = vec![T::ZERO; b * count * width];
        let images = out.par_chunks_mut((count * width).max(1)).zip(x.values.par_chunks((n * c).max(1)));
        images.for_each(|(out, x)| {
            let factor = T::narrow(self.share / (deviation(x, self.padded_tokens * c).widen() + 1e-6));
            blend_rows(x, &self.rows, &positions, c, factor, out);
        });
        Ok((out, Shape::from((b, count, width))))
    }
}

kernel! {
    /// The unbiased standard deviation of `x` and as many zeros as make `count` numbers.
    fn deviation<const FMA: bool, T>(x: &[T], count: usize) -> T {
        let mean = sum_of([x], |[x]| x) / T::narrow(count as f64);
        let apart = sum_of([x], #[inline(always)] |[x]| (x - mean) * (x - mean));
        let zeros = T::narrow((count - x.len()) as f64);
        ((apart + zeros * mean * mean) / T::narrow((count - 1).max(1) as f64)).sqrt()
    }
}

kernel! {
    fn blend_rows<const FMA: bool, T>(x: &[T], rows: &[u32], positions: &[T], c: usize, factor: T, out: &mut [T]) {
        let p = positions.len() / rows.len();
        for ((&row, position), out) in rows.iter().zip(positions.chunks_exact(p)).zip(out.chunks_exact_mut(c + p)) {
            let (features, place) = out.split_at_mut(c);
            // The zero token stays zero.
            if let Some(x) = x.get(row as usize * c..(row as usize + 1) * c) {
                for (out, &x) in features.iter_mut().zip(x) {
                    *out = x * factor;
                }
            }
            place.copy_from_slice(position);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing;
    use crate::testing::kernels::{DTYPES, bits, same_for_threads, strided, variable};

    #[test]
    fn equals_the_reference() {
        for (dtype, tolerance) in DTYPES {
            for [b, n, c, padding, p] in [[1, 1, 1, 0, 2], [2, 6, 5, 4, 2], [3, 50, 70, 0, 1], [2, 33, 3, 7, 2]] {
                let x = variable((b, n, c), dtype, 1);
                // Every third place is padding.
                let rows: Vec<u32> = (0..n + padding).map(|i| if i % 3 == 1 { n } else { i % n } as u32).collect();
                let positions = variable((rows.len(), p), dtype, 2);
                for share in [0.0, 0.3, 1.0] {
                    let blend = Blend { share, padded_tokens: n + padding, rows: &rows, positions: &positions };
                    let label = format!("{dtype:?} {b},{n},{c} λ = {share}");
                    let found = blend.apply(&x).unwrap();
                    testing::compare(&label, &found, &blend.apply_reference(&x).unwrap(), 10.0 * tolerance).unwrap();
                    testing::compare(&label, &blend.apply(&strided(&x)).unwrap(), &found, 0.0).unwrap();
                    same_for_threads(&label, || bits(&blend.apply(&x).unwrap()));
                }
            }
        }
    }
}
