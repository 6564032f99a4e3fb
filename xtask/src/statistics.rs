//! Differences between rows, and how sure they are.
//!
//! Runs with the same seed share the order of the images and the random numbers of the initial weights, so the rows of a family
//! are compared within seeds: the seeds are blocks, and what is left after the effects of rows and of seeds are taken out is the
//! spread of a single run. All rows estimate it together, which makes it much better known than from two or three runs of each.

use std::collections::{BTreeMap, BTreeSet};

/// The top-1 of a row, by seed: `None` where the run is missing.
pub type Scores = Vec<Option<f64>>;

/// The spread of a single run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Standard deviation.
    pub sd: f64,
    /// Degrees of freedom.
    pub freedom: usize,
}

/// A difference of means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The difference.
    pub mean: f64,
    /// Half the width of its 95 % interval.
    pub margin: f64,
    /// Seeds that the difference is the mean of.
    pub seeds: usize,
    /// The standard deviation of the difference for one seed, in single runs: √(Σ weights²).
    weight: f64,
    sd: f64,
    rows: usize,
}

/// A mean over seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// The sample standard deviation (n − 1); `None` for a single run.
    pub sd: Option<f64>,
    /// Number of runs.
    pub n: usize,
}

impl Mean {
    /// The mean of `values`; `None` if there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let sd = (n > 1).then(|| (squares / (n - 1) as f64).sqrt());
        Some(Self { mean, sd, n })
    }
}

impl Spread {
    /// The spread of single runs around the effects of rows and seeds, fitted by least squares to the runs that there are;
    /// `None` if no two rows have two seeds in common, even by way of others.
    pub fn of(rows: &[Scores]) -> Option<Self> {
        let mut cells: Vec<Cell> = Vec::new();
        for (row, scores) in rows.iter().enumerate() {
            let scores = scores.iter().enumerate().filter_map(|(seed, score)| Some((seed, (*score)?)));
            cells.extend(scores.map(|(seed, left)| Cell { row, seed, left }));
        }
        let freedom = cells.len() - effects(&cells);
        if freedom == 0 {
            return None;
        }
        // Taking out the means of rows and of seeds in turn ends at the least squares. Complete tables need one round.
        for _ in 0..10_000 {
            if take_out(&mut cells, |cell| cell.row).max(take_out(&mut cells, |cell| cell.seed)) < 1e-12 {
                break;
            }
        }
        let squares: f64 = cells.iter().map(|cell| cell.left.powi(2)).sum();
        Some(Self { sd: (squares / freedom as f64).sqrt(), freedom })
    }
}

/// A run, and what is left of its score.
struct Cell {
    row: usize,
    seed: usize,
    left: f64,
}

/// Takes out the mean of every group of cells, and returns the largest of them.
fn take_out(cells: &mut [Cell], group: impl Fn(&Cell) -> usize) -> f64 {
    let mut groups: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
    for cell in &*cells {
        let (sum, count) = groups.entry(group(cell)).or_default();
        *sum += cell.left;
        *count += 1.0;
    }
    for cell in cells {
        let (sum, count) = groups[&group(cell)];
        cell.left -= sum / count;
    }
    groups.values().map(|(sum, count)| (sum / count).abs()).fold(0.0, f64::max)
}

/// The number of independent effects of rows and seeds: all of them, less one for each part of the table that shares neither
/// rows nor seeds with the rest.
fn effects(cells: &[Cell]) -> usize {
    let rows: BTreeSet<usize> = cells.iter().map(|cell| cell.row).collect();
    let seeds: BTreeSet<usize> = cells.iter().map(|cell| cell.seed).collect();
    let mut part: BTreeMap<usize, usize> = rows.iter().map(|&row| (row, row)).collect();
    for &seed in &seeds {
        let joined: BTreeSet<usize> =
            cells.iter().filter(|cell| cell.seed == seed).map(|cell| part[&cell.row]).collect();
        let first = joined.first().copied().unwrap_or_default();
        part.values_mut().filter(|part| joined.contains(part)).for_each(|part| *part = first);
    }
    rows.len() + seeds.len() - part.values().collect::<BTreeSet<_>>().len()
}

