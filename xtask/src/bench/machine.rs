//! The conditions of a measurement: machine, versions, commit.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::terminal;
use crate::workspace::root;

/// What a reader needs to judge or repeat a measurement.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// The command.
    pub command: String,
    /// Versions of the programs on both sides.
    pub versions: String,
    /// The commit that was built.
    pub commit: String,
    /// Processor, memory, threads.
    pub machine: String,
}

/// Versions of the trainer and the compiler, and of Python and PyTorch if the peer is a Python program.
pub fn versions(trainer: &Path, peer: &str) -> String {
    let mut versions = vec![
        first_line(Command::new(trainer).arg("--version")),
        first_line(Command::new("rustc").arg("--version").current_dir(root())),
    ];
    let program = peer.split_whitespace().next().unwrap_or_default();
    if Path::new(program).file_name().is_some_and(|name| name.to_string_lossy().starts_with("python")) {
        let ask = "import platform, torch; print('Python', platform.python_version(), '/ PyTorch', torch.__version__)";
        versions.push(first_line(Command::new(program).args(["-c", ask])));
    }
    versions.into_iter().map(|version| version.unwrap_or("unknown".into())).collect::<Vec<_>>().join("; ")
}

/// The commit, and whether there are uncommitted changes.
pub fn commit() -> String {
    let git = |arguments: &[&str]| first_line(Command::new("git").args(arguments).current_dir(root()));
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".into();
    };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        None => commit,
        Some(_) => format!("{commit}, with uncommitted changes"),
    }
}

/// The machine, as described by Linux.
pub fn machine(threads: usize) -> String {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).ok()?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or("unknown processor".into());
    let kibibytes = field("/proc/meminfo", "MemTotal").and_then(|text| text.strip_suffix(" kB")?.parse::<f64>().ok());
    let memory = kibibytes.map_or("unknown".into(), |kibibytes| format!("{:.0} GiB", kibibytes / 1024.0 / 1024.0));
    let flags = field("/proc/cpuinfo", "flags").unwrap_or_default();
    let widest = ["avx512f", "avx2"].into_iter().find(|wanted| flags.split(' ').any(|flag| flag == *wanted));
    let cores = super::cores();
    format!(
        "{cpu}, {cores} cores, {}, {memory} of memory, {} per side",
        widest.unwrap_or("no AVX2"),
        terminal::threads(threads)
    )
}

/// The first line that a command prints, if it succeeds and prints anything.
fn first_line(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().filter(|_| output.status.success())?;
    Some(line.to_owned())
}
