//! Tasks of the convnn workspace: `cargo xtask --help`.

mod bench;
mod check;
mod experiment;
mod plan;
mod published;
mod report;
mod reproduce;
mod results;
mod run_folder;
mod summary;
mod terminal;
mod trainer;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of the convnn workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Train, evaluate and report, beside the published numbers
    ///
    /// Finished runs are kept and interrupted ones go on where they were, so the same command can be given again at any
    /// time. Exit codes: 0 all runs are done, 1 some failed, 2 bad input, 130 interrupted.
    Reproduce(reproduce::Args),
    /// Time the trainer beside a peer, case by case in turn
    Bench(bench::Args),
    /// Run exactly the checks of continuous integration, cheapest first
    ///
    /// Stops at the first check that fails. Exit codes: 0 all pass, 1 one fails.
    Check(check::Args),
    /// Keep the results of a reproduction in docs/results, as data, table and picture
    ///
    /// Every run of the preset must be finished. Exit codes: 0 done, 2 something is missing or stale.
    Results(results::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Reproduce(args) => args.run(),
        Task::Bench(args) => args.run(),
        Task::Check(args) => args.run(),
        Task::Results(args) => args.run(),
    };
    outcome.unwrap_or_else(|error| {
        terminal::say(format_args!("error: {error:#}"));
        ExitCode::from(2)
    })
}