impl Difference {
    /// The mean of `better` minus that of `worse`, over the seeds that all of them have; `None` if there is no such seed.
    pub fn of(better: &[&Scores], worse: &Scores, spread: Spread, rows: usize) -> Option<Self> {
        let by_seed: Vec<f64> = (0..worse.len())
            .filter_map(|seed| {
                let better: Vec<f64> =
                    better.iter().map(|row| row.get(seed).copied().flatten()).collect::<Option<_>>()?;
                Some(better.iter().sum::<f64>() / better.len() as f64 - worse[seed]?)
            })
            .collect();
        let seeds = by_seed.len();
        let mean = Mean::of(&by_seed)?.mean;
        let weight = (1.0 + 1.0 / better.len() as f64).sqrt();
        let margin = quantile(spread.freedom) * spread.sd * weight / (seeds as f64).sqrt();
        Some(Self { mean, margin, seeds, weight, sd: spread.sd, rows })
    }

    /// The number of seeds at which a difference of this size would be outside the interval; `None` beyond a hundred.
    pub fn seeds_to_decide(&self) -> Option<usize> {
        (2..=100).find(|&seeds| {
            let freedom = (self.rows.max(2) - 1) * (seeds - 1);
            quantile(freedom) * self.sd * self.weight / (seeds as f64).sqrt() < self.mean.abs()
        })
    }
}

