//! The report in Markdown.

use super::table::{DAGGER, Origin, Table, published_note, training_note};
use super::{environment, published_difference, verdict};
use crate::summary::{FamilySummary, Summary};

/// The whole report.
pub fn page(summary: &Summary) -> String {
    let mut text = format!("# ConvNN reproduction: {}\n\n{}\n", summary.name, summary.preset.note);
    for family in &summary.families {
        text += &section(family);
    }
    text += "\n## Runs\n\nEach run is one command; the same seed gives the same numbers.\n\n```text\n";
    for record in summary.records() {
        text += &format!("{}\n", record.command);
    }
    text += "```\n";
    if let Some(record) = summary.records().next() {
        text += &format!("\nEnvironment: {}.\n", environment(&record.environment));
    }
    text
}

/// A family: table, source, claims.
fn section(family: &FamilySummary) -> String {
    let about = family.family;
    let mut text = format!("\n## {}\n\n{}\n\n", about.title, about.about);
    text += &table(&Table::new(family));
    text += &format!("\n{}.", training_note(family));
    if let Some((note, runs)) = published_note(family).zip(about.published.as_ref()) {
        text += &format!(" *{note}*; source: {}. {DAGGER}", runs.source);
    }
    text += "\n";
    if !family.verdicts.is_empty() {
        text += &claims(family);
    }
    text
}

fn claims(family: &FamilySummary) -> String {
    let is_published = family.family.published.is_some();
    let mut text = match is_published {
        true => "\n| claim | published | here | |\n|---|---|---|---|\n".to_string(),
        false => "\n| claim | here | |\n|---|---|---|\n".to_string(),
    };
    for (claim, found) in &family.verdicts {
        let (word, figures) = verdict(found);
        let mut cells = vec![claim.text.clone(), format!("**{word}**"), figures];
        if is_published {
            cells.insert(1, published_difference(family, claim));
        }
        text += &line(cells.into_iter());
    }
    text
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
