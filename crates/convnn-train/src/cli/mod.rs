//! The command line: one module per subcommand.
//!
//! Exit codes: 0 success, 1 failure, 2 unusable input, 128 plus the signal for a run that was stopped. Results go to
//! standard output, progress and logs to standard error, and an error is one line.

mod bench;
mod eval;
mod import;
mod info;
mod output;
mod parity;
mod runs;
mod summary;
mod train;

use clap::{Parser, Subcommand, error::ErrorKind};
use convnn_train::{Error, Result};
use std::ffi::OsString;
use std::io::Write;

/// Train and evaluate Convolutional Nearest Neighbors: convolution and attention as one operation
#[derive(Debug, Parser)]
#[command(name = "convnn", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(train::Args),
    Eval(eval::Args),
    Info(info::Args),
    Runs(runs::Args),
    Parity(parity::Args),
    Import(import::Args),
    Bench(bench::Args),
}

/// Runs the command; returns the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let done = match cli.command {
        Command::Train(args) => train::run(args),
        Command::Eval(args) => eval::run(&args),
        Command::Info(args) => info::run(&args),
        Command::Runs(args) => runs::run(&args),
        Command::Parity(args) => parity::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Bench(args) => bench::run(&args),
    };
    match done {
        Ok(()) => 0,
        Err(error) if output::is_closed(&error) => 0,
        Err(error) => {
            report(&error.to_string());
            error.exit_code()
        }
    }
}

/// Prints help and version like clap, and any other error as one line.
fn usage(error: &clap::Error) -> u8 {
    let whole =
        [ErrorKind::DisplayHelp, ErrorKind::DisplayVersion, ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand];
    if whole.contains(&error.kind()) {
        // If this fails, nobody is reading.
        let _ = error.print();
        return u8::from(error.use_stderr()) * 2;
    }
    let text = error.to_string();
    let lines = || text.lines().map(str::trim);
    let mut parts: Vec<_> = lines().take_while(|line| !line.is_empty()).collect();
    parts.extend(lines().filter(|line| line.starts_with("tip: ")));
    report(&format!("{}; see `convnn --help`", parts.join(" ").trim_start_matches("error: ")));
    2
}

/// Prints an error as one line; Candle's messages continue with a backtrace.
fn report(message: &str) {
    let line = message.lines().next().unwrap_or_default();
    // There is nobody to tell if standard error is closed.
    let _ = writeln!(std::io::stderr(), "error: {line}");
}

/// Sets the number of threads; the default is RAYON_NUM_THREADS, or one per processor.
fn set_threads(threads: Option<usize>) -> Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    if threads == 0 {
        let (key, found) = ("--threads".to_owned(), threads.to_string());
        return Err(Error::Value { key, found, expected: "at least 1".to_owned() });
    }
    let failed = |error: rayon::ThreadPoolBuildError| Error::Value {
        key: "--threads".to_owned(),
        found: threads.to_string(),
        expected: format!("a number of threads that can be started ({error})"),
    };
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().map_err(failed)
}
