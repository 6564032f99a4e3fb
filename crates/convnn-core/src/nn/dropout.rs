//! Dropout whose mask is computed from a seed and the index of an element, and never stored.
#![allow(unsafe_code)]

use crate::kernel::float::{Float, tensor_of};
use crate::kernel::op::{Backward, Gradient, Input, Op, apply1, apply2};
use crate::kernel::parallel::{TASK, map_tasks};
use crate::kernel::simd::kernel;
use crate::{Error, Generator, Pass, Result, error::ensure_shape};
use candle_core::{Shape, Tensor};
use candle_nn::{Module, VarBuilder};
use rand_core::Rng;
use std::mem::MaybeUninit;

/// [`dropout`] in training, the identity in evaluation.
///
/// The masks come from the stream named by the path of the layer: give each layer its own, such as `vb.pp("dropout1")`.
/// Layers with one path have the same masks.
#[derive(Clone, Debug)]
pub struct Dropout {
    p: f64,
    path: String,
}

impl Dropout {
    /// Dropout with probability `p`. It has no parameters; `vb` gives the path.
    ///
    /// # Errors
    /// [`Error::Option`] unless 0 ≤ p ≤ 1.
    pub fn new(p: f64, vb: &VarBuilder<'_>) -> Result<Self> {
        Self::with_path(p, vb.prefix())
    }

    /// Dropout with probability `p` for the layer at `path`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_path(p: f64, path: impl Into<String>) -> Result<Self> {
        let path = path.into();
        check_probability(p, if path.is_empty() { "dropout" } else { &path })?;
        Ok(Self { p, path })
    }

    /// The mask of a forward pass, for ops with dropout built in; `None` in evaluation or if p is 0.
    ///
    /// # Errors
    /// None beyond those of the constructors.
    pub fn mask(&self, pass: &Pass) -> Result<Option<DropoutMask>> {
        if !pass.is_training() || self.p == 0.0 {
            return Ok(None);
        }
        DropoutMask::draw(self.p, &mut pass.generator("dropout", &self.path)).map(Some)
    }

    /// [`dropout`] if `pass` is a training pass, otherwise `x` itself.
    ///
    /// # Errors
    /// [`Error::DType`].
    pub fn forward_t(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        match self.mask(pass)? {
            Some(mask) => mask.drop_out(x),
            None => Ok(x.clone()),
        }
    }
}

/// In evaluation: the identity.
impl Module for Dropout {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        Ok(x.clone())
    }
}

fn check_probability(p: f64, layer: &str) -> Result<()> {
    if (0.0..=1.0).contains(&p) {
        return Ok(());
    }
    let expected = "a probability from 0 to 1".into();
    Err(Error::Option { layer: layer.to_owned(), option: "p", found: p.to_string(), expected })
}

/// Zeroes each element with probability `p` and multiplies the others by 1/(1−p). For training only.
///
/// Draws exactly one number from `generator`, whatever the shape. The mask depends only on that number and on the index
/// of each element, so it is the same on every machine and for any number of threads.
///
/// # Shapes
/// Any; the result has the shape of x.
///
/// # Gradient
/// dy/(1−p) for the elements that were kept. The mask is recomputed.
///
/// # Errors
/// [`Error::Option`] unless 0 ≤ p ≤ 1; [`Error::DType`].
pub fn dropout(x: &Tensor, p: f64, generator: &mut Generator) -> Result<Tensor> {
    DropoutMask::draw(p, generator)?.drop_out(x)
}

/// [`dropout`] in tensor operations, with the same mask for the same state of the generator.
pub fn dropout_reference(x: &Tensor, p: f64, generator: &mut Generator) -> Result<Tensor> {
    DropoutMask::draw(p, generator)?.apply_reference(x)
}

/// residual + dropout(x), or residual + x without a mask: the end of a residual branch.
///
/// # Shapes
/// residual, x and the result have the same shape.
///
/// # Gradient
/// dy for residual; for x as in [`dropout`].
///
/// # Errors
/// [`Error::Shape`] if the shapes differ; [`Error::DType`].
pub fn add_dropout(residual: &Tensor, x: &Tensor, mask: Option<DropoutMask>) -> Result<Tensor> {
    let expected = || format!("{:?}, the shape of `residual`", residual.dims());
    ensure_shape(residual.dims() == x.dims(), "add_dropout", "x", x, expected)?;
    if x.device().is_cpu() {
        apply2(AddDropoutOp { mask }, residual, x)
    } else {
        add_dropout_reference(residual, x, mask)
    }
}

