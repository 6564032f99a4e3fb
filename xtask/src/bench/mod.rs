//! `cargo xtask bench`: our benchmark and that of another implementation, the peer, in turn on one machine.

mod floors;
mod machine;
mod report;
mod side;

use std::env;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use anyhow::{Result, ensure};
use time::UtcDateTime;

use crate::files::{shown, write};
use crate::terminal::{print, say};
use crate::trainer;
use crate::workspace::{data_folder, root};
use floors::{Floors, Speedup};
use machine::Conditions;
use report::Report;
use side::{Side, without_folders};

/// Arguments of `bench`.
#[derive(clap::Args)]
pub struct Args {
    /// Shell command of the peer's benchmark. It is run with `--cases CASE --repeats N --threads N` appended and must
    /// print the same lines as `convnn bench --json`
    #[arg(long, value_name = "CMD")]
    peer: String,
    /// Only the cases whose name contains this
    #[arg(long, value_name = "SUBSTRING", default_value = "", hide_default_value = true)]
    cases: String,
    /// Repeats of a case per round
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    repeats: u16,
    /// Rounds per case, in each of which both sides are started once; the best one counts
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// The lowest acceptable ratio for every case, in place of those in xtask/bench/floors.toml: 0.97 if the peer is an
    /// earlier version of convnn
    #[arg(long, value_name = "RATIO")]
    at_least: Option<f64>,
    /// Number of threads on both sides [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Name of the results folder, after the date
    #[arg(long, value_name = "NAME", default_value = "peer")]
    name: String,
    /// Where to put the results folder [default: benches/runs in the workspace]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Use this trainer instead of building one
    #[arg(long, value_name = "PROGRAM")]
    trainer: Option<PathBuf>,
}

impl Args {
    /// Runs the command.
    pub fn run(self) -> Result<ExitCode> {
        let mut floors = Floors::read(&data_folder("bench"))?;
        if let Some(ratio) = self.at_least {
            floors.speedup.iter_mut().for_each(|speedup| speedup.at_least = ratio);
        }
        let named = |speedup: &&Speedup| speedup.case.contains(&self.cases);
        let cases: Vec<_> = floors.speedup.iter().filter(named).cloned().collect();
        ensure!(
            !cases.is_empty(),
            "--cases {}: no case has this in its name; xtask/bench/floors.toml lists the cases",
            self.cases
        );
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        ensure!(self.name.chars().all(is_name), "--name {}: expected letters, digits, -, _ and .", self.name);
        let program = match &self.trainer {
            Some(program) => program.clone(),
            None => trainer::build()?,
        };
        let threads = self.threads.map_or_else(cores, usize::from);
        let conditions = Conditions {
            command: self.command(threads),
            versions: machine::versions(&program, &self.peer),
            commit: machine::commit(),
            machine: machine::machine(threads),
        };
        let mut report = Report::new(&floors, conditions);
        let sides = [Side::Ours(program), Side::Peer(self.peer.clone())];
        let out = match &self.out {
            Some(out) => env::current_dir()?.join(out),
            None => root().join("benches/runs"),
        };
        let folder = out.join(format!("{}-{}", UtcDateTime::now().date(), self.name));
        print(&report.heading())?;
        for speedup in &cases {
            for round in 1..=self.rounds {
                for side in &sides {
                    let measured = side.measure(&speedup.case, self.repeats, threads)?;
                    report.add(round, side.name(), measured);
                }
            }
            // After every case, so that stopping early keeps what has been measured.
            write(&folder.join("measurements.csv"), &report.csv()?)?;
            write(&folder.join("README.md"), &report.markdown())?;
            print(&report.row(speedup))?;
        }
        print(&report.own_cases())?;
        say(format_args!("results: {}", shown(&folder)));
        Ok(ExitCode::SUCCESS)
    }

    /// The command that repeats this, without the peer's folders.
    fn command(&self, threads: usize) -> String {
        let cases = if self.cases.is_empty() { String::new() } else { format!(" --cases {}", self.cases) };
        let floor = self.at_least.map_or_else(String::new, |ratio| format!(" --at-least {ratio}"));
        let (peer, repeats, rounds) = (without_folders(&self.peer), self.repeats, self.rounds);
        format!(
            "cargo xtask bench --peer \"{peer}\"{cases}{floor} --repeats {repeats} --rounds {rounds} --threads {threads}"
        )
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}
