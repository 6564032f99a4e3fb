//! Uniform integers and permutations.
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
}
