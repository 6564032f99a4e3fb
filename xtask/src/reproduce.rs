//! `cargo xtask reproduce`: plan, train, report.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::experiment::{Data, Experiments};
use crate::files::shown;
use crate::plan::{Plan, Run};
use crate::report;
use crate::run_folder::{Record, State};
use crate::summary::Summary;
use crate::terminal::{print, say};
use crate::trainer::{self, Failure, Outcome, Trainer};
use crate::workspace::{data_folder, root};

/// Arguments of `reproduce`.
#[derive(clap::Args)]
pub struct Args {
    /// A preset from xtask/experiments/presets.toml, such as `quick` for the full CIFAR-10
    #[arg(default_value = "smoke")]
    preset: String,
    /// Folder of the full data set [default: the trainer's usual search path]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where to put the run folders and the report [default: runs/PRESET in the workspace]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Runs per row, with seeds 1 to N [default: set by the preset]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    seeds: Option<u32>,
    /// Train only the runs whose id contains this
    #[arg(long, value_name = "SUBSTRING")]
    only: Option<String>,
    /// Number of threads of the trainer [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// List the runs, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Report on the finished runs, and train nothing
    #[arg(long, conflicts_with = "dry_run")]
    report_only: bool,
    /// Use this trainer instead of building one
    #[arg(long, value_name = "PROGRAM")]
    trainer: Option<PathBuf>,
}

impl Args {
    /// Runs the command.
    pub fn run(self) -> Result<ExitCode> {
        let experiments = Experiments::read(&data_folder("experiments"), &data_folder("paper"))?;
        let plan = Plan::new(&experiments, &self.preset, self.seeds)?;
        let selected = plan.select(self.only.as_deref())?;
        self.check_data(&selected)?;
        let out = match &self.out {
            Some(out) => env::current_dir()?.join(out),
            None => root().join("runs").join(plan.name),
        };
        show_plan(&plan, &selected, &out);
        if self.dry_run {
            return Ok(ExitCode::SUCCESS);
        }
        let tally = match self.report_only {
            true => Tally::default(),
            false => self.train(&selected, &out)?,
        };
        if tally.interrupted {
            say("interrupted; repeat the command to resume");
            return Ok(ExitCode::from(130));
        }
        self.report(&plan, &out)?;
        Ok(tally.conclude(selected.len()))
    }

    fn check_data(&self, selected: &[&Run]) -> Result<()> {
        let Some(data) = &self.data else {
            return Ok(());
        };
        if selected.iter().all(|run| run.data == Data::Sample) {
            bail!(
                "`{0}` trains on the embedded sample and does not use --data; for the full data set, run: \
                 cargo xtask reproduce quick --data {1}",
                self.preset,
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

    /// Trains the runs that are not finished, and checks those that are.
    fn train(&self, selected: &[&Run], out: &Path) -> Result<Tally> {
        let program = match &self.trainer {
            Some(program) => program.clone(),
            None => trainer::build()?,
        };
        let mut trainer = Trainer::new(program)?;
        trainer.data = self.data.as_deref().map(std::path::absolute).transpose()?;
        trainer.threads = self.threads;
        let mut tally = Tally::default();
        for (index, run) in selected.iter().enumerate() {
            let folder = out.join(&run.id);
            let position = format!("[{}/{}] {}", index + 1, selected.len(), run.id);
            let state = State::of(&folder);
            match state {
                State::New => say(format_args!("{position}: starting")),
                State::Interrupted => say(format_args!("{position}: resuming")),
                State::Done => {}
            }
            let started = Instant::now();
            let failure = match trainer.train(run, &folder)? {
                Outcome::Interrupted => {
                    tally.interrupted = true;
                    break;
                }
                Outcome::Failed(failure) => failure,
                Outcome::Done => match Record::read(&folder, run) {
                    Ok(record) => {
                        let done = match state {
                            State::Done => "already done".to_string(),
                            State::New | State::Interrupted => format!("done in {} s", started.elapsed().as_secs()),
                        };
                        say(format_args!("{position}: {done}, test top-1 {:.2} %", record.result.last.top1));
                        continue;
                    }
                    Err(error) => Failure { why: format!("{error:#}"), invalid_input: false },
                },
            };
            say(format_args!("{position}: failed"));
            tally.failed.push((run.id.clone(), failure));
        }
        Ok(tally)
    }

    fn report(&self, plan: &Plan, out: &Path) -> Result<()> {
        let mut records = Vec::new();
        for run in &plan.runs {
            let folder = out.join(&run.id);
            if State::of(&folder) == State::Done {
                match Record::read(&folder, run) {
                    Ok(record) => records.push(record),
                    Err(error) => say(format_args!("{} is omitted from the report: {error:#}", run.id)),
                }
            }
        }
        if records.is_empty() {
            ensure!(!self.report_only, "no finished run of `{}` in {}", plan.name, shown(out));
            return Ok(());
        }
        let summary = Summary::new(plan, &records);
        let paths = report::write(&summary, out)?;
        let mut text = report::terminal_tables(&summary);
        text += "\nreport:\n";
        for path in paths {
            text += &format!("  {}\n", shown(&path));
        }
        print(&text).context("cannot write to stdout")
    }
}

/// How the selected runs ended.
#[derive(Default)]
struct Tally {
    /// The ids of the runs that failed, in order.
    failed: Vec<(String, Failure)>,
    interrupted: bool,
}

impl Tally {
    /// Says which of `runs` runs failed and why, grouping consecutive runs that failed for the same reason.
    fn conclude(&self, runs: usize) -> ExitCode {
        if self.failed.is_empty() {
            return ExitCode::SUCCESS;
        }
        say(format_args!("{} of {runs} runs failed; repeat the command to retry them:", self.failed.len()));
        for (index, (id, failure)) in self.failed.iter().enumerate() {
            say(format_args!("  {id}"));
            if self.failed.get(index + 1).is_none_or(|next| next.1.why != failure.why) {
                for line in failure.why.lines() {
                    say(format_args!("    {line}"));
                }
            }
        }
        let invalid = self.failed.iter().filter(|(_, failure)| failure.invalid_input).count();
        ExitCode::from(if invalid == runs { 2 } else { 1 })
    }
}

fn show_plan(plan: &Plan, selected: &[&Run], out: &Path) {
    say(format_args!("{}: {}", plan.name, plan.preset.summary));
    say(format_args!("runs in {}:", shown(out)));
    for run in selected {
        let state = match State::of(&out.join(&run.id)) {
            State::New => "new",
            State::Interrupted => "interrupted",
            State::Done => "done",
        };
        say(format_args!("  {state:<11}  {:<36}  {}", run.id, run.command()));
    }
}
