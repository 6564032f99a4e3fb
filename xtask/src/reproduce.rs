//! `cargo xtask reproduce`: plan, train, report.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::estimate::{self, Estimate};
use crate::experiments::{self, Experiments, Row};
use crate::files::{read_json, shown, write};
use crate::first_look;
use crate::kept;
use crate::plan::{Filter, Plan, Run, quoted};
use crate::protocol;
use crate::report;
use crate::run_folder::{Record, State};
use crate::runner::{self, Runner, Tally};
use crate::slurm;
use crate::summary::{Records, RunIds, Summary};
use crate::terminal::{aligned, duration, print, say, threads};
use crate::trainer::{Trainer, cores};
use crate::workspace::{data_folder, root};

/// Arguments of `reproduce`.
#[derive(clap::Args)]
pub struct Args {
    /// How much to train: `smoke`, `quick`, `start` or `paper`
    #[arg(default_value = "smoke")]
    budget: String,
    /// Only these families of experiments; `--list` shows them
    #[arg(long, value_name = "FAMILY", value_delimiter = ',')]
    only: Vec<String>,
    /// Only rows with this value on an axis, or this setting; repeatable
    #[arg(long = "where", value_name = "KEY=VALUE")]
    conditions: Vec<String>,
    /// Runs per row, with seeds 1 to N [default: set by the budget]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    seeds: Option<u32>,
    /// Folder with the official files of CIFAR [default: the trainer's usual search path]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where to put the runs and the report [default: runs/BUDGET in the workspace]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Runs to train at a time, which share the cores
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: u16,
    /// Threads of a run [default: the cores, divided by --jobs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// List the families with their axes and budgets, and do nothing
    #[arg(long)]
    list: bool,
    /// Measure a step of each model, show what the runs would need, and train nothing
    #[arg(long)]
    dry_run: bool,
    /// Report on the finished runs, and train nothing
    #[arg(long, visible_alias = "collect", conflicts_with = "dry_run")]
    report_only: bool,
    /// Write a commented family NAME.toml to start from, and do nothing else
    #[arg(long, value_name = "NAME")]
    new: Option<String>,
    /// What starts the runs
    #[arg(long, value_enum, default_value_t)]
    launcher: Launcher,
    #[command(flatten)]
    slurm: slurm::Options,
    /// Folder of the families and budgets
    #[arg(long, value_name = "DIR")]
    experiments: Option<PathBuf>,
    /// Use this trainer instead of building one
    #[arg(long, value_name = "PROGRAM")]
    trainer: Option<PathBuf>,
}

/// What starts the runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Launcher {
    /// This program, on this machine
    #[default]
    Local,
    /// SLURM, as a job array
    Slurm,
}

/// The layout of an output folder. Runs of another one are refused.
const FORMAT: u32 = 1;

/// `plan.json` in an output folder.
#[derive(Debug, Deserialize, Serialize)]
struct Stored {
    format: u32,
    budget: String,
}

