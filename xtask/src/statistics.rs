//! Differences between rows, and how sure they are.
//!
//! Runs with the same seed share the order of the images and the random numbers of the initial weights, so the rows of a family
//! are compared within seeds: the seeds are blocks, and what is left after the means of rows and of seeds are taken out is the
//! spread of a single run. All rows estimate it together, which makes it much better known than from two or three runs of each.

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
    /// The spread of single runs around the means of rows and seeds, from the rows and seeds that give the most degrees of
    /// freedom; `None` if no two rows have two seeds in common.
    pub fn of(rows: &[Scores]) -> Option<Self> {
        let complete = complete_tables(rows).max_by_key(|table| freedom(table))?;
        let (r, s) = (complete.len(), complete[0].len());
        if freedom(&complete) == 0 {
            return None;
        }
        let all: f64 = complete.iter().flatten().sum::<f64>() / (r * s) as f64;
        let row_mean = |row: &[f64]| row.iter().sum::<f64>() / s as f64;
        let seed_mean = |seed: usize| complete.iter().map(|row| row[seed]).sum::<f64>() / r as f64;
        let mut squares = 0.0;
        for row in &complete {
            for (seed, score) in row.iter().enumerate() {
                squares += (score - row_mean(row) - seed_mean(seed) + all).powi(2);
            }
        }
        let freedom = freedom(&complete);
        Some(Self { sd: (squares / freedom as f64).sqrt(), freedom })
    }
}

/// For the seeds that a row and another have in common: the scores of every row that has them all.
fn complete_tables(rows: &[Scores]) -> impl Iterator<Item = Vec<Vec<f64>>> {
    let score = |row: &Scores, seed: usize| row.get(seed).copied().flatten();
    let pairs = rows.iter().enumerate().flat_map(|(index, a)| rows[index + 1..].iter().map(move |b| (a, b)));
    pairs.map(move |(a, b)| {
        let seeds: Vec<usize> =
            (0..a.len()).filter(|&seed| score(a, seed).is_some() && score(b, seed).is_some()).collect();
        let scores = |row: &Scores| seeds.iter().map(|&seed| score(row, seed)).collect::<Option<_>>();
        rows.iter().filter_map(scores).collect()
    })
}

/// Degrees of freedom of what is left of a table of rows by seeds.
fn freedom(table: &[Vec<f64>]) -> usize {
    (table.len() - 1) * table[0].len().saturating_sub(1)
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
    fn seeds_that_some_rows_lack_are_left_out_of_the_spread() {
        let cut = |scores: [f64; 2]| vec![Some(scores[0]), Some(scores[1]), None];
        let rows = [cut([70.1, 74.9]), cut([79.9, 85.1]), row(&[60.0, 65.0, 90.0]), vec![Some(1.0), None, None]];
        let found = Spread::of(&rows).unwrap();
        assert_eq!(found.freedom, 2);
        assert_eq!(Some(found), Spread::of(&[row(&[70.1, 74.9]), row(&[79.9, 85.1]), row(&[60.0, 65.0])]));
        // Neither of these has the other's seeds, but they have two in common.
        let rows = [vec![Some(1.0), Some(2.0), Some(3.0), None], vec![None, Some(4.0), Some(6.0), Some(5.0)]];
        assert_eq!(Spread::of(&rows), Spread::of(&[row(&[2.0, 3.0]), row(&[4.0, 6.0])]));
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
