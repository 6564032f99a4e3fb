//! Means over the runs of each row, and what they say about the claims.

use crate::experiment::{Claim, Family, Preset, Row, Training};
use crate::plan::Plan;
use crate::run_folder::{Record, RunResult};

/// The contents of a report: every row of the plan with its finished runs.
pub struct Summary<'a> {
    /// The preset's name.
    pub name: &'a str,
    /// What the preset is for.
    pub preset: &'a Preset,
    /// The families in order.
    pub families: Vec<FamilySummary<'a>>,
}

/// A family with its rows and claims.
pub struct FamilySummary<'a> {
    /// The family.
    pub family: &'a Family,
    /// How we trained it.
    pub training: &'a Training,
    /// The rows in order, including those without a finished run.
    pub rows: Vec<RowSummary<'a>>,
    /// The claims in order.
    pub verdicts: Vec<(&'a Claim, Verdict)>,
}

/// A row and its finished runs.
pub struct RowSummary<'a> {
    /// The row.
    pub row: &'a Row,
    /// Finished runs, by seed.
    pub records: Vec<&'a Record>,
    /// Number of planned runs.
    pub planned: usize,
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

/// What the runs say about a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The difference is above zero with 95 % confidence.
    Holds(Difference),
    /// The difference is below zero with 95 % confidence.
    DoesNotHold(Difference),
    /// Neither, for the given reason.
    NotDecidable(&'static str),
}

/// The difference of two means, in points of test top-1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The mean of the row claimed to be better, minus that of the other.
    pub mean: f64,
    /// Half the width of the 95 % interval.
    pub margin: f64,
}

impl<'a> Summary<'a> {
    /// Assigns `records` to the rows of `plan`.
    pub fn new(plan: &Plan<'a>, records: &'a [Record]) -> Self {
        let families = plan.families().into_iter().filter_map(|family| {
            let training = family.presets.get(plan.name)?;
            let rows: Vec<_> = family.rows.iter().map(|row| row_summary(plan, family, row, records)).collect();
            let verdicts = family.claims.iter().map(|claim| (claim, judge(claim, &rows, plan.preset)));
            Some(FamilySummary { family, training, verdicts: verdicts.collect(), rows })
        });
        Self { name: plan.name, preset: plan.preset, families: families.collect() }
    }

    /// All finished runs.
    pub fn records(&self) -> impl Iterator<Item = &'a Record> {
        let rows = self.families.iter().flat_map(|family| &family.rows);
        rows.flat_map(|row| row.records.iter().copied())
    }
}

impl RowSummary<'_> {
    /// The mean of a figure over the finished runs; `None` if there are none.
    pub fn mean(&self, figure: impl Fn(&RunResult) -> f64) -> Option<Mean> {
        let values: Vec<f64> = self.records.iter().map(|record| figure(&record.result)).collect();
        Mean::of(&values)
    }

    /// Mean test top-1 of the final epoch, in percent.
    pub fn top1(&self) -> Option<Mean> {
        self.mean(|result| result.last.top1)
    }
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

fn row_summary<'a>(plan: &Plan<'a>, family: &Family, row: &'a Row, records: &'a [Record]) -> RowSummary<'a> {
    let planned = (plan.runs.iter()).filter(|run| run.family.id == family.id && run.row.id == row.id);
    let ids: Vec<&str> = planned.map(|run| run.id.as_str()).collect();
    RowSummary {
        row,
        records: records.iter().filter(|record| ids.contains(&record.id.as_str())).collect(),
        planned: ids.len(),
    }
}

fn judge(claim: &Claim, rows: &[RowSummary], preset: &Preset) -> Verdict {
    let top1 = |id: &str| rows.iter().find(|row| row.row.id == id).and_then(RowSummary::top1);
    let (Some(better), Some(worse)) = (top1(&claim.better), top1(&claim.worse)) else {
        return Verdict::NotDecidable("a run is missing");
    };
    if !preset.verdicts {
        return Verdict::NotDecidable("too little training");
    }
    match difference(better, worse) {
        None => Verdict::NotDecidable("only one seed; --seeds 3 gives a spread"),
        Some(found) if found.mean - found.margin > 0.0 => Verdict::Holds(found),
        Some(found) if found.mean + found.margin < 0.0 => Verdict::DoesNotHold(found),
        Some(_) => Verdict::NotDecidable("the difference is within the spread over seeds"),
    }
}

/// The 95 % interval of the difference of two means with unequal variances, using the degrees of freedom of the smaller
/// sample (never narrower than Welch's). `None` if a mean has no spread.
fn difference(better: Mean, worse: Mean) -> Option<Difference> {
    /// Two-sided 95 % quantiles of Student's t for 1, 2, … degrees of freedom.
    const T: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    let variance = better.sd?.powi(2) / better.n as f64 + worse.sd?.powi(2) / worse.n as f64;
    let freedom = better.n.min(worse.n) - 1;
    Some(Difference { mean: better.mean - worse.mean, margin: T[freedom.min(T.len()) - 1] * variance.sqrt() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn mean_and_spread() {
        let mean = Mean::of(&[2.0, 4.0, 6.0]).unwrap();
        assert_eq!((mean.mean, mean.sd, mean.n), (4.0, Some(2.0), 3));
        assert_eq!(Mean::of(&[3.0]).unwrap().sd, None);
        assert_eq!(Mean::of(&[]), None);
    }

    #[test]
    fn an_interval_needs_two_runs_per_row() {
        let [one, three] = [&[80.0][..], &[80.0, 81.0, 82.0]].map(|values| Mean::of(values).unwrap());
        assert_eq!(difference(three, one), None);
        // sd 1, n 3 on both sides: t(2) · √(1/3 + 1/3) = 4.303 · 0.8165.
        let found = difference(three, Mean { mean: 70.0, ..three }).unwrap();
        assert_eq!(found.mean, 11.0);
        assert!((found.margin - 3.513).abs() < 1e-3, "{}", found.margin);
    }
}
