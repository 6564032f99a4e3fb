//! The report in Markdown.

use super::table::{DAGGER, Origin, Table, published_note, training_note};
use super::{environment, verdict};
use crate::summary::{FamilySummary, Summary};

/// The whole report.
pub fn page(summary: &Summary) -> String {
    let mut text = format!("# ConvNN reproduction: {}\n\n{}\n", summary.name, summary.preset.note);
    for family in &summary.families {
        text += &section(family);
    }
    text += "\n## Runs\n\nEach run is one command; with the same seed it gives the same numbers.\n\n```text\n";
    for record in summary.records() {
        text += &format!("{}\n", record.command);
    }
    text += "```\n";
    if let Some(record) = summary.records().next() {
        text += &format!("\nRun on: {}.\n", environment(&record.environment));
    }
    text
}

/// A family: table, source, claims.
pub fn section(family: &FamilySummary) -> String {
    let about = family.family;
    let mut text = format!("\n## {}\n\n{}\n\n", about.title, about.about);
    text += &table(&Table::new(family));
    text += &format!("\n{}. *{}*; ", training_note(family), published_note(family));
    text += &format!("source: {}. {DAGGER}\n", about.source);
    if !family.verdicts.is_empty() {
        text += "\n| claim of the paper | published | here | |\n|---|---|---|---|\n";
    }
    for (claim, found) in &family.verdicts {
        let (word, figures) = verdict(found);
        let published = published_difference(family, &claim.better, &claim.worse);
        text += &format!("| {} | {published} | **{word}** | {figures} |\n", claim.text);
    }
    text
}

/// The published difference of two rows in points, with its sign.
pub fn published_difference(family: &FamilySummary, better: &str, worse: &str) -> String {
    let top1 = |id| family.family.row(id).map(|row| row.published.top1);
    match (top1(better), top1(worse)) {
        (Some(better), Some(worse)) => format!("{:+.2} points", better - worse),
        _ => "–".to_string(),
    }
}

fn table(table: &Table) -> String {
    let headings = table.columns.iter().map(|column| match column.origin {
        Origin::Ours => column.heading.to_string(),
        Origin::Published => format!("*published {}*", column.heading),
    });
    let mut text = line(headings);
    text += &line((0..table.columns.len()).map(|c| if c == 0 { "---" } else { "---:" }.to_string()));
    for row in &table.rows {
        let cells = row.iter().zip(&table.columns);
        text += &line(cells.map(|(cell, column)| match column.origin {
            Origin::Ours => cell.clone(),
            Origin::Published => format!("*{cell}*"),
        }));
    }
    text
}

fn line(cells: impl Iterator<Item = String>) -> String {
    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
}
