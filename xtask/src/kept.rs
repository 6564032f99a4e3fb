//! The results kept in `docs/results`: a JSON file for each budget with every run, its configuration and its epochs.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::experiments::Experiments;
use crate::files::{list, read_json, shown};
use crate::plan::{Filter, Plan, RunSettings};
use crate::report;
use crate::run_folder::Record;
use crate::summary::{Records, RunIds, Summary};
use crate::workspace::{data_folder, root};

/// Results of a budget.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Kept {
    /// The budget.
    pub budget: String,
    /// The rows with runs.
    pub rows: Vec<KeptRow>,
    /// The runs, once each.
    pub records: Vec<Record>,
}

/// A row and its runs by seed, as far as they are finished.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct KeptRow {
    /// The family.
    pub family: String,
    /// The row.
    pub row: String,
    /// Ids of runs by seed.
    pub runs: Vec<String>,
    /// The command of its first run.
    pub command: String,
}

/// Where kept results lie.
pub fn folder() -> PathBuf {
    root().join("docs/results")
}

impl Kept {
    /// The finished runs of a plan, of families with at least two rows to compare.
    pub fn new(plan: &Plan, ids: &RunIds, records: &Records) -> Self {
        let finished = |runs: &&Vec<String>| runs.iter().any(|id| records.contains_key(id));
        let comparable = |family: &str| ids.iter().filter(|((of, _), runs)| of == family && finished(runs)).count() > 1;
        let mut rows = Vec::new();
        for planned in plan.families.iter().filter(|planned| comparable(&planned.family.id)) {
            for row in &planned.rows {
                let name = (planned.family.id.clone(), row.id.clone());
                let Some(runs) = ids.get(&name).filter(|runs| finished(runs)) else { continue };
                let command = RunSettings::of(planned, row, 1).command();
                rows.push(KeptRow { family: name.0, row: name.1, runs: runs.clone(), command });
            }
        }
        let used = |record: &&Record| rows.iter().any(|row: &KeptRow| row.runs.contains(&record.id));
        let records = records.values().filter(used).cloned().collect();
        Self { budget: plan.name.to_owned(), rows, records }
    }

    /// The number of runs per row of a family, if it has results.
    pub fn seeds(&self, family: &str) -> Option<u32> {
        self.rows.iter().filter(|row| row.family == family).map(|row| row.runs.len() as u32).max()
    }

    /// The plan of the families that have results.
    pub fn plan<'a>(&self, experiments: &'a Experiments) -> Result<Plan<'a>> {
        let mut only: Vec<String> = self.rows.iter().map(|row| row.family.clone()).collect();
        only.dedup();
        let mut plan = Plan::new(experiments, &self.budget, &Filter { only, ..Filter::default() })?;
        for planned in &mut plan.families {
            planned.seeds = self.seeds(&planned.family.id).unwrap_or(planned.seeds);
        }
        Ok(plan)
    }

    /// The runs of the rows, and the records by id.
    pub fn parts(&self) -> (RunIds, Records) {
        let ids = self.rows.iter().map(|row| ((row.family.clone(), row.row.clone()), row.runs.clone())).collect();
        (ids, self.records.iter().map(|record| (record.id.clone(), record.clone())).collect())
    }

    /// Fails if a row was removed from the experiments, or if its settings have changed since its runs.
    pub fn check(&self, experiments: &Experiments) -> Result<()> {
        let plan = self.plan(experiments)?;
        for kept in &self.rows {
            let planned = plan.families.iter().find(|planned| planned.family.id == kept.family);
            let found =
                planned.and_then(|planned| Some((planned, planned.rows.iter().find(|row| row.id == kept.row)?)));
            let Some((planned, row)) = found else {
                anyhow::bail!(
                    "{} {} was removed from the experiments of `{}`; restore the row, or remove its runs",
                    kept.family,
                    kept.row,
                    self.budget
                );
            };
            let now = RunSettings::of(planned, row, 1).command();
            ensure!(
                kept.command == now,
                "{} {}: its runs were trained otherwise; reproduce them again\n  then: {}\n  now:  {now}",
                kept.family,
                kept.row,
                kept.command
            );
        }
        Ok(())
    }
}

/// The kept results of all budgets but `smoke`.
pub fn all() -> Result<Vec<(PathBuf, Kept)>> {
    let folder = folder();
    let files = if folder.is_dir() { list(&folder, "json")? } else { Vec::new() };
    let read = |path: PathBuf| read_json::<Kept>(&path).map(|kept| (path, kept));
    let all: Vec<_> = files.into_iter().map(read).collect::<Result<_>>()?;
    Ok(all.into_iter().filter(|(_, kept)| kept.budget != "smoke").collect())
}

/// The kept results as tables for a terminal.
pub fn terminal() -> Result<String> {
    let experiments = Experiments::read(&data_folder("experiments"), &data_folder("paper"))?;
    let mut text = String::new();
    for (path, kept) in all()? {
        kept.check(&experiments)?;
        let plan = kept.plan(&experiments)?;
        let (ids, records) = kept.parts();
        let summary = Summary::new(&plan, &ids, &records)?;
        text += &format!("\nkept results of `{}` ({}), from {}\n", kept.budget, report::made(&summary), page(&path));
        text += &report::terminal_tables(&summary);
    }
    Ok(text)
}

fn page(path: &Path) -> String {
    shown(&path.with_extension("md"))
}
