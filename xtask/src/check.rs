//! `cargo xtask check`: exactly what continuous integration runs, cheapest first.

use std::env;
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
    /// Clippy, with warnings as errors
    Clippy,
    /// Documentation, with warnings as errors
    Docs,
    /// The README's test command
    Test,
    /// The README's run command
    Reproduce,
}

impl Args {
    /// Carries the command out.
    ///
    /// # Errors
    /// A check that cannot be started.
    pub fn run(self) -> Result<ExitCode> {
        let steps = match self.steps.as_slice() {
            [] => Step::value_variants(),
            steps => steps,
        };
        for step in steps {
            for mut command in step.commands()? {
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
    fn commands(self) -> Result<Vec<Command>> {
        let with = |arguments: &[&str]| {
            let mut command = cargo();
            command.args(arguments);
            command
        };
        Ok(match self {
            Self::Format => vec![with(&["fmt", "--all", "--check"])],
            Self::Clippy => {
                let lint = ["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];
                vec![with(&lint)]
            }
            Self::Docs => {
                let mut command = with(&["doc", "--workspace", "--no-deps"]);
                command.env("RUSTDOCFLAGS", "--deny warnings");
                vec![command]
            }
            Self::Test => vec![with(&["test", "--workspace", "--release"])],
            Self::Reproduce => {
                let mut command = Command::new(env::current_exe().context("where is this program?")?);
                command.arg("reproduce");
                vec![command]
            }
        })
    }
}

/// `command` as typed.
fn shown(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let name = program.rsplit(['/', '\\']).next().unwrap_or_default();
    let name = if name == "xtask" { "cargo xtask" } else { name };
    let arguments = command.get_args().map(|argument| argument.to_string_lossy());
    let words: Vec<_> = std::iter::once(name.into()).chain(arguments).collect();
    words.join(" ")
}
