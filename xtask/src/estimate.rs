//! What a plan needs on this machine: runs, hours, memory, disk.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::plan::{Plan, Run, RunSettings};
use crate::terminal::{aligned, duration};
use crate::trainer::{Needs, Trainer};

/// The measured step of one run of each preset.
pub struct Estimate {
    measured: BTreeMap<(String, bool), Needs>,
}

/// Work of a forward pass over a batch, in GFLOPs, beyond which a smaller batch is measured.
const MUCH: f64 = 60.0;

impl Estimate {
    /// Measures a training step of one run of each preset. `said` is called before each.
    pub fn measure(trainer: &Trainer, runs: &[&Run], said: impl Fn(&str)) -> Result<Self> {
        let mut measured = BTreeMap::new();
        for run in runs {
            let key = (run.settings.preset.clone(), run.settings.sample);
            if measured.contains_key(&key) {
                continue;
            }
            said(&run.settings.preset);
            let batch = run.config["batch_size"].as_f64().unwrap_or(1.0);
            let mut settings = run.settings.clone();
            if batch * run.gflops > MUCH {
                let smaller = (MUCH / run.gflops).clamp(2.0, batch) as i64;
                settings.set.insert("batch_size".to_owned(), smaller.into());
            }
            measured.insert(key, trainer.needs(&settings)?);
        }
        Ok(Self { measured })
    }

    /// The seconds of a run, from the step of its preset in proportion to the operations.
    pub fn seconds(&self, run: &Run) -> Option<f64> {
        let needs = self.measured.get(&(run.settings.preset.clone(), run.settings.sample))?;
        Some(needs.seconds_per_epoch * run.gflops / needs.gflops * f64::from(run.settings.epochs))
    }

    fn disk(&self, run: &Run) -> u64 {
        self.measured.get(&(run.settings.preset.clone(), run.settings.sample)).map_or(0, |needs| needs.disk_bytes)
    }
}

/// The table of `--dry-run`: a line for each family, and the total. `done` says which runs are finished.
pub fn table(plan: &Plan, runs: &[Run], estimate: Option<&Estimate>, done: impl Fn(&Run) -> bool) -> String {
    let mut lines =
        vec![["family", "rows", "runs", "done", "epochs", "memory", "disk", "time"].map(str::to_owned).to_vec()];
    let mut line = |name: &str, rows: usize, epochs: String, runs: &[&Run]| {
        let left: Vec<_> = runs.iter().filter(|run| !done(run)).collect();
        let seconds = estimate.map(|estimate| left.iter().filter_map(|run| estimate.seconds(run)).sum::<f64>());
        let disk = estimate.map(|estimate| runs.iter().map(|run| estimate.disk(run)).sum());
        lines.push(vec![
            name.to_owned(),
            rows.to_string(),
            runs.len().to_string(),
            (runs.len() - left.len()).to_string(),
            epochs,
            bytes(runs.iter().map(|run| run.memory).max().unwrap_or(0)),
            disk.map_or("–".to_owned(), bytes),
            seconds.map_or("–".to_owned(), duration),
        ]);
    };
    for planned in &plan.families {
        let own: Vec<&Run> = runs.iter().filter(|run| run.rows[0].0 == planned.family.id).collect();
        line(&planned.family.id, planned.rows.len(), planned.training.epochs.to_string(), &own);
    }
    let rows = plan.families.iter().map(|planned| planned.rows.len()).sum();
    line("all", rows, String::new(), &runs.iter().collect::<Vec<_>>());
    aligned(&lines)
}

/// `850 MB`, `1.5 GB`
fn bytes(bytes: u64) -> String {
    match bytes as f64 / 1e6 {
        megabytes if megabytes < 999.5 => format!("{megabytes:.0} MB"),
        megabytes => format!("{:.1} GB", megabytes / 1e3),
    }
}

/// One run for each data set that is not embedded in the trainer.
pub fn datasets(runs: &[Run]) -> Vec<(&str, RunSettings)> {
    let mut found: Vec<(&str, RunSettings)> = Vec::new();
    for run in runs.iter().filter(|run| !run.settings.sample) {
        if !found.iter().any(|(name, _)| *name == run.settings.dataset) {
            found.push((&run.settings.dataset, run.settings.clone()));
        }
    }
    found
}
