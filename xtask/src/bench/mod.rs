//! `cargo xtask bench`: the benchmark beside that of a peer, in turn on this machine.

mod floors;
mod machine;
mod report;
mod side;

use std::env;
use std::fs;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};

use crate::terminal::{print, say};
use crate::trainer;
use crate::workspace::{data_folder, root, shown};
use floors::{Floors, Speedup};
use machine::{Conditions, date};
use report::Report;
use side::{Side, without_folders};

/// Times each case on both sides in turn, so that a slow minute of the machine hits both. Results go to
/// benches/runs/DATE-NAME. Exit code: 0 whatever the ratios are, 2 a side failed.
#[derive(clap::Args)]
pub struct Args {
    /// The peer's benchmark. It is started by the shell with `--cases CASE --repeats N --threads N` behind it, and prints
    /// lines as `convnn bench --json` does
    #[arg(long, value_name = "CMD")]
    peer: String,
    /// Only the cases whose name contains this
    #[arg(long, value_name = "SUBSTRING", default_value = "", hide_default_value = true)]
    cases: String,
    /// Repeats of a case each time it is started
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    repeats: u16,
    /// How often both sides are started for a case; the best counts
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Threads of both sides [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Name of the results
    #[arg(long, value_name = "NAME", default_value = "peer")]
    name: String,
    /// Where the folder of the results goes [default: benches/runs in the workspace]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Use this trainer instead of building one
    #[arg(long, value_name = "PROGRAM")]
    trainer: Option<PathBuf>,
}

impl Args {
    /// Carries the command out.
    ///
    /// # Errors
    /// A substring of no case, a side that fails or prints no line for a case, or a file that cannot be written.
    pub fn run(self) -> Result<ExitCode> {
        let floors = Floors::read(&data_folder("bench"))?;
        let named = |speedup: &&Speedup| speedup.case.contains(&self.cases);
        let cases: Vec<_> = floors.speedup.iter().filter(named).cloned().collect();
        ensure!(
            !cases.is_empty(),
            "--cases {}: no case's name contains it; `convnn bench` lists them in its table",
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
            command: self.shown(threads),
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
        let folder = out.join(format!("{}-{}", date(SystemTime::now()), self.name));
        print(&report.heading())?;
        for speedup in &cases {
            for round in 1..=self.rounds {
                for side in &sides {
                    let measured = side.measure(&speedup.case, self.repeats, threads)?;
                    report.add(round, side.name(), measured);
                }
            }
            // After every case, so that a run that is stopped leaves what it has measured.
            fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
            for (name, text) in [("measurements.csv", report.csv()), ("README.md", report.markdown())] {
                let path = folder.join(name);
                fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            }
            print(&report.row(speedup))?;
        }
        print(&report.own())?;
        say(format_args!("results: {}", shown(&folder)));
        Ok(ExitCode::SUCCESS)
    }

    /// The command that repeats this, whatever folders the peer lies in.
    fn shown(&self, threads: usize) -> String {
        let cases = if self.cases.is_empty() { String::new() } else { format!(" --cases {}", self.cases) };
        let (peer, repeats, rounds) = (without_folders(&self.peer), self.repeats, self.rounds);
        format!("cargo xtask bench --peer \"{peer}\"{cases} --repeats {repeats} --rounds {rounds} --threads {threads}")
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}
