//! Development tasks of the convnn workspace: `cargo xtask --help`.

mod bench;
mod check;
mod estimate;
mod experiments;
mod files;
mod first_look;
mod kept;
mod plan;
mod protocol;
mod report;
mod reproduce;
mod results;
mod run_folder;
mod runner;
mod slurm;
mod statistics;
mod summary;
mod terminal;
mod trainer;
mod weights;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Development tasks of the convnn workspace
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Train, evaluate and report next to the published numbers
    ///
    /// Finished runs are kept and interrupted ones resume, so the same command can be repeated at any time. Exit codes:
    /// 0 all runs are done, 1 a run failed or (--report-only) is missing, 2 invalid input (or every run refused its input),
    /// 130 interrupted.
    Reproduce(reproduce::Args),
    /// Compare the speed of the trainer with that of another implementation
    ///
    /// Each case is timed on both sides in turn, so that a slow minute of the machine affects both. The results are
    /// written to benches/runs/DATE-NAME. Exit codes: 0 both sides ran, whatever the ratios are; 2 a side failed.
    Bench(bench::Args),
    /// Run the checks of continuous integration, cheapest first
    ///
    /// Stops at the first check that fails. Exit codes: 0 all pass, 1 one fails.
    Check(check::Args),
    /// Publish the results of a reproduction in docs/results, as data, table and figure
    ///
    /// Keeps every finished run of the budget; the report says how many are missing. Exit codes: 0 done, 2 no run is finished or a file is stale.
    Results(results::Args),
    /// The trained models in weights/: check their cards, or train them again
    Weights(weights::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Reproduce(args) => args.run(),
        Task::Bench(args) => args.run(),
        Task::Check(args) => args.run(),
        Task::Results(args) => args.run(),
        Task::Weights(args) => args.run(),
    };
    outcome.unwrap_or_else(|error| {
        terminal::say(format_args!("error: {error:#}"));
        ExitCode::from(2)
    })
}
