//! `cargo xtask results`: the results published in this repository, as data, table and figure.
//!
//! `docs/results/PRESET.json` holds what the runs produced; `PRESET.md` and `PRESET.svg` are generated from it, so that
//! no figure in them is typed by hand and a test notices when they are stale.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use convnn_chart::Medium;

use crate::experiment::Experiments;
use crate::files::{list, read, read_json, shown, write};
use crate::plan::{Plan, Run};
use crate::report::chart::{self, Figure};
use crate::report::markdown;
use crate::run_folder::{Record, State};
use crate::summary::Summary;
use crate::terminal::say;
use crate::workspace::{data_folder, root};

/// Arguments of `results`.
#[derive(clap::Args)]
pub struct Args {
    /// The preset whose results to publish
    #[arg(default_value = "quick")]
    preset: String,
    /// Folder of its runs [default: runs/PRESET in the workspace]
    #[arg(long, value_name = "DIR")]
    runs: Option<PathBuf>,
    /// Runs per row, if they were reproduced with --seeds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    seeds: Option<u32>,
    /// Only check that every table and figure in docs/results matches the data next to it
    #[arg(long, conflicts_with_all = ["runs", "seeds"])]
    check: bool,
    /// Only regenerate every table and figure in docs/results from the data next to it
    #[arg(long, conflicts_with_all = ["runs", "seeds", "check"])]
    render: bool,
}

impl Args {
    /// Runs the command.
    pub fn run(self) -> Result<ExitCode> {
        let experiments = Experiments::read(&data_folder("experiments"), &data_folder("paper"))?;
        let folder = root().join("docs/results");
        if self.check {
            check(&experiments, &folder)?;
        } else if self.render {
            for data in list(&folder, "json")? {
                render(&experiments, &data)?;
            }
        } else {
            let data = folder.join(format!("{}.json", self.preset));
            let records = self.read_runs(&experiments)?;
            write(&data, &(serde_json::to_string_pretty(&records)? + "\n"))?;
            render(&experiments, &data)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The records of all runs of the preset.
    fn read_runs(&self, experiments: &Experiments) -> Result<Vec<Record>> {
        let runs = match &self.runs {
            Some(runs) => env::current_dir()?.join(runs),
            None => root().join("runs").join(&self.preset),
        };
        let plan = Plan::new(experiments, &self.preset, self.seeds)?;
        let read = |run: &Run| {
            let folder = runs.join(&run.id);
            ensure!(
                State::of(&folder) == State::Done,
                "{} is not finished in {}; run `cargo xtask reproduce {}` first",
                run.id,
                shown(&runs),
                plan.name
            );
            Record::read(&folder, run).with_context(|| run.id.clone())
        };
        plan.runs.iter().map(read).collect()
    }
}

/// Writes the table and the figure of the results in `data`.
fn render(experiments: &Experiments, data: &Path) -> Result<()> {
    for (path, text) in rendered(experiments, data)? {
        write(&path, &text)?;
        say(shown(&path));
    }
    Ok(())
}

/// Compares every table and figure in `folder` with the data next to it. Fails if a file is missing or stale, or if the
/// data is of runs that are no longer planned that way.
fn check(experiments: &Experiments, folder: &Path) -> Result<()> {
    for data in list(folder, "json")? {
        for (path, expected) in rendered(experiments, &data)? {
            ensure!(
                read(&path)? == expected,
                "{} is stale: {} or the experiments have changed; regenerate it with `cargo xtask results --render`",
                shown(&path),
                shown(&data)
            );
        }
    }
    Ok(())
}

/// The table and the figure of the results in `data`, with their paths.
fn rendered(experiments: &Experiments, data: &Path) -> Result<[(PathBuf, String); 2]> {
    let records: Vec<Record> = read_json(data)?;
    let name = data.file_stem().unwrap_or_default().to_string_lossy();
    let seeds = records.iter().map(|record| record.result.seed as u32).max();
    let plan = Plan::new(experiments, &name, seeds)?;
    for record in &records {
        match plan.runs.iter().find(|run| run.id == record.id) {
            Some(run) if run.command() == record.command => {}
            _ => bail!("{}: {} is no longer a run of `{name}`; reproduce it again", shown(data), record.id),
        }
    }
    let summary = Summary::new(&plan, &records);
    let panels: Vec<_> = summary.families.iter().map(|family| (family, Figure::TestTop1)).collect();
    let figure = chart::svg(&panels, Medium::File)?;
    let page = markdown::page(&summary).replacen(
        "\n## ",
        &format!(
            "\nGenerated by `cargo xtask results {name}` from the runs of `cargo xtask reproduce {name}`.\n\n\
             ![Test top-1 by epoch]({name}.svg)\n\n## "
        ),
        1,
    );
    Ok([(data.with_extension("md"), page), (data.with_extension("svg"), figure)])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;
    use crate::report;
    use crate::run_folder::{Environment, Epoch, RunResult, Scores};

    fn experiments() -> Experiments {
        Experiments::read(&data_folder("experiments"), &data_folder("paper")).unwrap()
    }

    /// An invented record for every run of `smoke`.
    fn records(experiments: &Experiments) -> Vec<Record> {
        let scores = || Scores { top1: 12.5, top5: 55.0, loss: 2.25 };
        let plan = Plan::new(experiments, "smoke", None).unwrap();
        let record = |run: &Run| Record {
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
            epochs: vec![Epoch { epoch: 1, train_loss: 2.0, test_top1: 12.5, seconds: Some(1.0) }],
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
    fn stale_tables_figures_and_commands_are_found() {
        let experiments = experiments();
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("smoke.json");
        let mut records = records(&experiments);
        let keep = |records: &[Record]| fs::write(&data, serde_json::to_string(records).unwrap()).unwrap();
        keep(&records);
        assert!(check(&experiments, folder.path()).is_err(), "there is no table");
        render(&experiments, &data).unwrap();
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
    fn reports_do_not_need_published_numbers() {
        let mut experiments = experiments();
        for family in &mut experiments.families {
            family.published = None;
            family.rows.iter_mut().for_each(|row| row.published = None);
        }
        let records = records(&experiments);
        let plan = Plan::new(&experiments, "smoke", None).unwrap();
        let out = tempfile::tempdir().unwrap();
        report::write(&Summary::new(&plan, &records), out.path()).unwrap();
        let read = |name| fs::read_to_string(out.path().join(name)).unwrap();
        let [page, markdown, csv] = ["report.html", "report.md", "results.csv"].map(read);
        let half = "| half and half (ratio 0.5) | 1 of 1 | 12.50 | 12.50 | 12.50 | 55.00 | 1,234 | 0.500 | 1.0 |";
        assert!(markdown.contains(half), "{markdown}");
        for text in [&page, &markdown] {
            assert!(
                !text.contains("Published:") && !text.contains("| published") && !text.contains(">published"),
                "{text}"
            );
        }
        assert_eq!(csv.lines().filter(|line| line.ends_with(",0.5,1.0,,,,,")).count(), 6, "{csv}");
    }

    #[test]
    fn the_results_in_docs_match_the_data_next_to_them() {
        check(&experiments(), &root().join("docs/results")).unwrap();
    }
}
