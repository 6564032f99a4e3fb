//! Runs side by side as one self-contained HTML page.

use super::compare::{HEADINGS, VALIDATION, cells, percent};
use super::{RunView, differing_keys, name};
use crate::Result;
use crate::curves;
use convnn_chart::Medium;
use maud::{DOCTYPE, PreEscaped, html};

const STYLE: &str = "\
:root { color-scheme: light dark; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 100rem; padding: 0 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin-bottom: 1.5rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.8rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
.keys th, .keys td { text-align: left; }
svg { width: 100%; height: auto; min-width: 60rem; }";

/// The page: results, curves, and the keys that differ.
///
/// # Errors
/// If the curves cannot be drawn.
pub fn page(runs: &[RunView]) -> Result<String> {
    let curves = svg(runs, Medium::Page)?;
    let different = differing_keys(runs);
    let held_out = runs.iter().any(|run| run.validation_top1().is_some());
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (runs.len()) " runs" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (runs.len()) " runs" }
                div.wide {
                    table {
                        thead {
                            tr {
                                @for heading in HEADINGS { th { (heading) } }
                                @if held_out { th { (VALIDATION) } }
                            }
                        }
                        tbody {
                            @for (index, run) in runs.iter().enumerate() {
                                tr {
                                    td { (index + 1) }
                                    @for cell in cells(run) { td { (cell) } }
                                    @if held_out { td { (percent(run.validation_top1())) } }
                                }
                            }
                        }
                    }
                }
                p { "Top-1 of the last epoch on the test images. The interval (Wilson) covers the choice of test images, not the seed; the best epoch is chosen on the validation images if a run held some out, else on the test images, which is optimistic." }
                div.wide { (PreEscaped(curves)) }
                h2 { "Keys that differ" }
                @if different.is_empty() {
                    p { "None." }
                } @else {
                    div.wide {
                        table.keys {
                            thead { tr { th { "key" } @for index in 0..runs.len() { th { "run " (index + 1) } } } }
                            tbody {
                                @for (key, values) in &different {
                                    tr { td { code { (key) } } @for value in values { td { (value) } } }
                                }
                            }
                        }
                    }
                }
            }
        }
    };
    Ok(page.into_string())
}

/// The curves of the runs.
///
/// # Errors
/// If they cannot be drawn.
pub(super) fn svg(runs: &[RunView], medium: Medium) -> Result<String> {
    let named = |(index, run): (usize, &RunView)| (format!("{}  {}", index + 1, name(run)), run.points.clone());
    curves::compare(&runs.iter().enumerate().map(named).collect::<Vec<_>>(), medium)
}
