//! `cargo xtask results`: the results kept in this repository, as data, tables, page and figures.
//!
//! `docs/results/BUDGET.json` holds what the runs produced; the other files are generated from it, so that no figure in them is
//! typed by hand and a test notices when they are stale.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
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
    /// Only check that every file in docs/results matches the data next to it
    #[arg(long, conflicts_with_all = ["runs", "seeds"])]
    check: bool,
    /// Only regenerate every file in docs/results from the data next to it
    #[arg(long, conflicts_with_all = ["runs", "seeds", "check"])]
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
        let plan = Plan::new(experiments, &self.budget, &Filter { seeds: self.seeds, ..Filter::default() })?;
        let runs = plan.runs(&Trainer::new(self.trainer.as_deref())?)?;
        let (ids, mut records) = reproduce::finished(&plan, &runs, &out);
        let data = kept::folder().join(format!("{}.json", self.budget));
        if data.exists() {
            // Runs of an earlier go, as long as their configuration is still planned.
            let planned = |id: &str| ids.values().any(|runs| runs.iter().any(|run| run == id));
            for record in read_json::<Kept>(&data)?.records {
                if planned(&record.id) {
                    records.entry(record.id.clone()).or_insert(record);
                }
            }
        }
        ensure!(
            !records.is_empty(),
            "no finished run of `{}` in {}; run `cargo xtask reproduce {0}` first",
            self.budget,
            shown(&out)
        );
        Ok(Kept::new(&plan, &ids, &records))
    }
}

/// Writes the files made from the results in `data`.
fn render(experiments: &Experiments, data: &Path) -> Result<()> {
    for (path, text) in rendered(experiments, data)? {
        write(&path, &text)?;
        say(shown(&path));
    }
    Ok(())
}

/// Compares every file in `folder` with the data next to it. Fails if one is missing or stale, or if the data is of runs that
/// are no longer planned that way.
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

/// The files made from the results in `data`, with their paths.
fn rendered(experiments: &Experiments, data: &Path) -> Result<Vec<(PathBuf, String)>> {
    let kept: Kept = read_json(data)?;
    kept.check(experiments).with_context(|| shown(data))?;
    let plan = kept.plan(experiments)?;
    let (ids, records) = kept.parts();
    let summary = Summary::new(&plan, &ids, &records)?;
    let name = &kept.budget;
    let mut files = vec![
        (data.with_extension("csv"), csv_text(&summary)?),
        (data.with_extension("html"), html_page(&summary)?),
    ];
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
