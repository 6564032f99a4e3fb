//! `cargo xtask results`: the results kept in this repository, as data, tables, page and figures.
//!
//! `docs/results/BUDGET.json` holds what the runs produced; the other files are generated from it, so that no figure in them is
//! typed by hand and a test notices when they are stale.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use convnn_chart::Medium;

use crate::experiments::Experiments;
use crate::files::{list, read, read_json, shown, write};
use crate::kept::{self, Kept};
use crate::plan::{Filter, Plan};
use crate::report::{chart, csv_text, html_page, markdown};
use crate::reproduce;
use crate::summary::Summary;
use crate::terminal::say;
use crate::trainer::Trainer;
use crate::workspace::{data_folder, root};

/// Arguments of `results`.
#[derive(clap::Args)]
pub struct Args {
    /// The budget whose results to keep
    #[arg(default_value = "quick")]
    budget: String,
    /// Folder of its runs [default: runs/BUDGET in the workspace]
    #[arg(long, value_name = "DIR")]
    runs: Option<PathBuf>,
    /// Runs per row, if they were reproduced with --seeds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    seeds: Option<u32>,
    /// Only check that the files made from the data in docs/results are current
    #[arg(long, conflicts_with_all = ["budget", "runs", "seeds"])]
    check: bool,
    /// Only regenerate the files made from the data in docs/results
    #[arg(long, conflicts_with_all = ["budget", "runs", "seeds", "check"])]
    render: bool,
    /// Use this trainer instead of building one
    #[arg(long, value_name = "PROGRAM")]
    trainer: Option<PathBuf>,
}

