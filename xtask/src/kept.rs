//! The results kept in `docs/results`: a JSON file for each budget with every run, its configuration and its epochs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::experiments::{Experiments, ValueName};
use crate::files::{list, read_json, shown};
use crate::plan::{Filter, Plan};
use crate::report;
use crate::run_folder::{Record, first_difference};
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
}

/// Where kept results lie.
pub fn folder() -> PathBuf {
    root().join("docs/results")
}

impl Kept {
    /// The finished runs of a plan, of families with at least two rows to compare.
    pub fn new(plan: &Plan, ids: &RunIds, records: &Records) -> Self {
        let finished = |runs: &Vec<String>| runs.iter().any(|id| records.contains_key(id));
        let comparable = |family: &str| ids.iter().filter(|((of, _), runs)| of == family && finished(runs)).count() > 1;
        let rows = ids.iter().filter(|((family, _), runs)| comparable(family) && finished(runs));
        let rows =
            rows.map(|((family, row), runs)| KeptRow { family: family.clone(), row: row.clone(), runs: runs.clone() });
        Self { budget: plan.name.to_owned(), rows: rows.collect(), records: records.values().cloned().collect() }
    }

    /// The plan of the families that have results.
    pub fn plan<'a>(&self, experiments: &'a Experiments) -> Result<Plan<'a>> {
        let mut only: Vec<String> = self.rows.iter().map(|row| row.family.clone()).collect();
        only.dedup();
        let mut plan = Plan::new(experiments, &self.budget, &Filter { only, ..Filter::default() })?;
        for planned in &mut plan.families {
            let rows = self.rows.iter().filter(|row| row.family == planned.family.id);
            planned.seeds = rows.map(|row| row.runs.len() as u32).max().unwrap_or(planned.seeds);
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
        let records: BTreeMap<&str, &Record> = self.records.iter().map(|record| (record.id.as_str(), record)).collect();
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
            for record in kept.runs.iter().filter_map(|id| records.get(id.as_str())) {
                let result = &record.result;
                let same = result.epochs == planned.training.epochs && result.preset == row.preset;
                let other = row.set.iter().find(|(key, value)| !has(&record.config, key, value));
                ensure!(
                    same && other.is_none(),
                    "{} {}: the kept run {} was trained otherwise ({}); reproduce it again",
                    kept.family,
                    kept.row,
                    record.id,
                    other.map_or("preset or epochs".to_owned(), |(key, value)| format!("{key} is {value} now"))
                );
            }
        }
        Ok(())
    }
}

/// Whether a resolved configuration has the setting `key = value`. Text such as `blend:0.5` stands for a table in it.
fn has(config: &Json, key: &str, value: &toml::Value) -> bool {
    let found = key.split('.').fold(config, |table, part| &table[part]);
    match value {
        toml::Value::String(planned) => {
            let parts = |text: &str| text.split(':').map(ValueName::parse).collect::<Vec<_>>();
            parts(&short(found)) == parts(planned)
        }
        other => serde_json::to_value(other).is_ok_and(|planned| first_difference(key, found, &planned).is_none()),
    }
}

/// A configuration value as `--set` takes it: `{"random": {"n": 32}}` is `random:32`.
pub fn short(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Object(map) => match map.iter().next() {
            Some((name, Json::Object(inner))) => format!("{name}:{}", inner.get("n").map(short).unwrap_or_default()),
            Some((name, inner)) => format!("{name}:{}", short(inner)),
            None => String::new(),
        },
        other => other.to_string(),
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
