//! What a measurement was made with: machine, versions, commit, day.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::workspace::root;

/// What a reader needs to judge the figures, or to measure again.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// The command.
    pub command: String,
    /// Programs of both sides.
    pub versions: String,
    /// The commit that was built.
    pub commit: String,
    /// Processor, memory, threads.
    pub machine: String,
}

/// Versions of the trainer and the compiler, and of the peer where it is a Python program with PyTorch.
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

/// The commit, and whether files of it were changed.
pub fn commit() -> String {
    let git = |arguments: &[&str]| first_line(Command::new("git").args(arguments).current_dir(root()));
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".into();
    };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        None => commit,
        Some(_) => format!("{commit}, with changes that are not committed"),
    }
}

/// The machine, as Linux tells it.
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
    format!("{cpu}, {cores} cores, {}, {memory} of memory, {threads} threads a side", widest.unwrap_or("no AVX2"))
}

/// The first line that a command prints, where it succeeds and prints one.
fn first_line(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().filter(|_| output.status.success())?;
    Some(line.to_owned())
}

/// The day of `time` in UTC, as 2026-01-31.
pub fn date(time: SystemTime) -> String {
    let days = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400;
    // Years that begin in March end with the leap day; 400 of them have 146,097 days, and the first began on 0000-03-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn days_are_those_of_the_calendar() {
        let day = |seconds| date(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(day(951_782_400), "2000-02-29");
        assert_eq!(day(951_868_800), "2000-03-01");
        assert_eq!(day(1_735_689_599), "2024-12-31");
        assert_eq!(day(1_735_689_600), "2025-01-01");
    }
}
