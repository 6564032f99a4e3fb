//! The charts of a family as SVG.

use anyhow::Result;
use convnn_chart::{Group, Line, Means, Medium, Panel, Point, curves, means};

use super::words::grouped;
use crate::run_folder::Epoch;
use crate::statistics::Mean;
use crate::summary::{FamilySummary, RowSummary};

/// Test top-1 over the axis that varies fastest, a group for each value of the others, beside the published values; `None` if
/// nothing varies or nothing is finished.
pub fn accuracy(family: &FamilySummary, medium: Medium) -> Result<Option<String>> {
    let panel = accuracy_panel(family);
    Ok(panel.map(|panel| means(&[panel], 1, medium)).transpose()?)
}

/// Test top-1 of each row over the operations of an image and over the time of an epoch; `None` if nothing is finished.
pub fn cost(family: &FamilySummary, medium: Medium) -> Result<Option<String>> {
    let over = |x_label: &str, x: fn(&RowSummary) -> Option<f64>| Means {
        title: format!("top-1 over {x_label}"),
        x_label: x_label.to_owned(),
        y_label: "test top-1 (%)".to_owned(),
        groups: family
            .rows
            .iter()
            .filter_map(|row| {
                let points = vec![point(row, x(row)?)?];
                Some(Group { label: label(family, row), points, ..Group::default() })
            })
            .collect(),
        ..Means::default()
    };
    let panels = [
        over("GFLOPs per image", |row| row.records().next().map(|record| record.result.gflops)),
        over("seconds per epoch", |row| row.mean(|result| result.seconds_per_epoch).map(|mean| mean.mean)),
    ];
    if panels[0].groups.is_empty() || panels[0].groups.len() > MOST_ROWS {
        return Ok(None);
    }
    Ok(Some(means(&panels, 2, medium)?))
}

/// Rows that a legend has room for.
const MOST_ROWS: usize = 12;

/// Test top-1 and training loss by epoch, a curve for each seed, beside the first epochs of the published curves.
pub fn training(family: &FamilySummary, medium: Medium) -> Result<Option<String>> {
    if family.rows.iter().all(|row| row.records().next().is_none()) || family.rows.len() > MOST_ROWS {
        return Ok(None);
    }
    // An epoch of the sample is a hundredth of a published one, so the curves are not comparable.
    let has_published = !family.training.sample && family.rows.iter().any(|row| published_curve(row).is_some());
    let panel = |title: &str, y_label: &str, value: fn(&Epoch) -> f64| Panel {
        title: title.to_owned(),
        x_label: "epoch".to_owned(),
        y_label: y_label.to_owned(),
        lines: family
            .rows
            .iter()
            .map(|row| {
                let points = |epochs: &[Epoch]| epochs.iter().map(|epoch| (epoch.epoch as i32, value(epoch))).collect();
                let published = published_curve(row).filter(|_| has_published);
                Line {
                    label: label(family, row),
                    solid: row.records().map(|record| points(&record.epochs)).collect(),
                    dashed: published.map_or(Vec::new(), points),
                }
            })
            .collect(),
        dashed_label: has_published.then(|| "dashed: published, full size, first epochs only".to_owned()),
    };
    let panels = [
        panel("test top-1", "test top-1 (%)", |epoch| epoch.test_top1),
        panel("training loss", "training loss", |epoch| epoch.train_loss),
    ];
    Ok(Some(curves(&panels, 2, medium)?))
}

fn published_curve<'a>(row: &RowSummary<'a>) -> Option<&'a [Epoch]> {
    row.row.published.as_ref().map(|published| published.curve.as_slice()).filter(|curve| !curve.is_empty())
}

/// The values of a row on the axes that vary.
fn label(family: &FamilySummary, row: &RowSummary) -> String {
    let text = row.row.label(family.family, |axis| family.varies[axis]);
    if text.is_empty() { family.family.title.clone() } else { text }
}

fn point(row: &RowSummary, x: f64) -> Option<Point> {
    let Mean { mean, sd, .. } = row.top1()?;
    let values = row.records().map(|record| record.result.last.top1).collect();
    Some(Point { x, mean, sd, values })
}

fn accuracy_panel(family: &FamilySummary) -> Option<Means> {
    let place = family.varies.iter().rposition(|&varies| varies)?;
    let axis = &family.family.axes[place];
    let mut shown: Vec<usize> = family.rows.iter().map(|row| row.row.values[place]).collect();
    shown.sort_unstable();
    shown.dedup();
    let numbers: Option<Vec<f64>> = shown.iter().map(|&value| axis.values[value].number).collect();
    // Over decades a linear axis would crowd the small ones.
    let numbers = numbers.filter(|numbers| {
        let positive = numbers.iter().copied().filter(|number| *number > 0.0);
        positive.clone().fold(0.0, f64::max) < 50.0 * positive.fold(f64::INFINITY, f64::min)
    });
    let x = |row: &RowSummary| {
        let index = shown.iter().position(|&value| value == row.row.values[place]).unwrap_or_default();
        numbers.as_ref().map_or(index as f64, |numbers| numbers[index])
    };
    let others = |row: &RowSummary| row.row.label(family.family, |other| other != place && family.varies[other]);
    let mut groups: Vec<Group> = Vec::new();
    let whose = |name: &str, row: &RowSummary| match others(row) {
        others if others.is_empty() => name.to_owned(),
        others => format!("{others}, {name}"),
    };
    for row in &family.rows {
        if let Some(point) = point(row, x(row)) {
            add(&mut groups, whose("ours", row), false, point);
        }
    }
    if groups.is_empty() {
        return None;
    }
    // On 256 test images of compact models, published accuracies only stretch the axis; so do those without ours beside them.
    let ours: Vec<String> = groups.iter().map(|group| group.label.clone()).collect();
    let beside = |row: &&RowSummary| !family.training.sample && ours.contains(&whose("ours", row));
    for row in family.rows.iter().filter(beside) {
        if let Some(published) = &row.row.published {
            let point = Point { x: x(row), mean: published.top1, ..Point::default() };
            add(&mut groups, whose("published (full size)", row), true, point);
        }
    }
    let runs: usize = family.rows.iter().map(|row| row.records().count()).sum();
    Some(Means {
        title: family.family.title.clone(),
        x_label: axis.label.clone(),
        y_label: format!("test top-1 (%), {} runs", grouped(runs as u64)),
        names: match numbers {
            Some(_) => Vec::new(),
            None => shown.iter().map(|&value| axis.values[value].label.clone()).collect(),
        },
        groups,
        level: chance(family),
    })
}

/// Adds a point to the group of this name.
fn add(groups: &mut Vec<Group>, label: String, reference: bool, point: Point) {
    match groups.iter_mut().find(|group| group.label == label) {
        Some(group) => group.points.push(point),
        None => groups.push(Group { label, points: vec![point], joined: true, reference }),
    }
}

/// The accuracy of guessing, if all rows have the same.
fn chance(family: &FamilySummary) -> Option<(f64, String)> {
    let level = |row: &RowSummary| if row.row.dataset() == "cifar100" { 1.0 } else { 10.0 };
    let first = level(family.rows.first()?);
    family.rows.iter().all(|row| level(row) == first).then(|| (first, "chance".to_owned()))
}