/// The two-sided 95 % quantile of Student's t.
fn quantile(freedom: usize) -> f64 {
    const T: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
        2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
    ];
    match T.get(freedom.max(1) - 1) {
        Some(&t) => t,
        // Cornish–Fisher, correct to three decimals from here on.
        None => 1.960 + 2.372 / freedom as f64 + 2.8 / (freedom as f64).powi(2),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn row(scores: &[f64]) -> Scores {
        scores.iter().copied().map(Some).collect()
    }

    #[test]
    fn mean_and_spread() {
        let mean = Mean::of(&[2.0, 4.0, 6.0]).unwrap();
        assert_eq!((mean.mean, mean.sd, mean.n), (4.0, Some(2.0), 3));
        assert_eq!(Mean::of(&[3.0]).unwrap().sd, None);
        assert_eq!(Mean::of(&[]), None);
    }

    #[test]
    fn the_effect_of_a_seed_is_no_spread() {
        // The second seed is 5 better in every row; beyond that only ±0.1 is left, in a pattern of sum zero.
        let rows = [row(&[70.1, 74.9, 70.0]), row(&[79.9, 85.1, 80.0]), row(&[60.0, 65.0, 60.0])];
        let spread = Spread::of(&rows).unwrap();
        assert_eq!(spread.freedom, 4);
        assert!((spread.sd - 0.1).abs() < 1e-9, "{}", spread.sd);
        let found = Difference::of(&[&rows[1]], &rows[0], spread, 3).unwrap();
        assert!((found.mean - 10.0).abs() < 1e-9, "{}", found.mean);
        // t(4) · 0.1 · √2 / √3
        assert!((found.margin - 2.776 * 0.1 * (2f64 / 3.0).sqrt()).abs() < 1e-9);
    }

    #[test]
    fn rows_and_seeds_that_others_lack_add_no_spread() {
        let same = |found: &[Scores], expected: &[Scores]| {
            let (found, expected) = (Spread::of(found).unwrap(), Spread::of(expected).unwrap());
            assert_eq!(found.freedom, expected.freedom);
            assert!((found.sd - expected.sd).abs() < 1e-9, "{found:?}, expected {expected:?}");
        };
        let cut = |scores: [f64; 2]| vec![Some(scores[0]), Some(scores[1]), None];
        let rows = [cut([70.1, 74.9]), cut([79.9, 85.1]), row(&[60.0, 65.0, 90.0]), vec![Some(1.0), None, None]];
        same(&rows, &[row(&[70.1, 74.9]), row(&[79.9, 85.1]), row(&[60.0, 65.0])]);
        // Neither of these has the other's seeds, but they have two in common.
        let rows = [vec![Some(1.0), Some(2.0), Some(3.0), None], vec![None, Some(4.0), Some(6.0), Some(5.0)]];
        same(&rows, &[row(&[2.0, 3.0]), row(&[4.0, 6.0])]);
    }

    #[test]
    fn every_run_of_an_incomplete_table_counts() {
        // Rows of 10, 20 and 30, seeds of 0, 1 and 2, and a pattern; one run is missing.
        let rows = [row(&[10.1, 10.9, 12.0]), row(&[19.9, 21.1, 22.0]), vec![Some(30.0), Some(31.0), None]];
        let spread = Spread::of(&rows).unwrap();
        assert_eq!(spread.freedom, 8 - 5);
        // The pattern of ±0.1 sums to zero over every row and every seed, so it is what is left.
        assert!((spread.sd - (0.04f64 / 3.0).sqrt()).abs() < 1e-9, "{}", spread.sd);
        let reversed: Vec<Scores> = rows.iter().rev().cloned().collect();
        assert!((Spread::of(&reversed).unwrap().sd - spread.sd).abs() < 1e-12);
        // Two tables without a common row or seed.
        let apart = [
            vec![Some(1.0), Some(2.0), None, None],
            vec![Some(2.0), Some(3.2), None, None],
            vec![None, None, Some(5.0), Some(6.0)],
            vec![None, None, Some(7.0), Some(8.4)],
        ];
        assert_eq!(Spread::of(&apart).unwrap().freedom, 2);
    }

    #[test]
    fn incomplete_rows_and_single_seeds_give_no_spread() {
        assert_eq!(Spread::of(&[row(&[1.0]), row(&[2.0])]), None);
        assert_eq!(Spread::of(&[row(&[1.0, 2.0]), vec![Some(1.0), None]]), None);
        let spread = Spread { sd: 1.0, freedom: 40 };
        assert_eq!(Difference::of(&[&vec![None]], &row(&[1.0]), spread, 2), None);
        // Several rows against one: √(1 + 1/3) single runs.
        let many = [row(&[4.0]), row(&[5.0]), row(&[6.0])];
        let found = Difference::of(&many.iter().collect::<Vec<_>>(), &row(&[1.0]), spread, 4).unwrap();
        assert_eq!((found.mean, found.seeds), (4.0, 1));
        assert!((found.margin - quantile(40) * (4f64 / 3.0).sqrt()).abs() < 1e-9);
    }

    #[test]
    fn the_seeds_that_would_decide_are_the_fewest_that_do() {
        let spread = Spread { sd: 0.5, freedom: 8 };
        let found = Difference::of(&[&row(&[70.6, 70.2, 70.4])], &row(&[70.1, 70.0, 70.0]), spread, 5).unwrap();
        assert!(found.mean < found.margin);
        let seeds = found.seeds_to_decide().unwrap();
        let margin = |seeds: usize| quantile(4 * (seeds - 1)) * 0.5 * 2f64.sqrt() / (seeds as f64).sqrt();
        assert!(margin(seeds) < found.mean && margin(seeds - 1) >= found.mean, "{seeds}");
        let none = Difference::of(&[&row(&[1.0])], &row(&[1.0]), spread, 5).unwrap();
        assert_eq!(none.seeds_to_decide(), None);
    }

    #[test]
    fn quantiles_fall_to_that_of_the_normal_distribution() {
        assert!((quantile(40) - 2.021).abs() < 2e-3 && (quantile(120) - 1.980).abs() < 2e-3);
        assert!(quantile(30) > quantile(31) && quantile(10_000) > 1.960);
    }
}
