//! The report in Markdown.

use super::table::{Origin, Table};
use super::words::{
    DAGGER, METHOD, claim, environments, figures, made, published_difference, published_note, training_note, verdict,
};
use crate::summary::{FamilySummary, Judged, Summary};

/// The whole report.
pub fn page(summary: &Summary) -> String {
    let mut text = format!("# ConvNN reproduction: {}\n\n{}\n", summary.name, summary.budget.note);
    text += &format!("\n{} of {} runs are finished ({}).\n", summary.records.len(), summary.planned, made(summary));
    let judged: Vec<&Judged> = summary.families.iter().flat_map(|family| &family.verdicts).collect();
    if !judged.is_empty() {
        text += &format!("\n## Claims\n\n{}\n{METHOD}\n", claims(&judged));
    }
    for family in &summary.families {
        text += &section(family);
    }
    text += "\n## Runs\n\nEach run is one command; the same seed gives the same numbers.\n\n```text\n";
    for record in &summary.records {
        text += &format!("{}\n", record.command);
    }
    text += "```\n";
    for environment in environments(summary) {
        text += &format!("\nEnvironment: {environment}.\n");
    }
    text
}

/// A family: table and notes.
fn section(family: &FamilySummary) -> String {
    let about = family.family;
    let mut text = format!("\n## {}\n\n{}\n\n", about.title, about.about);
    let table = Table::new(family);
    text += &lines(&table);
    if !table.same.is_empty() {
        text += &format!("\nIn every row: {}.\n", table.same.join(", "));
    }
    text += &format!("\n{}.", training_note(family));
    if let Some(note) = published_note(family) {
        text += &format!(" *{note}*. {DAGGER}");
    }
    text + "\n"
}

fn claims(judged: &[&Judged]) -> String {
    let mut text = "| claim | published | here | |\n|---|---|---|---|\n".to_owned();
    for judged in judged {
        let cells = [claim(judged), published_difference(judged), format!("**{}**", verdict(judged)), figures(judged)];
        text += &line(cells.into_iter());
    }
    text
}

fn lines(table: &Table) -> String {
    let headings = table.columns.iter().map(|column| match column.origin {
        Origin::Name | Origin::Ours => column.heading.clone(),
        Origin::Published => format!("*published {}*", column.heading),
    });
    let mut text = line(headings);
    let align = |origin| if origin == Origin::Name { "---" } else { "---:" };
    text += &line(table.columns.iter().map(|column| align(column.origin).to_owned()));
    for row in &table.rows {
        let cells = row.iter().zip(&table.columns);
        text += &line(cells.map(|(cell, column)| match column.origin {
            Origin::Name | Origin::Ours => cell.clone(),
            Origin::Published => format!("*{cell}*"),
        }));
    }
    text
}

fn line(cells: impl Iterator<Item = String>) -> String {
    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
}
