//! The two sides: how each is started for a case, and the line it prints.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// What a side measured when started once.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Measurement {
    /// The case.
    pub case: String,
    /// Seconds of the fastest repeat.
    pub seconds: f64,
    /// Number of repeats.
    pub repeats: u16,
    /// Peak memory of the process, in MiB.
    pub peak_rss_mib: Option<u64>,
}

/// An implementation to be measured.
#[derive(Clone, Debug)]
pub enum Side {
    /// The trainer, `convnn bench`.
    Ours(PathBuf),
    /// A shell command.
    Peer(String),
}

impl Side {
    /// Its name in tables and files.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ours(_) => OURS,
            Self::Peer(_) => PEER,
        }
    }

    /// Runs the side's benchmark of `case`.
    pub fn measure(&self, case: &str, repeats: u16, threads: usize) -> Result<Measurement> {
        let mut command = self.command();
        command.args(["--cases", case, "--repeats", &repeats.to_string(), "--threads", &threads.to_string()]);
        if let Self::Ours(_) = self {
            command.arg("--json");
        }
        command.stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = command.output().with_context(|| format!("cannot start {self}"))?;
        ensure!(output.status.success(), "{self} failed at {case}: {}", output.status);
        let text = String::from_utf8_lossy(&output.stdout);
        find(&text, case).with_context(|| format!("{self} printed no line of JSON for {case}"))
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
                // The first word after the script is $0, the shell's name in its own messages.
                command.arg("-c").arg(format!("{line} \"$@\"")).arg("peer");
                command
            }
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Ours(program) => write!(f, "{}", program.display()),
            Self::Peer(line) => write!(f, "`{line}`"),
        }
    }
}

/// Our side's name.
pub const OURS: &str = "ours";
/// The peer's name.
pub const PEER: &str = "peer";

/// The line of `case`. A side may also print cases whose names merely contain it.
fn find(text: &str, case: &str) -> Option<Measurement> {
    text.lines().filter_map(|line| serde_json::from_str::<Measurement>(line).ok()).find(|line| line.case == case)
}

/// A command without the folders in its words, which differ between machines.
pub fn without_folders(command: &str) -> String {
    let name = |word: &str| Path::new(word).file_name().map_or(word.into(), |name| name.to_string_lossy().into_owned());
    command.split_whitespace().map(name).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_the_exact_case_counts() {
        let text = "warning\n{\"case\": \"a_b\", \"seconds\": 2.0, \"repeats\": 3, \"peak_rss_mib\": 7}\n\
                    {\"case\": \"a\", \"seconds\": 1.0, \"repeats\": 3, \"peak_rss_mib\": null}\n";
        assert_eq!(find(text, "a").unwrap().seconds, 1.0);
        assert_eq!(find(text, "a_b").unwrap().peak_rss_mib, Some(7));
        assert_eq!(find(text, "b"), None);
    }

    #[test]
    fn folders_are_removed() {
        assert_eq!(without_folders("/v/bin/python ../tools/peer_bench.py --compile"), "python peer_bench.py --compile");
    }
}
