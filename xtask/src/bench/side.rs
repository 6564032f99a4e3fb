//! The two sides: how each is started for a case, and the line it prints.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// What one start of a side gave.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Measurement {
    /// The case.
    pub case: String,
    /// Seconds of the fastest repeat.
    pub seconds: f64,
    /// Number of repeats.
    pub repeats: u16,
    /// The most memory that the process held, in MiB.
    pub peak_rss_mib: Option<u64>,
}

/// Who is measured.
#[derive(Clone, Debug)]
pub enum Side {
    /// The trainer, `convnn bench`.
    Ours(PathBuf),
    /// A command for the shell.
    Peer(String),
}

impl Side {
    /// How tables and files name it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ours(_) => OURS,
            Self::Peer(_) => PEER,
        }
    }

    /// Starts the side for `case`.
    ///
    /// # Errors
    /// It cannot be started, it fails, or it prints no line of the case.
    pub fn measure(&self, case: &str, repeats: u16, threads: usize) -> Result<Measurement> {
        let mut command = self.command();
        command.args(["--cases", case, "--repeats", &repeats.to_string(), "--threads", &threads.to_string()]);
        if let Self::Ours(_) = self {
            command.arg("--json");
        }
        command.stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = command.output().with_context(|| format!("cannot start {}", self.shown()))?;
        ensure!(output.status.success(), "{} failed at {case}: {}", self.shown(), output.status);
        let text = String::from_utf8_lossy(&output.stdout);
        find(&text, case).with_context(|| format!("{} printed no line of JSON for {case}", self.shown()))
    }

    fn command(&self) -> Command {
        match self {
            Self::Ours(program) => {
                let mut command = Command::new(program);
                command.arg("bench");
                command
            }
            Self::Peer(line) => {
                let mut command = Command::new("sh");
                // What follows are $0, which only names the shell in its messages, and the arguments.
                command.arg("-c").arg(format!("{line} \"$@\"")).arg("peer");
                command
            }
        }
    }

    /// What was started, in a message.
    fn shown(&self) -> String {
        match self {
            Self::Ours(program) => program.display().to_string(),
            Self::Peer(line) => format!("`{line}`"),
        }
    }
}

/// Our side's name.
pub const OURS: &str = "ours";
/// The peer's name.
pub const PEER: &str = "peer";

/// The line of `case`: a side may print others, since it matches a part of the name.
fn find(text: &str, case: &str) -> Option<Measurement> {
    text.lines().filter_map(|line| serde_json::from_str::<Measurement>(line).ok()).find(|line| line.case == case)
}

/// A command without the folders of its words, which are of one machine only.
pub fn without_folders(command: &str) -> String {
    let name = |word: &str| Path::new(word).file_name().map_or(word.into(), |name| name.to_string_lossy().into_owned());
    command.split_whitespace().map(name).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_line_of_the_very_case_is_taken() {
        let text = "warning\n{\"case\": \"a_b\", \"seconds\": 2.0, \"repeats\": 3, \"peak_rss_mib\": 7}\n\
                    {\"case\": \"a\", \"seconds\": 1.0, \"repeats\": 3, \"peak_rss_mib\": null}\n";
        assert_eq!(find(text, "a").unwrap().seconds, 1.0);
        assert_eq!(find(text, "a_b").unwrap().peak_rss_mib, Some(7));
        assert_eq!(find(text, "b"), None);
    }

    #[test]
    fn folders_are_left_out() {
        assert_eq!(without_folders("/v/bin/python ../tools/peer_bench.py --compile"), "python peer_bench.py --compile");
    }
}
