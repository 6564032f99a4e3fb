//! Reports of a reproduction: terminal, Markdown, one HTML page, CSV.

pub mod chart;
mod csv;
mod html;
pub mod markdown;
mod table;
mod terminal;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::run_folder::Environment;
use crate::summary::{Mean, Summary, Verdict};

pub use terminal::tables as terminal_tables;

/// Writes `report.html`, `report.md` and `results.csv` into `out`, and returns their paths.
///
/// # Errors
/// A file that cannot be written.
pub fn write(summary: &Summary, out: &Path) -> Result<Vec<PathBuf>> {
    let files = [
        ("report.html", html::page(summary)?),
        ("report.md", markdown::page(summary)),
        ("results.csv", csv::rows(summary)),
    ];
    let mut paths = Vec::new();
    for (name, text) in files {
        let path = out.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        paths.push(path);
    }
    Ok(paths)
}

/// A mean with two decimals, and its spread where there is one.
fn with_spread(mean: Mean) -> String {
    match mean.sd {
        Some(sd) => format!("{:.2} ± {sd:.2}", mean.mean),
        None => format!("{:.2}", mean.mean),
    }
}

/// Where a run ran, in a line.
fn environment(found: &Environment) -> String {
    let Environment { convnn, candle, device, cpu, threads, system } = found;
    let processor = cpu.as_deref().unwrap_or("unknown processor");
    format!("convnn {convnn}, Candle {candle}; {device} ({processor}), {threads} threads, {system}")
}

/// `12345678` as `12,345,678`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The verdict and the figures it rests on.
fn verdict(verdict: &Verdict) -> (&'static str, String) {
    match verdict {
        Verdict::Holds(found) => ("holds", format!("{:+.2} ± {:.2} points", found.mean, found.margin)),
        Verdict::DoesNotHold(found) => ("does not hold", format!("{:+.2} ± {:.2} points", found.mean, found.margin)),
        Verdict::NotDecidable(why) => ("not decidable at this budget", why.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let texts = [7, 123, 1234, 130_015_690].map(grouped);
        assert_eq!(texts, ["7", "123", "1,234", "130,015,690"]);
    }
}
