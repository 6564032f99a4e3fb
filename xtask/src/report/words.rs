//! Numbers, verdicts and notes in words, the same in every format.

use time::OffsetDateTime;

use crate::experiments::{DATASET, Training};
use crate::run_folder::Environment;
use crate::statistics::{Difference, Mean};
use crate::summary::{FamilySummary, Judged, Summary, Verdict};
use crate::terminal;

/// What the dagger refers to.
pub const DAGGER: &str = "† Counted in full where we recounted it; otherwise as printed by the authors' code, which omits 1-D \
     convolutions and convolutions with padding \"same\".";

/// How verdicts are reached.
pub const METHOD: &str = "A claim holds if the difference of the final test top-1 is above zero with 95 % confidence, and does \
    not hold if it is below. Rows are compared within seeds (a seed fixes the order of the images and the initial weights); the \
    spread of single runs is what is left of a data set's rows after the effects of rows and seeds are taken out, and the \
    interval uses Student's t with that spread. Until two rows have two seeds in common, the spread of the authors' repeated runs is used \
    instead.";

/// A mean with two decimals, and its spread if known.
pub fn with_spread(mean: Mean) -> String {
    match mean.sd {
        Some(sd) => format!("{:.2} ± {sd:.2}", mean.mean),
        None => format!("{:.2}", mean.mean),
    }
}

/// A difference with its sign and two decimals.
pub fn signed(difference: f64) -> String {
    format!("{difference:+.2}").replace('-', "−")
}

/// Where the runs took place, a line for each different place.
pub fn environments(summary: &Summary) -> Vec<String> {
    let mut lines: Vec<String> = summary.records.iter().map(|record| environment(&record.environment)).collect();
    lines.sort();
    lines.dedup();
    lines
}

fn environment(found: &Environment) -> String {
    let Environment { convnn, candle, device, cpu, threads, system, .. } = found;
    let processor = cpu.as_deref().unwrap_or("unknown processor");
    let threads = terminal::threads(*threads);
    format!("convnn {convnn}, Candle {candle}; {device} ({processor}), {threads}, {system}")
}

/// When and from what the runs were made: `2026-11-27, commit abcdef1`.
pub fn made(summary: &Summary) -> String {
    let day = |seconds: i64| {
        let date = OffsetDateTime::from_unix_timestamp(seconds).ok()?.date();
        // As in ISO 8601.
        Some(date.to_string())
    };
    let mut days: Vec<String> = summary.records.iter().filter_map(|record| day(record.environment.started?)).collect();
    days.sort();
    days.dedup();
    let mut commits: Vec<String> = (summary.records.iter())
        .filter_map(|record| Some(record.environment.revision.as_deref()?.chars().take(7).collect()))
        .collect();
    commits.sort();
    commits.dedup();
    let days = match days.as_slice() {
        [] => "date unknown".to_owned(),
        [day] => day.clone(),
        [first, .., last] => format!("{first} to {last}"),
    };
    match commits.as_slice() {
        [] => days,
        [commit] => format!("{days}, commit {commit}"),
        several => format!("{days}, commits {}", several.join(" ")),
    }
}

/// `12345678` as `12,345,678`.
pub fn grouped(number: u64) -> String {
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

/// The verdict in a word or two.
pub fn verdict(judged: &Judged) -> &'static str {
    match judged.verdict {
        Verdict::Holds(_) => "holds",
        Verdict::DoesNotHold(_) => "does not hold",
        Verdict::NotDecidable(_) | Verdict::Open(_) => "not decidable",
    }
}

/// The figures behind a verdict.
pub fn figures(judged: &Judged) -> String {
    let interval = |found: &Difference| format!("{} ± {:.2}", signed(found.mean), found.margin);
    match &judged.verdict {
        Verdict::Open(why) => (*why).to_owned(),
        Verdict::Holds(found) | Verdict::DoesNotHold(found) | Verdict::NotDecidable(found) => {
            let seeds = found.iter().map(|found| found.seeds).min().unwrap_or(0);
            let all: Vec<_> = found.iter().map(interval).collect();
            let mut text = format!("{} points, {seeds} seed{}", all.join(" and "), if seeds == 1 { "" } else { "s" });
            if let Verdict::NotDecidable(found) = &judged.verdict {
                let needed: Option<Vec<usize>> = found.iter().map(Difference::seeds_to_decide).collect();
                text += &match needed.and_then(|needed| needed.into_iter().max()) {
                    Some(seeds) => {
                        format!("; a difference of this size would take {seeds} seeds of every row to decide")
                    }
                    None => "; a difference of this size would take more than 100 seeds to decide".to_owned(),
                };
            }
            text
        }
    }
}

/// The published differences of a claim.
pub fn published_difference(judged: &Judged) -> String {
    if judged.published.iter().all(Option::is_none) {
        return "–".to_owned();
    }
    let shown = |points: &Option<f64>| points.map_or("–".to_owned(), |points| format!("{} points", signed(points)));
    judged.published.iter().map(shown).collect::<Vec<_>>().join(" and ")
}

/// The claim, and what it is about if its family has several data sets or the like.
pub fn claim(judged: &Judged) -> String {
    match judged.about.as_str() {
        "" => judged.claim.text.clone(),
        about => format!("{about}: {}", judged.claim.text),
    }
}

/// How a family was trained.
pub fn training_note(family: &FamilySummary) -> String {
    let Training { preset, sample, epochs, .. } = family.training;
    let data = if *sample { "the embedded sample of CIFAR-10" } else { "the full training set" };
    let mut settings: Vec<_> = family.training.set.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    settings.sort();
    format!(
        "Ours: {preset} on {data}, {epochs} epochs ({}); top-1 is that of the final epoch unless the heading says otherwise, \
         ± the standard deviation over seeds",
        settings.join(", ")
    )
}

/// What the published columns contain; `None` if there are none.
pub fn published_note(family: &FamilySummary) -> Option<String> {
    let runs = family.family.published.as_ref()?;
    let epochs = family.rows.iter().find_map(|row| row.row.published.as_ref())?.epochs;
    Some(format!("Published: full-size {}, {epochs} epochs; {}", runs.model, runs.source))
}

/// The data sets of a family, as its table names them.
pub fn datasets(family: &FamilySummary) -> String {
    let axis = family.family.axes.iter().position(|axis| axis.name == DATASET);
    let Some(axis) = axis else { return String::new() };
    let mut labels: Vec<&str> = Vec::new();
    for row in &family.rows {
        let label = family.family.axes[axis].values[row.row.values[axis]].label.as_str();
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    labels.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let texts = [7, 123, 1234, 130_015_690].map(grouped);
        assert_eq!(texts, ["7", "123", "1,234", "130,015,690"]);
    }

    #[test]
    fn differences_have_a_sign() {
        assert_eq!([-3.456, 0.0, 2.0].map(signed), ["−3.46", "+0.00", "+2.00"]);
    }
}
