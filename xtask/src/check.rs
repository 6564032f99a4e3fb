//! `cargo xtask check`: exactly what continuous integration runs, cheapest first.

use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::terminal::say;
use crate::workspace::{cargo, root};

/// Arguments of `check`.
#[derive(clap::Args)]
pub struct Args {
    /// The checks to run [default: all, in this order]
    #[arg(value_enum)]
    steps: Vec<Step>,
}

/// A check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Formatting
    Format,
    /// Clippy with default and with all features, warnings as errors
    Clippy,
    /// Documentation, warnings as errors
    Docs,
    /// The tests, as in the README
    Test,
    /// The tests of the optional features: the hub and candle-datasets
    Features,
    /// The examples with a trained model
    Examples,
    /// The smoke reproduction, as in the README
    Reproduce,
}

impl Args {
    /// Runs the checks and stops at the first that fails.
    ///
    /// # Errors
    /// If a check cannot be started.
    pub fn run(self) -> Result<ExitCode> {
        let steps = match self.steps.as_slice() {
            [] => Step::value_variants(),
            steps => steps,
        };
        for step in steps {
            for mut command in step.commands() {
                say(format_args!("check: {}", shown(&command)));
                let started = Instant::now();
                let status = command.current_dir(root()).status();
                let status = status.with_context(|| format!("cannot start {}", shown(&command)))?;
                if !status.success() {
                    say(format_args!("check: FAILED ({status}): {}", shown(&command)));
                    return Ok(ExitCode::FAILURE);
                }
                say(format_args!("check: passed in {} s", started.elapsed().as_secs()));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Step {
    /// Its commands, all with the release profile, so that they share build scripts and macros.
    fn commands(self) -> Vec<Command> {
        let lines: &[&str] = match self {
            Self::Format => &["fmt --all --check"],
            Self::Clippy => &[
                "clippy --release --workspace --all-targets -- --deny warnings",
                "clippy --release -p convnn-data -p convnn-train --all-targets --all-features -- --deny warnings",
            ],
            Self::Docs => &[
                "doc --release --workspace --no-deps",
                "doc --release -p convnn-data -p convnn-train --no-deps --all-features",
            ],
            Self::Test => &["test --workspace --release"],
            Self::Features => &["test --release -p convnn-data -p convnn-hub -p convnn-image --all-features"],
            // Of the workspace as a whole, like the tests: another choice of packages would build Candle again.
            Self::Examples => &["run --release --example features", "run --release --example fine_tune"],
            // Not this program itself: the tests may have built it again, and then its path is gone.
            Self::Reproduce => &["xtask reproduce"],
        };
        let command = |line: &&str| {
            let mut command = cargo();
            command.args(line.split(' '));
            if self == Self::Docs {
                command.env("RUSTDOCFLAGS", "--deny warnings");
            }
            command
        };
        lines.iter().map(command).collect()
    }
}

/// `command` as it would be typed.
fn shown(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let name = program.rsplit(['/', '\\']).next().unwrap_or_default();
    let arguments = command.get_args().map(|argument| argument.to_string_lossy());
    let words: Vec<_> = std::iter::once(name.into()).chain(arguments).collect();
    words.join(" ")
}
