//! `convnn parity`.

use super::{lines, output, report, set_threads};
use convnn_core::testing::golden::Outcome;
use convnn_train::exit;
use convnn_train::parity;
use convnn_train::text::printable;
use convnn_train::{Error, Result};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Compare layers and models with golden tensors: outputs, gradients, and losses of the first training steps
///
/// Prints one line per case, `ok CASE max_error=…` or `FAIL CASE TENSOR error=…`, and the totals. Errors are relative
/// to the largest absolute value in the tensor, or to 1 if that is larger; errors up to 1e-4 pass. Every case is
/// computed in f64 and in f32.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::text())]
pub struct Args {
    /// Golden files, and folders of them (every .safetensors file in a folder is read as one)
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Also write the tensors computed here to DIR, as CASE.f64.safetensors and CASE.f32.safetensors
    #[arg(long, value_name = "DIR")]
    dump: Option<PathBuf>,
    /// Number of threads [default: RAYON_NUM_THREADS, or one per processor]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// Checks every case, then fails if one did.
pub fn run(args: &Args) -> Result<()> {
    set_threads(args.threads)?;
    let (mut files, mut unusable) = (Vec::new(), Vec::new());
    for path in &args.paths {
        match parity::files(path) {
            Ok(found) => files.extend(found),
            Err(error) => unusable.push(error),
        }
    }
    let (mut passed, mut failed) = (0, 0);
    for (number, file) in (1..).zip(&files) {
        // A large model takes minutes.
        note(&format!("[{number}/{}] {}", files.len(), file.display()));
        match check(file, args.dump.as_deref()) {
            Ok(true) => passed += 1,
            Ok(false) => failed += 1,
            Err(error) => unusable.push(error),
        }
    }
    print(&format!("{passed} passed, {} failed", failed + unusable.len()))?;
    let last = unusable.pop();
    unusable.iter().for_each(|error| report(&lines(error)));
    match last {
        Some(error) => Err(error),
        None if failed > 0 => Err(Error::Parity { failed, cases: passed + failed }),
        None => Ok(()),
    }
}

/// Checks and prints one case; returns whether it passes.
fn check(file: &Path, dump: Option<&Path>) -> Result<bool> {
    let case = parity::read(file)?;
    let outcome = parity::check(file, &case)?;
    show(&case.name, &outcome)?;
    if let Some(folder) = dump {
        parity::dump(file, &case, folder)?;
    }
    Ok(outcome.passes())
}

fn show(name: &str, outcome: &Outcome) -> Result<()> {
    let Outcome { max_error, differences, sensitive } = outcome;
    let Some((first, others)) = differences.split_first() else {
        if *sensitive {
            note(&format!(
                "{name}: differs in f32, but so does f64 if the input changes by one millionth: almost equally close \
                 neighbors change places"
            ));
        }
        return print(&format!("ok {name} max_error={max_error:.1e}"));
    };
    print(&format!("FAIL {name} {} error={:.1e}", first.tensor, first.error))?;
    if !others.is_empty() {
        let others: Vec<_> = others.iter().map(|one| format!("{} {:.1e}", one.tensor, one.error)).collect();
        note(&format!("{name}: {} differs, and so do {}", first.tensor, others.join(", ")));
    }
    Ok(())
}

/// Prints a line of results. The exit code still tells the outcome if nobody reads them.
fn print(text: &str) -> Result<()> {
    match output::print_line(text) {
        Err(error) if output::is_closed(&error) => Ok(()),
        printed => printed,
    }
}

/// Prints a line to standard error.
fn note(text: &str) {
    // There is nobody to tell if standard error is closed.
    let _ = writeln!(std::io::stderr(), "{}", printable(text));
}
