//! The table of a family, independent of the format.

use super::words::{grouped, signed, with_spread};
use crate::experiments::Published;
use crate::summary::{FamilySummary, RowSummary};

/// A table of text cells.
pub struct Table {
    /// The columns; the first ones name the row.
    pub columns: Vec<Column>,
    /// One cell per column for each row.
    pub rows: Vec<Vec<String>>,
    /// What is the same in every row, instead of a column.
    pub same: Vec<String>,
    /// The ids of each row's finished runs.
    pub runs: Vec<Vec<String>>,
}

/// A column of the table.
#[derive(Clone)]
pub struct Column {
    /// Its heading.
    pub heading: String,
    /// Whose figures it contains.
    pub origin: Origin,
    /// Whether it is left out where space is short.
    pub detail: bool,
}

/// Whose figures a column contains.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It names the row.
    Name,
    /// Those of our runs.
    Ours,
    /// Those of the published run of the full-size counterpart.
    Published,
}

type Cell = fn(&RowSummary) -> Option<String>;

/// The figures: heading, origin, whether a detail, and the cell.
const FIGURES: [(&str, Origin, bool, Cell); 12] = [
    ("runs", Origin::Ours, true, |row| Some(format!("{} of {}", row.records().count(), row.runs.len()))),
    ("top-1 %", Origin::Ours, false, |row| row.top1().map(with_spread)),
    ("last 5 %", Origin::Ours, true, |row| {
        let enough = row.records().all(|record| record.result.epochs >= 5);
        row.mean(|result| result.last5.top1).filter(|_| enough).map(with_spread)
    }),
    ("best %", Origin::Ours, true, |row| row.mean(|result| result.best.top1).map(with_spread)),
    ("top-1 %", Origin::Published, false, |row| figure(row, |run| format!("{:.2}", run.top1))),
    ("last 5 %", Origin::Published, true, |row| {
        row.row.published.as_ref().filter(|run| run.epochs >= 5).map(|run| format!("{:.2}", run.last5_top1))
    }),
    ("best %", Origin::Published, true, |row| figure(row, |run| format!("{:.2}", run.best_top1))),
    ("parameters", Origin::Ours, false, |row| row.records().next().map(|record| grouped(record.result.params))),
    ("parameters", Origin::Published, true, |row| figure(row, |run| grouped(run.parameters))),
    ("GFLOPs", Origin::Ours, true, |row| row.records().next().map(|record| format!("{:.3}", record.result.gflops))),
    ("GFLOPs†", Origin::Published, true, |row| {
        figure(row, |run| format!("{:.3}", run.gflops_recount.unwrap_or(run.gflops_logged)))
    }),
    ("s/epoch", Origin::Ours, false, |row| {
        row.mean(|result| result.seconds_per_epoch).map(|mean| format!("{:.1}", mean.mean))
    }),
];

/// Ours minus published, where both were trained alike.
const DIFFERENCE: Cell = |row| Some(signed(row.top1()?.mean - row.row.published.as_ref()?.top1));

fn figure(row: &RowSummary, figure: fn(&Published) -> String) -> Option<String> {
    row.row.published.as_ref().map(figure)
}

impl Table {
    /// The table of `family`; a missing figure is a dash. Figures that are the same in every row are told once, and columns
    /// without a figure are left out. A budget that trains as published adds the difference.
    pub fn new(family: &FamilySummary) -> Self {
        let mut columns = Vec::new();
        let mut cells: Vec<Vec<String>> = vec![Vec::new(); family.rows.len()];
        for (place, axis) in family.family.axes.iter().enumerate().filter(|(place, _)| family.varies[*place]) {
            columns.push(Column { heading: axis.label.clone(), origin: Origin::Name, detail: false });
            for (row, cells) in family.rows.iter().zip(&mut cells) {
                cells.push(axis.values[row.row.values[place]].label.clone());
            }
        }
        if columns.is_empty() {
            columns.push(Column { heading: "row".to_owned(), origin: Origin::Name, detail: false });
            cells.iter_mut().for_each(|cells| cells.push(family.family.title.clone()));
        }
        let mut same = Vec::new();
        let extra = family.training.as_published.then_some(("difference", Origin::Ours, false, DIFFERENCE));
        for (heading, origin, detail, cell) in FIGURES.into_iter().chain(extra) {
            let column: Vec<Option<String>> = family.rows.iter().map(cell).collect();
            let known: Vec<&String> = column.iter().flatten().collect();
            let Some(first) = known.first() else { continue };
            let constant = known.len() == column.len() && known.iter().all(|other| other == first) && column.len() > 1;
            let may_be_told = matches!(heading, "runs" | "parameters" | "GFLOPs" | "GFLOPs†");
            if constant && may_be_told {
                let whose = if origin == Origin::Published { "published " } else { "" };
                same.push(match heading {
                    "runs" => format!("{first} {}", if first.as_str() == "1 of 1" { "run" } else { "runs" }),
                    heading => format!("{whose}{first} {heading}"),
                });
                continue;
            }
            columns.push(Column { heading: heading.to_owned(), origin, detail });
            for (cells, cell) in cells.iter_mut().zip(column) {
                cells.push(cell.unwrap_or_else(|| "–".to_owned()));
            }
        }
        let ids = |row: &RowSummary| row.records().map(|record| record.id.clone()).collect();
        Self { columns, rows: cells, same, runs: family.rows.iter().map(ids).collect() }
    }
}
