//! What the finished runs say: means over seeds, and verdicts on the claims.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use crate::experiments::{Budget, Claim, DATASET, Family, Row, Selector, Training};
use crate::plan::{Plan, Planned};
use crate::run_folder::{Record, RunResult};
use crate::statistics::{Difference, Mean, Scores, Spread};

/// The contents of a report: every row of the plan with its finished runs.
pub struct Summary<'a> {
    /// The budget's name.
    pub name: &'a str,
    /// What the budget is for.
    pub budget: &'a Budget,
    /// The families in order.
    pub families: Vec<FamilySummary<'a>>,
    /// The finished runs, in order and once each.
    pub records: Vec<&'a Record>,
    /// How many runs are planned. One that several rows share counts once.
    pub planned: usize,
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
    pub verdicts: Vec<Judged<'a>>,
    /// Which axes have more than one value.
    pub varies: Vec<bool>,
}

/// A row and its finished runs.
pub struct RowSummary<'a> {
    /// The row.
    pub row: &'a Row,
    /// The runs by seed; `None` where one is not finished.
    pub runs: Vec<Option<&'a Record>>,
}

/// A claim about some rows, and what the runs say about it.
pub struct Judged<'a> {
    /// The claim.
    pub claim: &'a Claim,
    /// The values of the axes that the claim leaves open, such as the data set.
    pub about: String,
    /// What was published, in points: the difference for each row claimed to be worse.
    pub published: Vec<Option<f64>>,
    /// What the runs say.
    pub verdict: Verdict,
}

/// What the runs say about a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Every difference is above zero with 95 % confidence.
    Holds(Vec<Difference>),
    /// A difference is below zero with 95 % confidence.
    DoesNotHold(Vec<Difference>),
    /// Neither.
    NotDecidable(Vec<Difference>),
    /// Runs are missing, or the budget is too small to tell.
    Open(&'static str),
}

/// The records of the runs by id.
pub type Records = BTreeMap<String, Record>;

/// The ids of the runs of each row by seed, by family and row.
pub type RunIds = BTreeMap<(String, String), Vec<String>>;

impl<'a> Summary<'a> {
    /// Assigns `records` to the rows of `plan`.
    pub fn new(plan: &'a Plan<'a>, ids: &RunIds, records: &'a Records) -> Result<Self> {
        let mut families = Vec::new();
        let mut used = Vec::new();
        for planned in &plan.families {
            let rows: Vec<_> = planned.rows.iter().map(|row| RowSummary::new(planned, row, ids, records)).collect();
            for record in rows.iter().flat_map(|row| row.runs.iter().flatten()) {
                if !used.iter().any(|other: &&Record| other.id == record.id) {
                    used.push(*record);
                }
            }
            families.push(FamilySummary {
                verdicts: judge(planned, &rows, plan.budget)?,
                family: planned.family,
                training: planned.training,
                varies: (0..planned.family.axes.len()).map(|axis| planned.varies(axis)).collect(),
                rows,
            });
        }
        let rows = families.iter().flat_map(|family| family.rows.iter().map(|row| (family.family, row)));
        let known =
            rows.clone().filter_map(|(family, row)| ids.get(&(family.id.clone(), row.row.id.clone()))).flatten();
        let shared = known.clone().count() - known.collect::<BTreeSet<_>>().len();
        let planned = rows.map(|(_, row)| row.runs.len()).sum::<usize>() - shared;
        Ok(Self { name: plan.name, budget: plan.budget, families, records: used, planned })
    }
}

impl<'a> RowSummary<'a> {
    fn new(planned: &'a Planned, row: &'a Row, ids: &RunIds, records: &'a Records) -> Self {
        let ids = ids.get(&(planned.family.id.clone(), row.id.clone()));
        let runs = (0..planned.seeds as usize).map(|seed| records.get(ids?.get(seed)?)).collect();
        Self { row, runs }
    }

    /// The finished runs.
    pub fn records(&self) -> impl Iterator<Item = &'a Record> {
        self.runs.iter().copied().flatten()
    }

    /// The mean of a figure over the finished runs; `None` if there are none.
    pub fn mean(&self, figure: impl Fn(&RunResult) -> f64) -> Option<Mean> {
        let values: Vec<f64> = self.records().map(|record| figure(&record.result)).collect();
        Mean::of(&values)
    }

    /// Mean test top-1 of the final epoch, in percent.
    pub fn top1(&self) -> Option<Mean> {
        self.mean(|result| result.last.top1)
    }

    fn scores(&self) -> Scores {
        self.runs.iter().map(|run| run.map(|record| record.result.last.top1)).collect()
    }
}