impl Args {
    /// Runs the command.
    pub fn run(self) -> Result<ExitCode> {
        let folder = self.experiments.clone().unwrap_or_else(|| data_folder("experiments"));
        if let Some(name) = &self.new {
            let path = experiments::create(&folder, name)?;
            let elsewhere = self
                .experiments
                .as_ref()
                .map_or(String::new(), |folder| format!(" --experiments {}", quoted(&folder.display().to_string())));
            let command = format!("cargo xtask reproduce quick{elsewhere} --only {name} --dry-run");
            print(&format!("{}\nedit it, then: {command}\n", shown(&path)))?;
            return Ok(ExitCode::SUCCESS);
        }
        // Collecting repeats the command that submitted.
        if self.launcher == Launcher::Local && !self.report_only {
            self.slurm.check_unused()?;
        }
        let experiments = Experiments::read(&folder, &data_folder("paper"))?;
        if self.list {
            print(&list(&experiments)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        let filter = Filter { only: self.only.clone(), conditions: self.conditions.clone(), seeds: self.seeds };
        let plan = Plan::new(&experiments, &self.budget, &filter)?;
        let out = match &self.out {
            Some(out) => env::current_dir()?.join(out),
            None => root().join("runs").join(plan.name),
        };
        check_folder(&out, plan.name)?;
        if let Some(data) = &self.data {
            self.check_data_folder(data, &plan)?;
        }
        let trainer = self.trainer()?;
        let runs = plan.runs(&trainer)?;
        if self.dry_run {
            return self.dry_run(&plan, &trainer, &runs, &out);
        }
        if self.report_only {
            let nothing = format!("no finished run of `{}` in {}", plan.name, shown(&out));
            ensure!(out.exists(), "{nothing}; train with `cargo xtask reproduce {}`", plan.name);
            let finished = report(&plan, &runs, &out)?;
            if finished == 0 {
                say(nothing);
            }
            return Ok(ExitCode::from(u8::from(finished < runs.len())));
        }
        for (_, settings) in estimate::datasets(&runs) {
            trainer.needs(&settings)?;
        }
        if self.launcher == Launcher::Slurm {
            return slurm::submit(&self.slurm, &trainer, &runs, &out, || mark(&out, plan.name));
        }
        say(format_args!("{}: {}", plan.name, plan.budget.summary));
        say(format_args!("{} runs into {}", runs.len(), shown(&out)));
        mark(&out, plan.name)?;
        let tally = Runner { trainer: &trainer, out: &out, jobs: self.jobs.into() }.train(&runs)?;
        if tally.interrupted {
            say("interrupted; repeat the command to resume");
            return Ok(ExitCode::from(130));
        }
        // The runs are reported whatever is wrong with what is shown beside them.
        let look = if self.budget == "smoke" { first_look::print(&trainer) } else { Ok(()) };
        report(&plan, &runs, &out)?;
        if let Err(error) = look {
            say(format_args!("{error:#}"));
            return Ok(ExitCode::FAILURE);
        }
        if self.budget == "smoke" && tally.failed.is_empty() {
            self.say_what_next(&experiments, &trainer, &runs, &out)?;
        }
        Ok(conclude(&tally, runs.len()))
    }

    fn trainer(&self) -> Result<Trainer> {
        let threads = match (self.threads, self.jobs) {
            (Some(threads), _) => Some(usize::from(threads)),
            (None, 1) => None,
            (None, jobs) => Some((cores() / usize::from(jobs)).max(1)),
        };
        let data = self.data.as_deref().map(std::path::absolute).transpose()?;
        Ok(Trainer { data, threads, ..Trainer::new(self.trainer.as_deref())? })
    }

    fn check_data_folder(&self, data: &Path, plan: &Plan) -> Result<()> {
        if plan.families.iter().all(|planned| planned.training.sample) {
            bail!(
                "`{0}` trains on the embedded sample and does not use --data; for the full data set, run: \
                 cargo xtask reproduce quick --data {1}",
                self.budget,
                data.display()
            );
        }
        ensure!(
            data.is_dir(),
            "--data {}: no such folder; expected one with the CIFAR files in their official binary layout",
            data.display()
        );
        Ok(())
    }

    fn dry_run(&self, plan: &Plan, trainer: &Trainer, runs: &[Run], out: &Path) -> Result<ExitCode> {
        let mut missing = Vec::new();
        for (name, settings) in estimate::datasets(runs) {
            if let Err(error) = trainer.needs(&settings) {
                missing.push((name, format!("{error:#}")));
            }
        }
        let is_there =
            |run: &&Run| run.settings.sample || !missing.iter().any(|(name, _)| *name == run.settings.dataset);
        let measurable: Vec<&Run> = runs.iter().filter(is_there).collect();
        let said = |preset: &str| say(format_args!("measuring a step of {preset}"));
        let estimate = match measurable.is_empty() {
            true => None,
            false => Some(Estimate::measure(trainer, &measurable, said)?),
        };
        let done = |run: &Run| State::of(&runner::folder(out, run)) == State::Done;
        let mut text = format!("{}: {}\n\n", plan.name, plan.budget.summary);
        text += &estimate::table(plan, runs, estimate.as_ref(), done);
        let threads = threads(trainer.threads.unwrap_or_else(cores));
        text += &format!(
            "\nTime for what is not done, one run at a time on {threads}, from a measured step of each model and its operations.\n\
             Memory of one run; {} at a time. Runs shared with a family above are counted there.\n",
            self.jobs
        );
        let (agree, differ) = published_protocol(plan, runs);
        if agree + differ.len() > 0 && plan.name == "paper" {
            text += &format!(
                "Published protocol: {agree} of {} published rows agree in every field.\n",
                agree + differ.len()
            );
            text += &differ.iter().map(|line| format!("  {line}\n")).collect::<String>();
        }
        for (name, error) in &missing {
            text += &format!("Missing data: {name}: {error}\n");
        }
        print(&text)?;
        Ok(ExitCode::SUCCESS)
    }

    /// What larger budgets take here, from the time of the runs just done.
    fn say_what_next(&self, experiments: &Experiments, trainer: &Trainer, runs: &[Run], out: &Path) -> Result<()> {
        let (mut work, mut seconds) = (0.0, 0.0);
        for run in runs {
            let record = Record::read(&runner::folder(out, run), run)?;
            // 512 images forward and backward, 256 forward.
            work += run.gflops * f64::from(run.settings.epochs) * (3.0 * 512.0 + 256.0);
            seconds += record.result.seconds_per_epoch * f64::from(run.settings.epochs);
        }
        let mut lines = Vec::new();
        let first = Filter {
            only: vec!["vgg_branch_ratio".to_owned()],
            conditions: vec!["dataset=cifar10".to_owned()],
            ..Filter::default()
        };
        for (options, filter) in [(" --only vgg_branch_ratio --where dataset=cifar10", first), ("", Filter::default())]
        {
            // Families of one's own need not have this budget.
            let Ok(plan) = Plan::new(experiments, "quick", &filter) else { continue };
            let planned = plan.runs(trainer)?;
            let needed: f64 = (planned.iter())
                .map(|run| run.gflops * f64::from(run.settings.epochs) * (3.0 * 50_000.0 + 10_000.0))
                .sum();
            let time = duration(needed / work * seconds);
            let command = format!("cargo xtask reproduce quick{options} --data DIR");
            lines.push((command, format!("{} runs, about {time} here", planned.len())));
        }
        let paper = "cargo xtask reproduce paper --dry-run --data DIR".to_owned();
        lines.push((paper, "what the rows of the paper take here".to_owned()));
        let width = lines.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
        let lines = lines.iter().map(|(command, comment)| format!("  {command:<width$}  # {comment}\n"));
        let text = format!("\nnext:\n{}", lines.collect::<String>());
        Ok(print(&text)?)
    }
}

/// How many rows of the plan agree with their published run in every field, and the differences of the others.
pub fn published_protocol(plan: &Plan, runs: &[Run]) -> (usize, Vec<String>) {
    let (mut agree, mut differ) = (0, Vec::new());
    for planned in &plan.families {
        for row in &planned.rows {
            let Some(published) = &row.published else { continue };
            let is_row = |(family, id): &(String, String)| *family == planned.family.id && *id == row.id;
            let Some(run) = runs.iter().find(|run| run.rows.iter().any(is_row)) else { continue };
            match protocol::differences(run, published).as_slice() {
                [] => agree += 1,
                differences => differ.push(format!("{} {}: {}", planned.family.id, row.id, differences.join(", "))),
            }
        }
    }
    (agree, differ)
}

/// The finished runs of a plan, and which rows they belong to.
pub fn finished(plan: &Plan, runs: &[Run], out: &Path) -> (RunIds, Records) {
    let mut records = Records::new();
    for run in runs {
        let folder = runner::folder(out, run);
        if State::of(&folder) == State::Done {
            match Record::read(&folder, run) {
                Ok(record) => drop(records.insert(run.id.clone(), record)),
                Err(error) => say(format_args!("{} is omitted from the report: {error:#}", run.label)),
            }
        }
    }
    (ids(plan, runs), records)
}

/// The ids of the runs of every row, by seed.
fn ids(plan: &Plan, runs: &[Run]) -> RunIds {
    let mut ids = RunIds::new();
    for planned in &plan.families {
        for Row { id, .. } in &planned.rows {
            let name = (planned.family.id.clone(), id.clone());
            let mut own: Vec<&Run> = runs.iter().filter(|run| run.rows.contains(&name)).collect();
            own.sort_by_key(|run| run.settings.seed);
            ids.insert(name, own.iter().map(|run| run.id.clone()).collect());
        }
    }
    ids
}

/// Writes the report of the finished runs, prints its tables, and returns the number of runs.
fn report(plan: &Plan, runs: &[Run], out: &Path) -> Result<usize> {
    let (ids, records) = finished(plan, runs, out);
    if records.is_empty() {
        return Ok(0);
    }
    let summary = Summary::new(plan, &ids, &records)?;
    let paths = report::write(&summary, out)?;
    let mut text = report::terminal_tables(&summary);
    if plan.name == "smoke" {
        text += &kept::terminal().unwrap_or_else(|error| format!("\nkept results: {error:#}\n"));
    }
    text += "\nreport:\n";
    for path in paths {
        text += &format!("  {}\n", shown(&path));
    }
    print(&text).context("cannot write to stdout")?;
    Ok(records.len())
}

/// Says which runs failed and why.
fn conclude(tally: &Tally, runs: usize) -> ExitCode {
    if tally.failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    say(format_args!("{} of {runs} runs failed; repeat the command to retry them:", tally.failed.len()));
    for (index, failure) in tally.failed.iter().enumerate() {
        say(format_args!("  {}", failure.label));
        // Consecutive runs that failed for the same reason share it.
        if tally.failed.get(index + 1).is_none_or(|next| next.why != failure.why) {
            failure.why.lines().for_each(|line| say(format_args!("    {line}")));
        }
    }
    let invalid = tally.failed.iter().filter(|failure| failure.invalid_input).count();
    ExitCode::from(if invalid == runs { 2 } else { 1 })
}

/// Refuses an output folder that holds something else.
fn check_folder(out: &Path, budget: &str) -> Result<()> {
    let file = out.join("plan.json");
    if !file.exists() {
        let empty = fs::read_dir(out).map_or(true, |mut entries| entries.next().is_none());
        ensure!(
            empty,
            "--out {}: the folder is not empty and holds no runs of this version (no plan.json); choose another folder",
            shown(out)
        );
        return Ok(());
    }
    let stored: Stored = read_json(&file)?;
    ensure!(
        stored.format == FORMAT,
        "--out {}: its runs are of format {}; expected {FORMAT}; choose another folder",
        shown(out),
        stored.format
    );
    ensure!(
        stored.budget == budget,
        "--out {}: its runs are of budget `{}`, not `{budget}`; choose another folder",
        shown(out),
        stored.budget
    );
    Ok(())
}

/// Makes a folder an output folder.
fn mark(out: &Path, budget: &str) -> Result<()> {
    let stored = Stored { format: FORMAT, budget: budget.to_owned() };
    write(&out.join("plan.json"), &(serde_json::to_string_pretty(&stored)? + "\n"))
}

/// The families with their axes and budgets.
fn list(experiments: &Experiments) -> Result<String> {
    let mut text = String::new();
    for (name, budget) in &experiments.budgets {
        text += &format!("{name}: {}\n", budget.summary);
    }
    text.push('\n');
    let mut lines = vec![["family", "axes", "rows × seeds by budget", "claims"].map(str::to_owned).to_vec()];
    for family in &experiments.families {
        let axes: Vec<_> = family.axes.iter().map(|axis| axis.name.as_str()).collect();
        let mut budgets = Vec::new();
        for (name, training) in &family.budgets {
            let rows = family.rows(training, &experiments.tables)?;
            budgets.push(format!("{name} {}×{}", rows.len(), training.seeds));
        }
        lines.push(vec![family.id.clone(), axes.join(" "), budgets.join(", "), family.claims.len().to_string()]);
    }
    Ok(text + &aligned(&lines))
}
