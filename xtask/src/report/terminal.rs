//! The tables as aligned text for a terminal.

use super::table::{Origin, Table};
use super::words::{claim, figures, published_note, verdict};
use crate::summary::{FamilySummary, Summary, Verdict};
use crate::terminal::aligned;

/// The tables and verdicts of all families.
pub fn tables(summary: &Summary) -> String {
    let mut text = format!("\n{}\n", summary.budget.note);
    for family in &summary.families {
        text += &format!("\n{}\n{}", family.family.title, table(family));
        for judged in family.verdicts.iter().filter(|judged| !matches!(judged.verdict, Verdict::Open(_))) {
            text += &format!("  {}: {} ({})\n", verdict(judged), claim(judged), figures(judged));
        }
    }
    text
}

fn table(family: &FamilySummary) -> String {
    let table = Table::new(family);
    let shown: Vec<usize> = (0..table.columns.len()).filter(|&c| !table.columns[c].detail).collect();
    let heading = |c: usize| match table.columns[c].origin {
        Origin::Name | Origin::Ours => table.columns[c].heading.clone(),
        Origin::Published => format!("published {} *", table.columns[c].heading),
    };
    let mut lines = vec![shown.iter().map(|&c| heading(c)).collect::<Vec<_>>()];
    lines.extend(table.rows.iter().map(|row| shown.iter().map(|&c| row[c].clone()).collect()));
    let mut text = aligned(&lines);
    text += &published_note(family).map_or(String::new(), |note| format!("  * {note}\n"));
    text
}
