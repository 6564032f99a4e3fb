//! The results of every run as CSV, next to the published numbers.

use anyhow::Result;
use serde::Serialize;

use crate::published::Published;
use crate::run_folder::Record;
use crate::summary::{FamilySummary, RowSummary, Summary};

/// A finished run. The published columns are empty for a row without a published run.
#[derive(Serialize)]
struct Line<'a> {
    run: &'a str,
    family: &'a str,
    row: &'a str,
    preset: &'a str,
    dataset: &'a str,
    seed: u64,
    epochs: u32,
    final_top1: f64,
    final_top5: f64,
    final_loss: f64,
    last5_top1: f64,
    last5_top5: f64,
    best_top1: f64,
    best_top5: f64,
    params: u64,
    gflops: f64,
    seconds_per_epoch: f64,
    published_final_top1: Option<f64>,
    published_last5_top1: Option<f64>,
    published_best_top1: Option<f64>,
    published_epochs: Option<u32>,
    published_source: Option<&'a str>,
}

/// One line per finished run.
pub fn text(summary: &Summary) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for family in &summary.families {
        for row in &family.rows {
            for record in &row.records {
                writer.serialize(Line::new(family, row, record))?;
            }
        }
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

impl<'a> Line<'a> {
    fn new(family: &'a FamilySummary, row: &'a RowSummary, record: &'a Record) -> Self {
        let (result, published) = (&record.result, row.row.published.as_ref());
        let figure = |figure: fn(&Published) -> f64| published.map(figure);
        Self {
            run: &record.id,
            family: &family.family.id,
            row: &row.row.id,
            preset: &result.preset,
            dataset: &result.dataset,
            seed: result.seed,
            epochs: result.epochs,
            final_top1: result.last.top1,
            final_top5: result.last.top5,
            final_loss: result.last.loss,
            last5_top1: result.last5.top1,
            last5_top5: result.last5.top5,
            best_top1: result.best.top1,
            best_top5: result.best.top5,
            params: result.params,
            gflops: result.gflops,
            seconds_per_epoch: result.seconds_per_epoch,
            published_final_top1: figure(|published| published.top1),
            published_last5_top1: figure(|published| published.last5_top1),
            published_best_top1: figure(|published| published.best_top1),
            published_epochs: published.map(|published| published.epochs),
            published_source: published.map(|published| published.source.as_str()),
        }
    }
}