/// [`add_dropout`] in tensor operations.
pub fn add_dropout_reference(residual: &Tensor, x: &Tensor, mask: Option<DropoutMask>) -> Result<Tensor> {
    Ok(match mask {
        Some(mask) => (residual + mask.apply_reference(x)?)?,
        None => (residual + x)?,
    })
}

/// The elements that dropout keeps, and their factor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DropoutMask {
    /// The halves of the seed.
    keys: [u32; 2],
    /// An element is kept if its hash is below this, which is (1−p)·2³².
    bound: u64,
    scale: f64,
}

impl DropoutMask {
    /// Draws the mask that [`dropout`] with probability `p` would use, from one number of `generator`.
    ///
    /// # Errors
    /// [`Error::Option`] unless 0 ≤ p ≤ 1.
    pub fn draw(p: f64, generator: &mut Generator) -> Result<Self> {
        check_probability(p, "dropout")?;
        let seed = generator.next_u64();
        Ok(Self {
            keys: [seed as u32, (seed >> 32) as u32],
            bound: ((1.0 - p) * 4_294_967_296.0).round() as u64,
            scale: if p < 1.0 { 1.0 / (1.0 - p) } else { 0.0 },
        })
    }

    /// [`dropout`] with this mask.
    fn drop_out(self, x: &Tensor) -> Result<Tensor> {
        if x.device().is_cpu() { apply1(self, x) } else { self.apply_reference(x) }
    }

    /// The keys of the elements from index `start` on; the low 32 bits of the index enter in the hash itself.
    fn keys_at(&self, start: u64) -> [u32; 2] {
        [self.keys[0] ^ hash((start >> 32) as u32), self.keys[1]]
    }

    /// Applies the mask to the elements of a tensor from index `start` on.
    pub(super) fn apply<T: Float>(&self, start: usize, mut x: &mut [T]) {
        let Some(highest) = self.bound.checked_sub(1) else { return x.fill(T::ZERO) };
        let mut start = start as u64;
        while !x.is_empty() {
            // Up to where the low 32 bits of the index wrap around.
            let end = x.len().min(((1 << 32) - (start & 0xffff_ffff)) as usize);
            let (now, later) = x.split_at_mut(end);
            mask(now, self.keys_at(start), start as u32, highest as u32, T::narrow(self.scale));
            (x, start) = (later, start + end as u64);
        }
    }

    /// A copy of x with the mask applied.
    fn applied<T: Float>(&self, x: &[T]) -> Vec<T> {
        // SAFETY: the copy writes every element.
        let (y, _) = unsafe { map_tasks([x], TASK, |start, [x], y| self.apply(start, y.write_copy_of_slice(x))) };
        y
    }

    pub(super) fn apply_reference(&self, x: &Tensor) -> Result<Tensor> {
        let keep = |i: usize| u64::from(element_hash(i as u32, self.keys_at(i as u64))) < self.bound;
        let factors: Vec<f64> = (0..x.elem_count()).map(|i| if keep(i) { self.scale } else { 0.0 }).collect();
        Ok(x.mul(&tensor_of(factors, x.shape(), x.dtype(), x.device())?)?)
    }
}

