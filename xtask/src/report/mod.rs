//! Reports of a reproduction: terminal, Markdown, HTML and CSV.

pub mod chart;
mod html;
pub mod markdown;
mod results_csv;
mod table;
mod terminal;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::experiment::Claim;
use crate::files;
use crate::run_folder::Environment;
use crate::summary::{FamilySummary, Mean, Summary, Verdict};

pub use terminal::tables as terminal_tables;

/// Writes `report.html`, `report.md` and `results.csv` to `out`, and returns their paths.
pub fn write(summary: &Summary, out: &Path) -> Result<Vec<PathBuf>> {
    let files = [
        ("report.html", html::page(summary)?),
        ("report.md", markdown::page(summary)),
        ("results.csv", results_csv::text(summary)?),
    ];
    let mut paths = Vec::new();
    for (name, text) in files {
        let path = out.join(name);
        files::write(&path, &text)?;
        paths.push(path);
    }
    Ok(paths)
}

/// A mean with two decimals, and its spread if known.
fn with_spread(mean: Mean) -> String {
    match mean.sd {
        Some(sd) => format!("{:.2} ± {sd:.2}", mean.mean),
        None => format!("{:.2}", mean.mean),
    }
}

/// Where a run took place, on one line.
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

/// The published difference between the two rows of a claim, in points.
fn published_difference(family: &FamilySummary, claim: &Claim) -> String {
    let top1 = |id| Some(family.family.row(id)?.published.as_ref()?.top1);
    match top1(&claim.better).zip(top1(&claim.worse)) {
        Some((better, worse)) => format!("{:+.2} points", better - worse),
        None => "–".to_string(),
    }
}

/// The verdict and the figures behind it.
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
