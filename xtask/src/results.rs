//! `cargo xtask results`: the results that this repository shows, as data, table and picture.
//!
//! `docs/results/PRESET.json` holds what the runs gave; `PRESET.md` and `PRESET.svg` are made from it, so that no figure
//! in them is typed and a test can tell when they are stale.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};

use crate::experiment::Experiments;
use crate::plan::Plan;
use crate::report::chart::{self, Figure, Place};
use crate::report::markdown;
use crate::run_folder::{Record, State};
use crate::summary::Summary;
use crate::terminal::say;
use crate::workspace::{data_folder, root, shown};

/// Arguments of `results`.
#[derive(clap::Args)]
pub struct Args {
    /// Which reproduction to keep
    #[arg(default_value = "quick")]
    preset: String,
    /// Folder of its runs [default: runs/PRESET in the workspace]
    #[arg(long, value_name = "DIR")]
    runs: Option<PathBuf>,
    /// Runs of each row, as they were reproduced
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    seeds: Option<u32>,
    /// Only check that the tables and pictures in docs/results agree with the data beside them
    #[arg(long, conflicts_with_all = ["runs", "seeds"])]
    check: bool,
}

impl Args {
    /// Carries the command out.
    ///
    /// # Errors
    /// A run that is not finished, a stale file, or one that cannot be read or written.
    pub fn run(self) -> Result<ExitCode> {
        let experiments = Experiments::read(&data_folder("experiments"), &data_folder("paper"))?;
        let folder = root().join("docs/results");
        if self.check {
            check(&experiments, &folder)?;
            return Ok(ExitCode::SUCCESS);
        }
        let runs = match &self.runs {
            Some(runs) => env::current_dir()?.join(runs),
            None => root().join("runs").join(&self.preset),
        };
        let plan = Plan::new(&experiments, &self.preset, self.seeds)?;
        let mut records = Vec::new();
        for run in &plan.runs {
            let done = State::of(&run.folder(&runs)) == State::Done;
            ensure!(
                done,
                "{} is not finished in {}; give `cargo xtask reproduce {}` first",
                run.id,
                shown(&runs),
                plan.name
            );
            let record = Record::read(&run.folder(&runs), run).with_context(|| run.id.clone())?;
            records.push(record);
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let data = folder.join(format!("{}.json", plan.name));
        let text = serde_json::to_string_pretty(&records)? + "\n";
        fs::write(&data, text).with_context(|| format!("cannot write {}", data.display()))?;
        for (path, text) in rendered(&experiments, &data)? {
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            say(shown(&path));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Holds every table and picture in `folder` against the data beside it.
///
/// # Errors
/// A file that is missing or says something else than the data, or data of runs that are no longer planned like that.
pub fn check(experiments: &Experiments, folder: &Path) -> Result<()> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "json") {
            kept.push(path);
        }
    }
    for data in kept {
        for (path, expected) in rendered(experiments, &data)? {
            let found = fs::read_to_string(&path).unwrap_or_default();
            ensure!(
                found == expected,
                "{} is stale: {} or the experiments have changed since; make it anew with `cargo xtask results`",
                shown(&path),
                shown(&data)
            );
        }
    }
    Ok(())
}

/// The table and the picture of the results in `data`, with their paths.
fn rendered(experiments: &Experiments, data: &Path) -> Result<[(PathBuf, String); 2]> {
    let text = fs::read_to_string(data).with_context(|| format!("cannot read {}", data.display()))?;
    let records: Vec<Record> = serde_json::from_str(&text).with_context(|| data.display().to_string())?;
    let name = data.file_stem().unwrap_or_default().to_string_lossy();
    let seeds = records.iter().map(|record| record.result.seed as u32).max();
    let plan = Plan::new(experiments, &name, seeds)?;
    for record in &records {
        match plan.runs.iter().find(|run| run.id == record.id) {
            Some(run) if run.command() == record.command => {}
            _ => bail!("{}: {} is no longer a run of `{name}`; reproduce it anew", shown(data), record.id),
        }
    }
    let summary = Summary::new(&plan, &records);
    let panels: Vec<_> = summary.families.iter().map(|family| (family, Figure::TestTop1)).collect();
    let picture = chart::svg(&panels, Place::File)?;
    let page = markdown::page(&summary).replacen(
        "\n## ",
        &format!(
            "\nMade by `cargo xtask results {name}` from the runs of `cargo xtask reproduce {name}`.\n\n\
             ![Test top-1 over the epochs]({name}.svg)\n\n## "
        ),
        1,
    );
    Ok([(data.with_extension("md"), page), (data.with_extension("svg"), picture)])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::run_folder::{Environment, Epoch, RunResult, Scores};

    fn experiments() -> Experiments {
        Experiments::read(&data_folder("experiments"), &data_folder("paper")).unwrap()
    }

    /// A made-up record of every run of `smoke`.
    fn records(experiments: &Experiments) -> Vec<Record> {
        let scores = || Scores { top1: 12.5, top5: 55.0, loss: 2.25 };
        let plan = Plan::new(experiments, "smoke", None).unwrap();
        let record = |run: &crate::plan::Run| Record {
            id: run.id.clone(),
            command: run.command(),
            result: RunResult {
                last: scores(),
                last5: scores(),
                best: scores(),
                params: 1234,
                gflops: 0.5,
                seconds_per_epoch: 1.0,
                preset: run.base.clone(),
                dataset: "cifar10".into(),
                seed: run.seed.into(),
                epochs: run.epochs,
            },
            epochs: vec![Epoch { epoch: 1, train_loss: 2.0, test_top1: 12.5, seconds: 1.0 }],
            environment: Environment {
                convnn: "0".into(),
                candle: "0".into(),
                device: "cpu".into(),
                cpu: None,
                threads: 1,
                system: "test".into(),
            },
        };
        plan.runs.iter().map(record).collect()
    }

    #[test]
    fn stale_tables_pictures_and_commands_are_found() {
        let experiments = experiments();
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("smoke.json");
        let mut records = records(&experiments);
        let keep = |records: &[Record]| fs::write(&data, serde_json::to_string(records).unwrap()).unwrap();
        keep(&records);
        assert!(check(&experiments, folder.path()).is_err(), "there is no table");
        for (path, text) in rendered(&experiments, &data).unwrap() {
            fs::write(path, text).unwrap();
        }
        check(&experiments, folder.path()).unwrap();

        records[0].result.last.top1 = 13.0;
        keep(&records);
        let stale = check(&experiments, folder.path()).unwrap_err().to_string();
        assert!(stale.contains("smoke.md is stale"), "{stale}");
        records[0].result.last.top1 = 12.5;
        records[0].command += " --set batch_size=1";
        keep(&records);
        let other = check(&experiments, folder.path()).unwrap_err().to_string();
        assert!(other.contains("is no longer a run of `smoke`"), "{other}");
    }

    #[test]
    fn the_results_in_docs_are_made_from_the_data_beside_them() {
        check(&experiments(), &root().join("docs/results")).unwrap();
    }
}
