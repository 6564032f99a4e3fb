//! `convnn parity`.

use super::{output, report, set_threads};
use convnn_train::parity::{self, Outcome};
use convnn_train::{Error, Result};
use std::io::Write;
use std::path::PathBuf;

/// Compare layers and models with golden tensors: the output, every gradient, and the losses of training cases
///
/// A line a case, `ok CASE max_error=…` or `FAIL CASE TENSOR error=…`, then the sums. Errors are shares of the largest
/// value of a tensor, or of 1 if that is larger; up to 1e-4 passes. Each case is computed in f64 and in f32.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 all cases pass, 1 a case differs, 2 a file is no fixture.")]
pub struct Args {
    /// Fixture files, and folders whose .safetensors files are all fixtures
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Threads [default: RAYON_NUM_THREADS, else all processors]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// Checks every case, then fails if one did.
pub fn run(args: &Args) -> Result<()> {
    set_threads(args.threads)?;
    let (mut passed, mut failed) = (0, 0);
    let mut unusable = Vec::new();
    for path in &args.paths {
        let files = parity::files(path).unwrap_or_else(|error| {
            unusable.push(error);
            Vec::new()
        });
        for file in files {
            match parity::check(&file) {
                Ok(outcome) if outcome.differences.is_empty() => {
                    passed += 1;
                    pass(&outcome)?;
                }
                Ok(outcome) => {
                    failed += 1;
                    fail(&outcome)?;
                }
                Err(error) => unusable.push(error),
            }
        }
    }
    print(&format!("{passed} passed, {} failed", failed + unusable.len()))?;
    let last = unusable.pop();
    unusable.iter().for_each(|error| report(&error.to_string()));
    match last {
        Some(error) => Err(error),
        None if failed > 0 => Err(Error::Parity { failed, cases: passed + failed }),
        None => Ok(()),
    }
}

fn pass(outcome: &Outcome) -> Result<()> {
    if outcome.sensitive {
        let why =
            "f32 misses, but so does f64 once the input moves by a millionth: nearly equal neighbors change places";
        note(&format!("{}: {why}", outcome.case));
    }
    print(&format!("ok {} max_error={:.1e}", outcome.case, outcome.max_error))
}

fn fail(outcome: &Outcome) -> Result<()> {
    let Some((first, others)) = outcome.differences.split_first() else { return Ok(()) };
    print(&format!("FAIL {} {} error={:.1e}", outcome.case, first.tensor, first.error))?;
    if !others.is_empty() {
        let others: Vec<_> = others.iter().map(|one| format!("{} {:.1e}", one.tensor, one.error)).collect();
        note(&format!("{}: {} differs, and so do {}", outcome.case, first.tensor, others.join(", ")));
    }
    Ok(())
}

/// A line of results. The exit code tells the outcome also to who stopped reading.
fn print(text: &str) -> Result<()> {
    match output::print(text) {
        Err(error) if output::is_closed(&error) => Ok(()),
        printed => printed,
    }
}

/// A line for the reader on standard error.
fn note(text: &str) {
    // Nothing is left to do where standard error is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}
