//! The table of a family, for every format.

use super::{grouped, with_spread};
use crate::experiment::{Data, Training};
use crate::summary::{FamilySummary, RowSummary};

/// A table of text cells.
pub struct Table {
    /// The columns; the first names the row.
    pub columns: Vec<Column>,
    /// A cell a column for each row.
    pub rows: Vec<Vec<String>>,
}

/// A column of the table.
pub struct Column {
    /// Its heading.
    pub heading: &'static str,
    /// Whose figures it holds.
    pub origin: Origin,
    /// Whether it is left out where there is little room.
    pub detail: bool,
}

/// Whose figures a column holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Our runs'.
    Ours,
    /// The published run's of the full-size counterpart.
    Published,
}

type Cell = fn(&RowSummary) -> Option<String>;

const COLUMNS: [(&str, Origin, bool, Cell); 12] = [
    ("layer", Origin::Ours, false, |row| Some(row.row.label.clone())),
    ("runs", Origin::Ours, true, |row| Some(format!("{} of {}", row.records.len(), row.planned))),
    ("top-1 %", Origin::Ours, false, |row| row.top1().map(with_spread)),
    ("top-1 %", Origin::Published, false, |row| Some(format!("{:.2}", row.row.published.top1))),
    ("last 5 %", Origin::Ours, true, |row| row.mean(|r| r.last5.top1).map(with_spread)),
    ("best %", Origin::Ours, true, |row| row.mean(|r| r.best.top1).map(with_spread)),
    ("top-5 %", Origin::Ours, false, |row| row.mean(|r| r.last.top5).map(with_spread)),
    ("parameters", Origin::Ours, false, |row| row.records.first().map(|r| grouped(r.result.params))),
    ("parameters", Origin::Published, true, |row| Some(grouped(row.row.published.parameters))),
    ("GFLOPs", Origin::Ours, true, |row| row.records.first().map(|r| format!("{:.3}", r.result.gflops))),
    ("GFLOPs†", Origin::Published, true, |row| Some(format!("{:.3}", row.row.published.gflops_logged))),
    ("s/epoch", Origin::Ours, false, |row| row.mean(|r| r.seconds_per_epoch).map(|m| format!("{:.1}", m.mean))),
];

/// What the dagger says.
pub const DAGGER: &str =
    "† as the authors' code printed them: it leaves 1-D convolutions and convolutions with padding \"same\" out.";

impl Table {
    /// The table of `family`; a figure that no run gives is a dash.
    pub fn new(family: &FamilySummary) -> Self {
        let cells = |row: &RowSummary| COLUMNS.iter().map(|column| column.3(row).unwrap_or("–".into())).collect();
        let columns = COLUMNS.iter().map(|&(heading, origin, detail, _)| Column { heading, origin, detail });
        Self { columns: columns.collect(), rows: family.rows.iter().map(cells).collect() }
    }
}

/// How we trained a family.
pub fn training_note(family: &FamilySummary) -> String {
    let Training { base, data, epochs, .. } = family.training;
    let data = match data {
        Data::Sample => "the embedded sample of CIFAR-10",
        Data::Cifar10 => "the full CIFAR-10",
        Data::Cifar100 => "the full CIFAR-100",
    };
    format!(
        "Ours: {base} on {data}, {epochs} epochs; accuracies are of the final epoch unless the heading says otherwise"
    )
}

/// What the published columns hold.
pub fn published_note(family: &FamilySummary) -> String {
    let epochs = family.rows.first().map_or(0, |row| row.row.published.epochs);
    let model = &family.family.published_model;
    format!("Published: full-size {model}, {epochs} epochs, full CIFAR-10; not comparable with our size and training")
}
