//! The training curves of a family as SVG.

use anyhow::Result;
use convnn_chart::{Line, Medium, Panel, curves};

use crate::experiment::Data;
use crate::run_folder::Epoch;
use crate::summary::{FamilySummary, RowSummary};

/// What is plotted against the epochs.
#[derive(Clone, Copy)]
pub enum Figure {
    /// Test top-1 in percent.
    TestTop1,
    /// Mean training loss.
    TrainLoss,
}

/// An SVG with one panel per family and figure, side by side.
pub fn svg(panels: &[(&FamilySummary, Figure)], medium: Medium) -> Result<String> {
    let panels: Vec<Panel> = panels.iter().map(|&(family, figure)| panel(family, figure)).collect();
    Ok(curves(&panels, panels.len(), medium)?)
}

fn panel(family: &FamilySummary, figure: Figure) -> Panel {
    let (title, y_label) = match figure {
        Figure::TestTop1 => ("test top-1", "test top-1 (%)"),
        Figure::TrainLoss => ("training loss", "training loss"),
    };
    // An epoch of the sample is a hundredth of a published one, so the curves are not comparable.
    let published = family.family.published.as_ref().filter(|_| family.training.data != Data::Sample);
    Panel {
        title: format!("{}: {title}", family.training.base),
        x_label: "epoch".to_string(),
        y_label: y_label.to_string(),
        lines: family.rows.iter().map(|row| line(row, figure, published.is_some())).collect(),
        dashed_label: published.map(|runs| format!("dashed: published, full-size {}, its first epochs", runs.model)),
    }
}

/// The curves of one row: one per seed, and the published one of the full-size counterpart, if any.
fn line(row: &RowSummary, figure: Figure, published: bool) -> Line {
    let point = |epoch: &Epoch| match figure {
        Figure::TestTop1 => (epoch.epoch as i32, epoch.test_top1),
        Figure::TrainLoss => (epoch.epoch as i32, epoch.train_loss),
    };
    let published = row.row.published.as_ref().filter(|_| published);
    let curve = published.map_or([].as_slice(), |published| &published.curve);
    Line {
        label: row.row.label.clone(),
        solid: row.records.iter().map(|record| record.epochs.iter().map(point).collect()).collect(),
        dashed: curve.iter().map(point).collect(),
    }
}
