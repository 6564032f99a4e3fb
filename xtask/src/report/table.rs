//! The table of a family, independent of the format.

use super::{grouped, with_spread};
use crate::experiment::{Data, Training};
use crate::published::Published;
use crate::summary::{FamilySummary, RowSummary};

/// A table of text cells.
pub struct Table {
    /// The columns; the first one names the row.
    pub columns: Vec<Column>,
    /// One cell per column for each row.
    pub rows: Vec<Vec<String>>,
}

/// A column of the table.
#[derive(Clone, Copy)]
pub struct Column {
    /// Its heading.
    pub heading: &'static str,
    /// Whose figures it contains.
    pub origin: Origin,
    /// Whether it is omitted where space is short.
    pub detail: bool,
    cell: fn(&RowSummary) -> Option<String>,
}

/// Whose figures a column contains.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Those of our runs.
    Ours,
    /// Those of the published run of the full-size counterpart.
    Published,
}

const COLUMNS: [Column; 12] = [
    ours("layer", false, |row| Some(row.row.label.clone())),
    ours("runs", true, |row| Some(format!("{} of {}", row.records.len(), row.planned))),
    ours("top-1 %", false, |row| row.top1().map(with_spread)),
    published("top-1 %", false, |row| figure(row, |published| format!("{:.2}", published.top1))),
    ours("last 5 %", true, |row| row.mean(|result| result.last5.top1).map(with_spread)),
    ours("best %", true, |row| row.mean(|result| result.best.top1).map(with_spread)),
    ours("top-5 %", false, |row| row.mean(|result| result.last.top5).map(with_spread)),
    ours("parameters", false, |row| row.records.first().map(|record| grouped(record.result.params))),
    published("parameters", true, |row| figure(row, |published| grouped(published.parameters))),
    ours("GFLOPs", true, |row| row.records.first().map(|record| format!("{:.3}", record.result.gflops))),
    published("GFLOPs†", true, |row| figure(row, |published| format!("{:.3}", published.gflops_logged))),
    ours("s/epoch", false, |row| row.mean(|result| result.seconds_per_epoch).map(|mean| format!("{:.1}", mean.mean))),
];

/// What the dagger refers to.
pub const DAGGER: &str =
    "† as printed by the authors' code, which omits 1-D convolutions and convolutions with padding \"same\".";

const fn ours(heading: &'static str, detail: bool, cell: fn(&RowSummary) -> Option<String>) -> Column {
    Column { heading, origin: Origin::Ours, detail, cell }
}

const fn published(heading: &'static str, detail: bool, cell: fn(&RowSummary) -> Option<String>) -> Column {
    Column { heading, origin: Origin::Published, detail, cell }
}

fn figure(row: &RowSummary, figure: fn(&Published) -> String) -> Option<String> {
    row.row.published.as_ref().map(figure)
}

impl Table {
    /// The table of `family`; a missing figure is a dash. The published columns are omitted if no row has a published
    /// run.
    pub fn new(family: &FamilySummary) -> Self {
        let all = COLUMNS.into_iter();
        let columns: Vec<_> =
            all.filter(|column| column.origin == Origin::Ours || family.family.published.is_some()).collect();
        let cells = |row| columns.iter().map(|column| (column.cell)(row).unwrap_or("–".into())).collect();
        let rows = family.rows.iter().map(cells).collect();
        Self { columns, rows }
    }
}

/// How a family was trained.
pub fn training_note(family: &FamilySummary) -> String {
    let Training { base, data, epochs, .. } = family.training;
    let data = match data {
        Data::Sample => "the embedded sample of CIFAR-10",
        Data::Cifar10 => "the full CIFAR-10",
        Data::Cifar100 => "the full CIFAR-100",
    };
    format!(
        "Ours: {base} on {data}, {epochs} epochs; accuracies are those of the final epoch unless the \
         heading says otherwise"
    )
}

/// What the published columns contain; `None` if there are none.
pub fn published_note(family: &FamilySummary) -> Option<String> {
    let model = &family.family.published.as_ref()?.model;
    let epochs = family.rows.iter().find_map(|row| row.row.published.as_ref())?.epochs;
    let data = match family.training.data {
        Data::Sample | Data::Cifar10 => "CIFAR-10",
        Data::Cifar100 => "CIFAR-100",
    };
    Some(format!(
        "Published: full-size {model}, {epochs} epochs, full {data}; not comparable with our model size and training"
    ))
}