impl Op<1> for DropoutMask {
    const NAME: &'static str = "dropout";
    const INPUTS: [&'static str; 1] = ["x"];

    fn forward<T: Float>(&self, [x]: [Input<'_, T>; 1]) -> Result<(Vec<T>, Shape)> {
        Ok((self.applied(x.values), Shape::from(x.dims)))
    }

    fn backward<T: Float>(&self, pass: Backward<'_, T, 1>) -> Result<[Gradient<T>; 1]> {
        let Backward { gradient: dy, .. } = pass;
        Ok([Gradient::Values(self.applied(dy))])
    }
}

struct AddDropoutOp {
    mask: Option<DropoutMask>,
}

impl Op<2> for AddDropoutOp {
    const NAME: &'static str = "add_dropout";
    const INPUTS: [&'static str; 2] = ["residual", "x"];

    fn forward<T: Float>(&self, [residual, x]: [Input<'_, T>; 2]) -> Result<(Vec<T>, Shape)> {
        let map = |start: usize, [residual, x]: [&[T]; 2], y: &mut [MaybeUninit<T>]| {
            let y = y.write_copy_of_slice(x);
            if let Some(mask) = self.mask {
                mask.apply(start, y);
            }
            add(y, residual);
        };
        // SAFETY: the copy writes every element.
        let (y, _) = unsafe { map_tasks([residual.values, x.values], TASK, map) };
        Ok((y, Shape::from(x.dims)))
    }

    fn backward<T: Float>(&self, pass: Backward<'_, T, 2>) -> Result<[Gradient<T>; 2]> {
        let Backward { gradient: dy, wanted: [_, x_wanted], .. } = pass;
        let dx = match self.mask {
            Some(mask) => Gradient::when(x_wanted, || mask.applied(dy)),
            None => Gradient::Unchanged,
        };
        Ok([Gradient::Unchanged, dx])
    }
}

/// A bijection on 32-bit numbers in which each input bit flips about half of the output bits (C. Wellons, lowbias32).
#[inline(always)]
fn hash(x: u32) -> u32 {
    let x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    let x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// The hash of element `index`. Two rounds with a key each, or the masks of two seeds would be permutations of each other.
#[inline(always)]
fn element_hash(index: u32, keys: [u32; 2]) -> u32 {
    hash(hash(index ^ keys[0]).wrapping_add(keys[1]))
}

kernel! {
    /// Scales the elements whose hash is at most `highest` and zeroes the others.
    fn mask<const FMA: bool, T>(x: &mut [T], keys: [u32; 2], start: u32, highest: u32, scale: T) {
        for (i, x) in x.iter_mut().enumerate() {
            let keep = element_hash(start.wrapping_add(i as u32), keys) <= highest;
            *x *= if keep { scale } else { T::ZERO };
        }
    }
}

kernel! {
    fn add<const FMA: bool, T>(y: &mut [T], x: &[T]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y += x;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{
        Streams, testing,
        testing::kernels::{DTYPES, agree, output_and_gradient_bits, same_for_threads, strided, variable},
    };
    use candle_core::{DType, Device};

    fn generator(seed: u64) -> Generator {
        Streams::new(seed).generator("dropout/0/test")
    }

    fn ones(shape: impl Into<Shape>) -> Tensor {
        Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap()
    }

    #[test]
    fn equals_the_reference() {
        for (dtype, tolerance) in DTYPES {
            for p in [0.0, 0.1, 0.5, 1.0] {
                for shape in [(1, 1), (3, 17), (1, TASK), (3, TASK / 2 + 5)] {
                    let x = variable(shape, dtype, 1);
                    let (kernel, reference) =
                        (|| dropout(&x, p, &mut generator(7)), || dropout_reference(&x, p, &mut generator(7)));
                    agree("dropout", std::slice::from_ref(&x), tolerance, kernel, reference);
                }
            }
            let x = variable((5, 33), dtype, 2);
            let kernel = || dropout(&strided(&x), 0.5, &mut generator(7));
            let reference = || dropout_reference(&x, 0.5, &mut generator(7));
            agree("strided", std::slice::from_ref(&x), tolerance, kernel, reference);
        }
    }

    #[test]
    fn keeps_the_expected_share_and_the_mean() {
        for (seed, p) in [(1, 0.1), (2, 0.5), (3, 0.9)] {
            let n = 1_000_000;
            let y = dropout(&ones(n), p, &mut generator(seed)).unwrap().to_vec1::<f32>().unwrap();
            let kept = y.iter().filter(|&&v| v != 0.0).count() as f64 / n as f64;
            // Five standard deviations of a binomial share.
            let bound = 5.0 * (p * (1.0 - p) / n as f64).sqrt();
            assert!((kept - (1.0 - p)).abs() < bound, "p={p}: {kept} kept");
            let scale = (1.0 / (1.0 - p)) as f32;
            assert!(y.iter().all(|&v| v == 0.0 || v == scale));
            // Neighbors are independent: pairs that are both kept are as frequent as the product says.
            let pairs = y.windows(2).filter(|w| w[0] != 0.0 && w[1] != 0.0).count() as f64 / n as f64;
            let expected = (1.0 - p) * (1.0 - p);
            assert!((pairs - expected).abs() < 5.0 * (expected / n as f64).sqrt(), "p={p}: {pairs} pairs");
        }
    }

    #[test]
    fn the_mask_follows_from_the_generator() {
        let x = ones((64, 100));
        let draw =
            |seed| dropout(&x, 0.5, &mut generator(seed)).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(draw(1), draw(1));
        let differing = draw(1).iter().zip(draw(2)).filter(|(a, b)| **a != *b).count();
        assert!((2900..3500).contains(&differing), "{differing} of 6400 differ");
        let mut one = generator(1);
        let first = dropout(&x, 0.5, &mut one).unwrap();
        let second = dropout(&x, 0.5, &mut one).unwrap();
        assert_ne!(first.to_vec2::<f32>().unwrap(), second.to_vec2::<f32>().unwrap());
    }

    #[test]
    fn known_mask() {
        // Another mask for the same seed would change every result of a training with dropout.
        let y = dropout(&ones(32), 0.5, &mut generator(0)).unwrap().to_vec1::<f32>().unwrap();
        let mask = y.iter().fold(0u32, |bits, &v| bits << 1 | u32::from(v != 0.0));
        assert_eq!(mask, 0b0110_1001_1111_1000_1010_1000_0101_0111, "{mask:#034b}");
    }

    #[test]
    fn the_end_of_a_residual_branch() {
        for (dtype, tolerance) in DTYPES {
            for shape in [(1, 1), (3, 17), (3, TASK / 2 + 5)] {
                for p in [None, Some(0.0), Some(0.3), Some(1.0)] {
                    let x = [variable(shape, dtype, 1), variable(shape, dtype, 2)];
                    let mask = p.map(|p| DropoutMask::draw(p, &mut generator(3)).unwrap());
                    let kernel = || add_dropout(&x[0], &x[1], mask);
                    agree("add_dropout", &x, tolerance, kernel, || add_dropout_reference(&x[0], &x[1], mask));
                    let one = || add_dropout(&strided(&x[0]), &x[0], mask);
                    agree("twice the same", &x[..1], tolerance, one, || add_dropout_reference(&x[0], &x[0], mask));
                }
            }
        }
        let x = [variable((3, 7), DType::F64, 3), variable((3, 7), DType::F64, 4)];
        let mask = DropoutMask::draw(0.5, &mut generator(5)).unwrap();
        testing::gradients("add_dropout", &x, || add_dropout(&x[0], &x[1], Some(mask)), 1e-7).unwrap();
        let line = add_dropout(&x[0], &ones(3), None).unwrap_err().to_string();
        assert!(line.contains("add_dropout: `x` has shape [3]; expected [3, 7], the shape of `residual`"), "{line}");
    }

    /// Masking part by part equals masking the whole, also across index 2³².
    #[test]
    fn parts_make_the_whole() {
        let mask = DropoutMask::draw(0.5, &mut generator(1)).unwrap();
        for start in [0usize, (1 << 32) - 50] {
            let mut whole = [1f32; 100];
            mask.apply(start, &mut whole);
            let mut parts = [1f32; 100];
            for (i, part) in parts.chunks_mut(10).enumerate() {
                mask.apply(start + 10 * i, part);
            }
            assert_eq!(whole, parts);
            assert!((30..70).contains(&whole.iter().filter(|&&v| v != 0.0).count()));
        }
    }

    #[test]
    fn invalid_probabilities_are_refused() {
        for p in [-0.1, 1.5, f64::NAN] {
            let line = dropout(&ones(3), p, &mut generator(1)).unwrap_err().to_string();
            assert!(line.contains("dropout") && line.contains("from 0 to 1"), "{line}");
        }
    }

    #[test]
    fn gradient_and_threads() {
        let x = variable((3, 7), DType::F64, 3);
        let f = || dropout(&x, 0.5, &mut generator(5));
        testing::gradients("dropout", std::slice::from_ref(&x), f, 1e-7).unwrap();
        let x = variable((5, TASK / 2), DType::F32, 4);
        let f = || dropout(&x, 0.5, &mut generator(5));
        same_for_threads("dropout", || output_and_gradient_bits(std::slice::from_ref(&x), f));
    }
}
