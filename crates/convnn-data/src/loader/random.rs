//! Uniform, normal and beta-distributed numbers, and permutations.
//!
//! Own code, because these decide the batches of every seed: the sampling methods of the `rand` crate may change in a
//! minor version, and those of convnn-core draw other numbers (and this crate does not depend on it).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

/// A uniform integer in 0..n; draws that would favor small numbers are rejected.
pub(crate) fn below(generator: &mut ChaCha8Rng, n: u32) -> u32 {
    let excess = (u32::MAX % n + 1) % n;
    loop {
        let draw = generator.next_u32();
        if draw <= u32::MAX - excess {
            return draw % n;
        }
    }
}

/// A uniform permutation of 0..n (Fisher–Yates).
pub(crate) fn permutation(generator: &mut ChaCha8Rng, n: u32) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n).collect();
    for last in (1..n).rev() {
        order.swap(last as usize, below(generator, last + 1) as usize);
    }
    order
}

/// A uniform number in 0..1, with 53 random bits.
pub(crate) fn unit(generator: &mut ChaCha8Rng) -> f64 {
    (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// A uniform number in `range`.
pub(crate) fn between(generator: &mut ChaCha8Rng, range: [f64; 2]) -> f64 {
    range[0] + (range[1] - range[0]) * unit(generator)
}

/// A standard normal number (Box–Muller, without keeping the second one).
pub(crate) fn normal(generator: &mut ChaCha8Rng) -> f64 {
    let radius = (-2. * (1. - unit(generator)).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit(generator)).cos()
}

/// A number with the beta distribution of both parameters `alpha`, above 0.
pub(crate) fn beta(generator: &mut ChaCha8Rng, alpha: f64) -> f64 {
    let (x, y) = (log_gamma_variate(generator, alpha), log_gamma_variate(generator, alpha));
    1. / (1. + (y - x).exp())
}

/// The logarithm of a number with the gamma distribution (Marsaglia and Tsang, 2000): the number itself underflows for a
/// small `shape`.
fn log_gamma_variate(generator: &mut ChaCha8Rng, shape: f64) -> f64 {
    if shape < 1. {
        let boost = (1. - unit(generator)).ln() / shape;
        return boost + log_gamma_variate(generator, shape + 1.);
    }
    let d = shape - 1. / 3.;
    let c = 1. / (9. * d).sqrt();
    loop {
        let x = normal(generator);
        let v = (1. + c * x).powi(3);
        if v > 0. && (1. - unit(generator)).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return (d * v).ln();
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn integers_are_uniform() {
        let mut generator = ChaCha8Rng::seed_from_u64(1);
        let mut counts = [0u32; 9];
        for _ in 0..90_000 {
            counts[below(&mut generator, 9) as usize] += 1;
        }
        // Six standard deviations of a binomial with n = 90,000 and p = 1/9 are 566.
        assert!(counts.iter().all(|&count| count.abs_diff(10_000) < 566), "{counts:?}");
        assert_eq!(below(&mut generator, 1), 0);
    }

    #[test]
    fn permutations_are_uniform() {
        let mut generator = ChaCha8Rng::seed_from_u64(2);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..6_000 {
            *counts.entry(permutation(&mut generator, 3)).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 6, "3! permutations of 3");
        // Six standard deviations are 173.
        assert!(counts.values().all(|&count| count.abs_diff(1_000) < 173), "{counts:?}");
    }

    #[test]
    fn draws_of_a_seed_never_change() {
        let mut generator = ChaCha8Rng::seed_from_u64(3);
        assert_eq!(permutation(&mut generator, 8), [1, 7, 3, 4, 0, 6, 2, 5]);
        assert!(permutation(&mut generator, 0).is_empty());
    }

    /// Mean and variance of 40,000 draws.
    fn moments(mut draw: impl FnMut(&mut ChaCha8Rng) -> f64) -> (f64, f64) {
        let mut generator = ChaCha8Rng::seed_from_u64(5);
        let draws: Vec<f64> = (0..40_000).map(|_| draw(&mut generator)).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        (mean, draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / draws.len() as f64)
    }

    #[test]
    fn distributions_have_their_means_and_variances() {
        let close = |found: (f64, f64), mean: f64, variance: f64| {
            // Six standard deviations of the mean; the variance within a tenth.
            let deviation = 6. * (variance / 40_000.).sqrt();
            assert!((found.0 - mean).abs() < deviation, "mean {} instead of {mean}", found.0);
            assert!((found.1 / variance - 1.).abs() < 0.1, "variance {} instead of {variance}", found.1);
        };
        close(moments(unit), 0.5, 1. / 12.);
        close(moments(normal), 0., 1.);
        for alpha in [0.1, 0.2, 1., 4.] {
            close(moments(|generator| beta(generator, alpha)), 0.5, 0.25 / (2. * alpha + 1.));
        }
        let mut generator = ChaCha8Rng::seed_from_u64(6);
        assert!((0..1000).map(|_| beta(&mut generator, 1e-3)).all(|share| (0. ..=1.).contains(&share)));
    }
}