impl Args {
    /// Runs the command.
    pub fn run(self) -> Result<ExitCode> {
        let experiments = Experiments::read(&data_folder("experiments"), &data_folder("paper"))?;
        let folder = kept::folder();
        if self.check {
            check(&experiments, &folder)?;
        } else if self.render {
            for data in list(&folder, "json")? {
                render(&experiments, &data)?;
            }
        } else {
            let kept = self.keep(&experiments)?;
            let data = folder.join(format!("{}.json", self.budget));
            write(&data, &(serde_json::to_string_pretty(&kept)? + "\n"))?;
            render(&experiments, &data)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The finished runs of the budget, after those that were kept before.
    fn keep(&self, experiments: &Experiments) -> Result<Kept> {
        let out = match &self.runs {
            Some(runs) => env::current_dir()?.join(runs),
            None => root().join("runs").join(&self.budget),
        };
        let mut plan = Plan::new(experiments, &self.budget, &Filter { seeds: self.seeds, ..Filter::default() })?;
        let data = kept::folder().join(format!("{}.json", self.budget));
        let before: Option<Kept> = data.exists().then(|| read_json(&data)).transpose()?;
        for planned in &mut plan.families {
            let kept = before.as_ref().and_then(|before| before.seeds(&planned.family.id));
            planned.seeds = planned.seeds.max(kept.unwrap_or(0));
        }
        let runs = plan.runs(&Trainer::new(self.trainer.as_deref())?)?;
        let (ids, mut records) = reproduce::finished(&plan, &runs, &out);
        // Earlier runs are kept as long as their configuration is planned.
        let planned = |id: &str| ids.values().any(|runs| runs.iter().any(|run| run == id));
        let (current, outdated): (Vec<_>, Vec<_>) =
            before.into_iter().flat_map(|before| before.records).partition(|record| planned(&record.id));
        for record in current {
            records.entry(record.id.clone()).or_insert(record);
        }
        let kept = Kept::new(&plan, &ids, &records);
        ensure!(
            !kept.rows.is_empty(),
            "no family of `{}` has two rows with finished runs in {}; run `cargo xtask reproduce {0}` first",
            self.budget,
            shown(&out)
        );
        if !outdated.is_empty() {
            say(format_args!("{} kept runs are no longer planned that way, and are removed:", outdated.len()));
            outdated.iter().for_each(|record| say(format_args!("  {}", record.command)));
        }
        Ok(kept)
    }
}

/// Writes the files made from the results in `data`, and removes the figures of families that are no longer among them.
fn render(experiments: &Experiments, data: &Path) -> Result<()> {
    let files = rendered(experiments, data)?;
    for path in outdated_figures(data, &files)? {
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", shown(&path)))?;
        say(format_args!("{} removed", shown(&path)));
    }
    for (path, text) in files {
        write(&path, &text)?;
        say(shown(&path));
    }
    Ok(())
}

/// Figures of the budget in `data` that are not among `files`.
fn outdated_figures(data: &Path, files: &[(PathBuf, String)]) -> Result<Vec<PathBuf>> {
    let budget = data.file_stem().unwrap_or_default().to_string_lossy();
    let mut figures = list(data.parent().unwrap_or(Path::new(".")), "svg")?;
    figures.retain(|figure| {
        let name = figure.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&format!("{budget}_")) && !files.iter().any(|(path, _)| path == figure)
    });
    Ok(figures)
}

/// Compares every file in `folder` with the data next to it. Fails if one is missing or stale, or if the data is of runs that
/// are no longer planned that way.
fn check(experiments: &Experiments, folder: &Path) -> Result<()> {
    for data in list(folder, "json")? {
        let files = rendered(experiments, &data)?;
        if let Some(figure) = outdated_figures(&data, &files)?.first() {
            bail!("{} shows no kept results; remove it with `cargo xtask results --render`", shown(figure));
        }
        for (path, expected) in files {
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

/// The files made from the results in `data`, with their paths.
fn rendered(experiments: &Experiments, data: &Path) -> Result<Vec<(PathBuf, String)>> {
    let kept: Kept = read_json(data)?;
    kept.check(experiments).with_context(|| shown(data))?;
    let plan = kept.plan(experiments)?;
    let (ids, records) = kept.parts();
    let summary = Summary::new(&plan, &ids, &records)?;
    let name = &kept.budget;
    let mut files =
        vec![(data.with_extension("csv"), csv_text(&summary)?), (data.with_extension("html"), html_page(&summary)?)];
    let mut page = markdown::page(&summary).replacen(
        "\n## ",
        &format!(
            "\nGenerated by `cargo xtask results {name}` from the runs of `cargo xtask reproduce {name}`; the same as a page: \
             [{name}.html]({name}.html), as data: [{name}.csv]({name}.csv), with every configuration and epoch: \
             [{name}.json]({name}.json).\n\n## "
        ),
        1,
    );
    for family in &summary.families {
        if let Some(figure) = chart::accuracy(family, Medium::File)? {
            let file = format!("{name}_{}.svg", family.family.id);
            let title = &family.family.title;
            page = page.replacen(&format!("\n## {title}\n"), &format!("\n## {title}\n\n![{title}]({file})\n"), 1);
            files.push((data.with_file_name(&file), figure));
        }
    }
    files.push((data.with_extension("md"), page));
    Ok(files)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::kept::KeptRow;
    use crate::plan::RunSettings;
    use crate::run_folder::{Environment, Epoch, Record, RunResult, Scores};

    fn experiments() -> Experiments {
        Experiments::read(&data_folder("experiments"), &data_folder("paper")).unwrap()
    }

    /// A finished run of a row with an invented result, which grows with `number`.
    fn record(settings: &RunSettings, number: usize) -> Record {
        let scores = || Scores { top1: 12.5 + number as f64, top5: 55.0, loss: 2.25 };
        let mut config = serde_json::json!({});
        for (key, value) in &settings.set {
            let (table, name) = key.split_once('.').map_or(("", key.as_str()), |(table, name)| (table, name));
            let value = serde_json::to_value(value).unwrap();
            if table.is_empty() { config[name] = value } else { config[table][name] = value }
        }
        config["dataset"] = settings.dataset.clone().into();
        Record {
            id: format!("run-{number}"),
            command: settings.command(),
            config,
            result: RunResult {
                last: scores(),
                last5: scores(),
                best: scores(),
                params: 1234,
                gflops: 0.5,
                seconds_per_epoch: 1.0,
                preset: settings.preset.clone(),
                dataset: settings.dataset.clone(),
                seed: settings.seed.into(),
                epochs: settings.epochs,
            },
            epochs: vec![Epoch { epoch: 1, train_loss: 2.0, test_top1: 12.5, seconds: Some(1.0) }],
            environment: Environment {
                convnn: "0".into(),
                candle: "0".into(),
                device: "cpu".into(),
                cpu: None,
                threads: 1,
                system: "test".into(),
                revision: Some("0123456789".into()),
                started: Some(1_790_000_000),
            },
        }
    }

    /// Invented results for every row of `family`.
    fn kept(experiments: &Experiments, budget: &str, family: &str) -> Kept {
        let filter = Filter { only: vec![family.to_owned()], ..Filter::default() };
        let plan = Plan::new(experiments, budget, &filter).unwrap();
        let planned = &plan.families[0];
        let (mut rows, mut records) = (Vec::new(), Vec::new());
        for row in &planned.rows {
            let mut runs = Vec::new();
            for seed in 1..=planned.seeds {
                records.push(record(&RunSettings::of(planned, row, seed), records.len()));
                runs.push(records.last().unwrap().id.clone());
            }
            let command = RunSettings::of(planned, row, 1).command();
            rows.push(KeptRow { family: family.to_owned(), row: row.id.clone(), runs, command });
        }
        Kept { budget: budget.to_owned(), rows, records }
    }

    #[test]
    fn stale_files_and_runs_trained_otherwise_are_found() {
        let experiments = experiments();
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("quick.json");
        let mut kept = kept(&experiments, "quick", "vgg_lambda");
        let keep = |kept: &Kept| fs::write(&data, serde_json::to_string(kept).unwrap()).unwrap();
        keep(&kept);
        assert!(check(&experiments, folder.path()).is_err(), "the page is missing");
        render(&experiments, &data).unwrap();
        check(&experiments, folder.path()).unwrap();

        let refused = |kept: &Kept, part: &str| {
            keep(kept);
            let error = format!("{:#}", check(&experiments, folder.path()).unwrap_err());
            assert!(error.contains(part), "{error}");
        };
        kept.records[0].result.last.top1 = 13.0;
        refused(&kept, "quick.csv is stale");
        kept.records[0].result.last.top1 = 12.5;
        let command = std::mem::replace(&mut kept.rows[0].command, "convnn train --set removed=1".to_owned());
        refused(
            &kept,
            "vgg_lambda dataset=cifar10,lambda=0: its runs were trained otherwise; reproduce them again\n  then: convnn train",
        );
        kept.rows[0].command = command;
        kept.rows[0].row = "lambda=2".to_owned();
        refused(&kept, "vgg_lambda lambda=2 was removed from the experiments of `quick`");

        kept.rows[0].row = "dataset=cifar10,lambda=0".to_owned();
        let figure = folder.path().join("quick_vgg_k.svg");
        fs::write(&figure, "").unwrap();
        refused(&kept, "quick_vgg_k.svg shows no kept results");
        render(&experiments, &data).unwrap();
        assert!(!figure.exists());
        check(&experiments, folder.path()).unwrap();
    }

    #[test]
    fn claims_are_judged_and_reports_need_no_published_numbers() {
        let mut experiments = experiments();
        let family = experiments.families.iter_mut().find(|family| family.id == "vgg_lambda").unwrap();
        family.published = None;
        let kept = kept(&experiments, "quick", "vgg_lambda");
        let (plan, (ids, records)) = (kept.plan(&experiments).unwrap(), kept.parts());
        let summary = Summary::new(&plan, &ids, &records).unwrap();
        let page = markdown::page(&summary);
        // Rows rise by two, seeds by one: without any spread, λ = 0.25 to 0.75 is 4 above λ = 0 and 4 below λ = 1.
        let claim = "| **does not hold** | +4.00 ± 0.00 and −4.00 ± 0.00 points, 2 seeds |";
        assert!(page.contains(claim), "{page}");
        assert!(!page.contains("*published"), "{page}");
        let html = html_page(&summary).unwrap();
        assert!(
            html.contains("0 of 1 claims held, 1 did not, 0 could not be decided")
                && !html.contains("class=\"published\"")
        );
        assert!(html.contains("<a href=\"#run-0\">") && html.contains("<details id=\"run-0\">"));
        let csv = csv_text(&summary).unwrap();
        assert_eq!(csv.lines().filter(|line| line.ends_with(",0.5,1.0,,,,,,,,,")).count(), 10, "{csv}");
    }

    #[test]
    fn a_claim_needs_all_of_its_rows() {
        let experiments = experiments();
        // The largest K of the claim, 25, was not published, so that the paper's budget does not train it.
        let kept = kept(&experiments, "paper", "vgg_k");
        let (plan, (ids, records)) = (kept.plan(&experiments).unwrap(), kept.parts());
        let page = markdown::page(&Summary::new(&plan, &ids, &records).unwrap());
        assert!(page.contains("**not decidable** | not all of its rows are trained here |"), "{page}");
        assert!(!page.contains("**holds**") && !page.contains("**does not hold**"), "{page}");
    }

    #[test]
    fn unfinished_rows_are_shown_as_such() {
        let experiments = experiments();
        let mut kept = kept(&experiments, "quick", "vgg_branch_ratio");
        kept.records.retain(|record| record.config["dataset"] == "cifar10");
        let (plan, (ids, records)) = (kept.plan(&experiments).unwrap(), kept.parts());
        let page = markdown::page(&Summary::new(&plan, &ids, &records).unwrap());
        assert!(page.contains("15 of 30 runs are finished"), "{page}");
        assert!(page.contains("| CIFAR-100 | 0.5 | 0 of 3 | – |") && page.contains("runs are missing"), "{page}");
        assert!(page.contains("**holds**") && page.contains("CIFAR-10: Half convolution"), "{page}");
    }

    #[test]
    fn the_results_in_docs_match_the_data_next_to_them() {
        check(&experiments(), &kept::folder()).unwrap();
    }
}
