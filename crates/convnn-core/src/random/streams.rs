//! Seeded random streams: ChaCha8 with the seed as key and a name as stream.
//!
//! A stream depends on the seed and its name alone, never on what was drawn elsewhere, so that a run gives the same
//! bits for any number of threads and after any stop and resume. Names in use: `init/<parameter path>`,
//! `order/<epoch>`, `augment/<epoch>/<image>`, `dropout/<step>/<layer>`, `candidates/<step>/<layer>`.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// The generator behind every stream.
pub type Generator = ChaCha8Rng;

/// The streams of one seed.
///
/// ```
/// use convnn_core::random::streams::{Streams, uniform};
/// let streams = Streams::new(42);
/// let mut a = streams.generator("order/0");
/// let mut b = streams.generator("order/0");
/// assert_eq!(uniform(&mut a), uniform(&mut b));
/// assert_ne!(uniform(&mut a), uniform(&mut streams.generator("order/1")));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Streams {
    seed: u64,
}

impl Streams {
    /// The streams of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The seed.
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// A fresh generator at the start of the stream `name`.
    pub fn generator(&self, name: &str) -> Generator {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        let mut generator = Generator::from_seed(key);
        let digest = Sha256::digest(name.as_bytes());
        let stream = digest.iter().take(8).rev().fold(0, |n, &byte| n << 8 | u64::from(byte));
        generator.set_stream(stream);
        generator
    }
}

/// A number drawn uniformly from [0, 1), a multiple of 2⁻⁵³.
pub fn uniform(generator: &mut Generator) -> f64 {
    (generator.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// A number drawn from the standard normal distribution (Box–Muller).
pub fn normal(generator: &mut Generator) -> f64 {
    let radius = (-2.0 * (1.0 - uniform(generator)).ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform(generator)).cos()
}

/// A whole number drawn uniformly from 0 to `n` − 1; 0 where `n` is 0.
pub fn below(generator: &mut Generator, n: usize) -> usize {
    // Multiply and shift: the bias is at most n / 2⁶⁴.
    ((u128::from(generator.next_u64()) * n as u128) >> 64) as usize
}

/// The first `count` entries of a random permutation of 0 … `n` − 1 (Fisher–Yates).
///
/// `count` larger than `n` gives all `n`.
pub fn sample(generator: &mut Generator, n: usize, count: usize) -> Vec<u32> {
    let count = count.min(n);
    let mut items: Vec<u32> = (0..n as u32).collect();
    for i in 0..count {
        let j = i + below(generator, n - i);
        items.swap(i, j);
    }
    items.truncate(count);
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_those_of_the_first_release() {
        let mut g = Streams::new(42).generator("init/classifier.weight");
        let drawn: Vec<u64> = (0..2).map(|_| g.next_u64()).collect();
        assert_eq!(drawn, FIRST_BITS, "a change here changes every initial value and every run");
    }
    const FIRST_BITS: [u64; 2] = [3_998_988_602_659_278_386, 2_474_022_030_490_862_842];

    #[test]
    fn moments() {
        let mut g = Streams::new(1).generator("test");
        let n = 100_000;
        let draws: Vec<f64> = (0..n).map(|_| normal(&mut g)).collect();
        let mean = draws.iter().sum::<f64>() / n as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.015 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }

    #[test]
    fn a_sample_holds_each_once_and_reaches_all() {
        let mut g = Streams::new(1).generator("test");
        let mut all = sample(&mut g, 50, 50);
        all.sort_unstable();
        assert_eq!(all, (0..50).collect::<Vec<_>>());
        assert_eq!(sample(&mut g, 5, 9).len(), 5);
        let mut seen = [0usize; 7];
        for _ in 0..7000 {
            for i in sample(&mut g, 7, 2) {
                seen[i as usize] += 1;
            }
        }
        assert!(seen.iter().all(|&n| (1800..2200).contains(&n)), "{seen:?}");
    }
}
