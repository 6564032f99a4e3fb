//! The tables as aligned text for a terminal.

use super::table::{Origin, Table, published_note};
use super::verdict;
use crate::summary::{FamilySummary, Summary};

/// The tables and verdicts of all families.
pub fn tables(summary: &Summary) -> String {
    let mut text = format!("\n{}\n", summary.preset.note);
    for family in &summary.families {
        text += &format!("\n{}\n", family.family.title);
        text += &aligned(family);
        for (claim, found) in family.verdicts.iter().filter(|_| summary.preset.verdicts) {
            let (word, figures) = verdict(found);
            text += &format!("  {word}: {} ({figures})\n", claim.text);
        }
    }
    text
}

fn aligned(family: &FamilySummary) -> String {
    let table = Table::new(family);
    let shown: Vec<usize> = (0..table.columns.len()).filter(|&c| !table.columns[c].detail).collect();
    let heading = |c: usize| match table.columns[c].origin {
        Origin::Ours => table.columns[c].heading.to_string(),
        Origin::Published => format!("published {} *", table.columns[c].heading),
    };
    let mut lines = vec![shown.iter().map(|&c| heading(c)).collect::<Vec<_>>()];
    for row in &table.rows {
        lines.push(shown.iter().map(|&c| row[c].clone()).collect());
    }
    let widths: Vec<usize> =
        (0..shown.len()).map(|c| lines.iter().map(|line| line[c].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        let name = format!("{:<width$}", line[0], width = widths[0]);
        let figures = line[1..].iter().zip(&widths[1..]);
        let figures: String = figures.map(|(cell, width)| format!("  {cell:>width$}")).collect();
        text += &format!("  {name}{figures}\n");
        if index == 0 {
            let rule: usize = widths.iter().sum::<usize>() + 2 * (widths.len() - 1);
            text += &format!("  {}\n", "─".repeat(rule));
        }
    }
    if let Some(note) = published_note(family) {
        text += &format!("  * {note}\n");
    }
    text
}
