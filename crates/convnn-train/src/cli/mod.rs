//! The command line: one module per subcommand.
//!
//! Results go to standard output, progress and logs to standard error, and an error is one line; a command to run may
//! follow on lines of its own. Exit codes are in [`convnn_train::exit`]. Whatever comes from outside is printed without
//! control characters.

mod bench;
mod equivalences;
mod eval;
mod export;
mod import;
mod info;
mod keys;
mod neighbors;
mod output;
mod parity;
mod predict;
mod push;
mod runs;
mod summary;
mod train;

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};
use convnn_train::exit::{self, Exit};
use convnn_train::text::printable;
use convnn_train::{Error, Result};
use std::ffi::OsString;
use std::io::Write;

/// Train and evaluate Convolutional Nearest Neighbors: convolution and attention as one operation
#[derive(Debug, Parser)]
#[command(name = "convnn", version, arg_required_else_help = true, after_help = exit::text())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(train::Args),
    Eval(eval::Args),
    Predict(predict::Args),
    Neighbors(Box<neighbors::Args>),
    Info(info::Args),
    Runs(runs::Args),
    Parity(parity::Args),
    Equivalences(equivalences::Args),
    Import(import::Args),
    Export(export::Args),
    Push(push::Args),
    Bench(bench::Args),
}

/// Runs the command; returns the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &arguments),
    };
    let checked = check_threads_variable();
    let done = checked.and_then(|()| match cli.command {
        Command::Train(args) => train::run(args),
        Command::Eval(args) => eval::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::Neighbors(args) => neighbors::run(&args),
        Command::Info(args) => info::run(&args),
        Command::Runs(args) => runs::run(&args),
        Command::Parity(args) => parity::run(&args),
        Command::Equivalences(args) => equivalences::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Push(args) => push::run(&args),
        Command::Bench(args) => bench::run(&args),
    });
    match done {
        Ok(()) => 0,
        Err(error) if output::is_closed(&error) => 0,
        Err(error) => {
            report(&lines(&error));
            error.exit_code()
        }
    }
}

/// Prints help and version like clap, and any other error as one line.
fn usage(error: &clap::Error, arguments: &[OsString]) -> u8 {
    let whole =
        [ErrorKind::DisplayHelp, ErrorKind::DisplayVersion, ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand];
    if whole.contains(&error.kind()) {
        // If this fails, nobody is reading.
        let _ = error.print();
        return if error.use_stderr() { Exit::Input } else { Exit::Success }.code();
    }
    let text = error.to_string();
    let lines = || text.lines().map(str::trim);
    let message = lines().take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let mut parts = vec![message.trim_start_matches("error: ")];
    parts.extend(lines().filter(|line| line.starts_with("tip: ")));
    let is_command = |name: &&str| Cli::command().find_subcommand(name).is_some();
    let command = arguments.get(1).and_then(|name| name.to_str()).filter(is_command);
    let command = command.map_or_else(String::new, |name| format!("{name} "));
    report(&[format!("{}; see `convnn {command}--help`", parts.join("; "))]);
    Exit::Input.code()
}

/// Prints an error, with control characters escaped in every line.
fn report(lines: &[String]) {
    let lines: Vec<_> = lines.iter().map(|line| printable(line)).collect();
    // There is nobody to tell if standard error is closed.
    let _ = writeln!(std::io::stderr(), "error: {}", lines.join("\n"));
}

/// The lines of an error: one, and those with the command that downloads missing data.
fn lines(error: &Error) -> Vec<String> {
    let text = error.to_string();
    match error {
        // Candle's messages continue with a backtrace.
        _ if error.is_of_candle() => vec![text.lines().next().unwrap_or_default().to_owned()],
        Error::Data(_) => match text.rfind("\ndownload ").map(|start| (&text[..start], &text[start + 1..])) {
            Some((what, rest)) => match rest.split_once('\n') {
                Some((download, command)) => vec![what.to_owned(), download.to_owned(), command.to_owned()],
                None => vec![what.to_owned(), rest.to_owned()],
            },
            None => vec![text],
        },
        _ => vec![text],
    }
}

/// The most threads that can be asked for.
const MOST_THREADS: usize = 1024;

/// Fails if RAYON_NUM_THREADS is not a number of threads; Rayon takes 0 for one per processor.
fn check_threads_variable() -> Result<()> {
    let Some(value) = std::env::var_os("RAYON_NUM_THREADS") else { return Ok(()) };
    let text = value.to_string_lossy();
    match text.trim().parse::<usize>() {
        Ok(0..=MOST_THREADS) => Ok(()),
        _ => Err(threads_error("RAYON_NUM_THREADS", text.into_owned())),
    }
}

fn threads_error(key: &str, found: String) -> Error {
    Error::Value { key: key.to_owned(), found, expected: format!("1 to {MOST_THREADS} threads") }
}

/// Sets the number of threads, ours and Candle's; the default is RAYON_NUM_THREADS, or one per processor.
fn set_threads(threads: Option<usize>) -> Result<()> {
    if let Some(threads) = threads
        && !(1..=MOST_THREADS).contains(&threads)
    {
        return Err(threads_error("--threads", threads.to_string()));
    }
    if let Some(threads) = threads {
        // Where this fails, Candle keeps a thread for each processor, and only speed differs.
        convnn_core::threads::limit(threads);
    }
    // 0 is the default.
    let failed = |error: rayon::ThreadPoolBuildError| Error::Value {
        key: "--threads".to_owned(),
        found: threads.map_or("the default".to_owned(), |threads| threads.to_string()),
        expected: format!("a number of threads that can be started ({error})"),
    };
    rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).build_global().map_err(failed)
}