/// Judges every claim for every combination of values on the axes that it does not name.
fn judge<'a>(planned: &Planned<'a>, rows: &[RowSummary], budget: &Budget) -> Result<Vec<Judged<'a>>> {
    let family = planned.family;
    let published = |row: &Row| row.published.as_ref().map(|published| published.top1);
    let mut verdicts = Vec::new();
    for claim in &family.claims {
        let named =
            |axis: &str| claim.better.contains_key(axis) || claim.worse.iter().any(|worse| worse.contains_key(axis));
        let mut seen: Vec<Vec<usize>> = Vec::new();
        for row in rows {
            let open: Vec<usize> = (0..family.axes.len()).filter(|&axis| !named(&family.axes[axis].name)).collect();
            let values: Vec<usize> = open.iter().map(|&axis| row.row.values[axis]).collect();
            if seen.contains(&values) || !family.matches(&row.row.values, &claim.only)? {
                continue;
            }
            let group: Vec<&RowSummary> = rows
                .iter()
                .filter(|other| open.iter().zip(&values).all(|(&axis, &value)| other.row.values[axis] == value))
                .collect();
            seen.push(values);
            let mut all_planned = true;
            let mut find = |selector: &Selector| -> Result<Vec<&RowSummary>> {
                let mut found = Vec::new();
                for row in &group {
                    if family.matches(&row.row.values, selector)? {
                        found.push(*row);
                    }
                }
                all_planned &= names_all(family, selector, &found)?;
                Ok(found)
            };
            let better = find(&claim.better)?;
            let worse: Vec<Vec<&RowSummary>> = claim.worse.iter().map(find).collect::<Result<_>>()?;
            let worse: Vec<&RowSummary> = worse.into_iter().flatten().collect();
            let shown =
                |axis: usize| open.contains(&axis) && (planned.varies(axis) || family.axes[axis].name == DATASET);
            let known: Option<Vec<f64>> = better.iter().map(|row| published(row.row)).collect();
            let known =
                known.filter(|known| !known.is_empty()).map(|known| known.iter().sum::<f64>() / known.len() as f64);
            verdicts.push(Judged {
                claim,
                about: row.row.label(family, shown),
                published: worse.iter().map(|row| Some(known? - published(row.row)?)).collect(),
                verdict: match all_planned {
                    true => verdict(&better, &worse, &group, budget),
                    false => Verdict::Open("not all of its rows are trained here"),
                },
            });
        }
    }
    Ok(verdicts)
}

/// Whether `rows` have every value that `selector` names.
fn names_all(family: &Family, selector: &Selector, rows: &[&RowSummary]) -> Result<bool> {
    for (axis, wanted) in selector {
        let place = family.axes.iter().position(|other| other.name == *axis);
        for name in wanted.names()? {
            let value = family.value(axis, &name)?;
            if !rows.iter().any(|row| place.is_some_and(|place| row.row.values[place] == value)) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn verdict(better: &[&RowSummary], worse: &[&RowSummary], group: &[&RowSummary], budget: &Budget) -> Verdict {
    if better.is_empty() || worse.is_empty() || better.iter().chain(worse).any(|row| row.records().next().is_none()) {
        return Verdict::Open("runs are missing");
    }
    if !budget.verdicts {
        return Verdict::Open("too little training");
    }
    let scores: Vec<Scores> = group.iter().map(|row| row.scores()).collect();
    let published = || group.iter().find_map(|row| row.row.spread);
    let Some(spread) = Spread::of(&scores).or_else(published) else {
        return Verdict::Open("only one seed and no published spread; use --seeds 3 to measure it");
    };
    let better: Vec<Scores> = better.iter().map(|row| row.scores()).collect();
    let better: Vec<&Scores> = better.iter().collect();
    let found = worse.iter().map(|row| Difference::of(&better, &row.scores(), spread, group.len()));
    let Some(found) = found.collect::<Option<Vec<_>>>() else {
        return Verdict::Open("the rows have no seed in common");
    };
    if found.iter().any(|difference| difference.mean + difference.margin < 0.0) {
        Verdict::DoesNotHold(found)
    } else if found.iter().all(|difference| difference.mean - difference.margin > 0.0) {
        Verdict::Holds(found)
    } else {
        Verdict::NotDecidable(found)
    }
}
