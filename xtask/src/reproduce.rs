//! `cargo xtask reproduce`: plan, train, report.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::experiment::{Data, Experiments};
use crate::plan::{Plan, Run};
use crate::report;
use crate::run_folder::{Record, State};
use crate::summary::Summary;
use crate::terminal::{print, say};
use crate::trainer::{self, Failure, Outcome, Trainer};
use crate::workspace::{data_folder, root, shown};

/// Arguments of `reproduce`.
#[derive(clap::Args)]
pub struct Args {
    /// What to reproduce: a preset of xtask/experiments/presets.toml, such as `quick` for the full CIFAR-10
    #[arg(default_value = "smoke")]
    preset: String,
    /// Folder of the complete data set; without it the trainer looks in its usual places
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where run folders and report go [default: runs/PRESET in the workspace]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Runs of each row, with seeds 1 to N, in place of the preset's number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    seeds: Option<u32>,
    /// Train only the runs whose id contains this
    #[arg(long, value_name = "SUBSTRING")]
    only: Option<String>,
    /// Threads of the trainer [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Write the report of the runs that are finished, and train nothing
    #[arg(long, conflicts_with = "dry_run")]
    report_only: bool,
    /// Use this trainer instead of building one
    #[arg(long, value_name = "PROGRAM")]
    trainer: Option<PathBuf>,
}

impl Args {
    /// Carries the command out.
    ///
    /// # Errors
    /// Bad input, a trainer that does not build, or a report that cannot be written.
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
            false => self.carry_out(&selected, &out)?,
        };
        if tally.interrupted {
            say("interrupted; the same command goes on from here");
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
                "`{0}` trains on the embedded sample and takes no --data; for the complete data set: \
                 cargo xtask reproduce quick --data {1}",
                self.preset,
                data.display()
            );
        }
        ensure!(
            data.is_dir(),
            "--data {}: no such folder; it must hold the CIFAR files in their official binary layout",
            data.display()
        );
        Ok(())
    }

    fn carry_out(&self, selected: &[&Run], out: &Path) -> Result<Tally> {
        let program = match &self.trainer {
            Some(program) => program.clone(),
            None => trainer::build()?,
        };
        let mut trainer = Trainer::new(program)?;
        trainer.data = self.data.as_deref().map(std::path::absolute).transpose()?;
        trainer.threads = self.threads;
        let mut tally = Tally::default();
        for (index, run) in selected.iter().enumerate() {
            let folder = run.folder(out);
            let position = format!("[{}/{}] {}", index + 1, selected.len(), run.id);
            let state = State::of(&folder);
            let started = Instant::now();
            let outcome = match state {
                State::Done => trainer.verify(run, &folder)?,
                State::Interrupted | State::New => {
                    let word = if state == State::New { "starts" } else { "goes on" };
                    say(format_args!("{position}: {word}"));
                    trainer.carry_out(run, &folder)?
                }
            };
            let failure = match outcome {
                Outcome::Interrupted => {
                    tally.interrupted = true;
                    break;
                }
                Outcome::Failed(failure) => Some(failure),
                Outcome::Done => match Record::read(&folder, run) {
                    Ok(record) => {
                        let word = match state {
                            State::Done => "already done".to_string(),
                            _ => format!("done in {} s", started.elapsed().as_secs()),
                        };
                        say(format_args!("{position}: {word}, test top-1 {:.2} %", record.result.last.top1));
                        None
                    }
                    Err(error) => Some(Failure { why: format!("{error:#}"), bad_input: false }),
                },
            };
            if let Some(failure) = failure {
                say(format_args!("{position}: failed"));
                tally.failed.push((run.id.clone(), failure));
            }
        }
        Ok(tally)
    }

    fn report(&self, plan: &Plan, out: &Path) -> Result<()> {
        let mut records = Vec::new();
        for run in &plan.runs {
            let folder = run.folder(out);
            if State::of(&folder) == State::Done {
                match Record::read(&folder, run) {
                    Ok(record) => records.push(record),
                    Err(error) => say(format_args!("{} is left out of the report: {error:#}", run.id)),
                }
            }
        }
        if records.is_empty() {
            ensure!(!self.report_only, "no finished run of `{}` in {}", plan.name, shown(out));
            return Ok(());
        }
        let summary = Summary::new(plan, &records);
        fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
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
    /// Says which of `runs` runs failed and why; runs that failed for the same reason together.
    fn conclude(&self, runs: usize) -> ExitCode {
        if self.failed.is_empty() {
            return ExitCode::SUCCESS;
        }
        say(format_args!("{} of {runs} runs failed; the same command tries them again:", self.failed.len()));
        for (index, (id, failure)) in self.failed.iter().enumerate() {
            say(format_args!("  {id}"));
            if self.failed.get(index + 1).is_none_or(|next| next.1.why != failure.why) {
                for line in failure.why.lines() {
                    say(format_args!("    {line}"));
                }
            }
        }
        let refused = self.failed.iter().filter(|(_, failure)| failure.bad_input).count();
        ExitCode::from(if refused == runs { 2 } else { 1 })
    }
}

fn show_plan(plan: &Plan, selected: &[&Run], out: &Path) {
    say(format_args!("{}: {}", plan.name, plan.preset.summary));
    say(format_args!("runs in {}:", shown(out)));
    for run in selected {
        let state = match State::of(&run.folder(out)) {
            State::New => "new",
            State::Interrupted => "interrupted",
            State::Done => "done",
        };
        say(format_args!("  {state:<11}  {:<36}  {}", run.id, run.command()));
    }
}
