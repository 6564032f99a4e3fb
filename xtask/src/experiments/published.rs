//! The published numbers: the CSV files in `xtask/paper`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::files::shown;
use crate::run_folder::Epoch;
use crate::statistics::Spread;

/// Values of columns, which together identify a published run.
pub type Key = BTreeMap<String, String>;

/// All published numbers.
#[derive(Debug)]
pub struct Tables {
    folder: PathBuf,
    runs: Table,
    repeats: Vec<Repeats>,
}

/// A CSV file.
#[derive(Debug)]
struct Table {
    header: csv::StringRecord,
    rows: Vec<csv::StringRecord>,
}

/// What a published run reached; accuracies in percent.
#[derive(Clone, Debug, Deserialize)]
pub struct Published {
    /// Test top-1 of the final epoch.
    #[serde(rename = "last_top1")]
    pub top1: f64,
    /// Mean test top-1 of the last five epochs.
    #[serde(rename = "mean5_top1")]
    pub last5_top1: f64,
    /// Best test top-1 of all epochs.
    pub best_top1: f64,
    /// Trainable parameters.
    #[serde(rename = "params")]
    pub parameters: u64,
    /// GFLOPs of one image as printed by the authors' code, which omits operations.
    pub gflops_logged: f64,
    /// GFLOPs of one image counted in full, where they were recounted.
    pub gflops_recount: Option<f64>,
    /// Seconds of the training pass of an epoch.
    pub train_s_per_epoch: f64,
    /// Epochs trained.
    pub epochs: u32,
    /// Its model and data set, as in `repeat_spread.csv`.
    pub model: String,
    /// The data set.
    pub dataset: String,
    /// The learning rate.
    pub lr: f64,
    /// The folder and the name of the run.
    #[serde(skip)]
    pub source: String,
    /// Every column of the run, as published.
    #[serde(skip)]
    pub arguments: Key,
    /// The epochs in order; empty if no curve is published.
    #[serde(skip)]
    pub curve: Vec<Epoch>,
}

/// Published runs with equal settings: a row of `repeat_spread.csv`.
#[derive(Clone, Debug, Deserialize)]
struct Repeats {
    model: String,
    dataset: String,
    lr: f64,
    runs: usize,
    /// The standard deviation of the final test top-1.
    last_sd: f64,
}

impl Published {
    /// What it had reached after `epochs`; `None` if its curve does not say.
    pub fn after(mut self, epochs: u32) -> Option<Self> {
        if epochs == self.epochs {
            return Some(self);
        }
        self.curve.truncate(epochs as usize);
        let last = self.curve.last().filter(|last| last.epoch == epochs)?;
        let top1 = |epoch: &Epoch| epoch.test_top1;
        let last5 = &self.curve[self.curve.len().saturating_sub(5)..];
        Some(Self {
            top1: top1(last),
            last5_top1: last5.iter().map(top1).sum::<f64>() / last5.len() as f64,
            best_top1: self.curve.iter().map(top1).fold(0.0, f64::max),
            epochs,
            ..self
        })
    }
}

impl Tables {
    /// Reads `all_runs.csv` and `repeat_spread.csv` in `folder`.
    pub fn read(folder: &Path) -> Result<Self> {
        let repeats = open(&folder.join("repeat_spread.csv"))?.deserialize().collect::<csv::Result<_>>();
        let repeats = repeats.context("repeat_spread.csv")?;
        let mut reader = open(&folder.join("all_runs.csv"))?;
        let header = reader.headers().context("all_runs.csv")?.clone();
        let rows = reader.records().collect::<csv::Result<_>>().context("all_runs.csv")?;
        Ok(Self { folder: folder.to_owned(), runs: Table { header, rows }, repeats })
    }

    /// The run whose columns have the values of `key`; `None` if nothing was published for them. Numbers are compared as
    /// numbers.
    pub fn find(&self, key: &Key) -> Result<Option<Published>> {
        let Table { header, rows } = &self.runs;
        let mut wanted = Vec::new();
        for (column, value) in key {
            let place = header.iter().position(|name| name == column);
            wanted.push((place.with_context(|| format!("all_runs.csv has no column `{column}`"))?, value.as_str()));
        }
        let described = || key.iter().map(|(column, value)| format!("{column}={value}")).collect::<Vec<_>>().join(" ");
        let mut found = rows.iter().filter(|row| wanted.iter().all(|&(place, value)| equal(&row[place], value)));
        let Some(row) = found.next() else { return Ok(None) };
        ensure!(found.next().is_none(), "all_runs.csv has more than one run with {}", described());
        let published: Published = row.deserialize(Some(header)).with_context(described)?;
        let arguments: Key = header.iter().zip(row).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Ok(Some(Published { source: format!("{}/{}", arguments["folder"], arguments["run"]), arguments, ..published }))
    }

    /// The epochs in `file`, which must be those of `published`.
    pub fn curve(&self, file: &str, published: &Published) -> Result<Vec<Epoch>> {
        let path = self.folder.join(file);
        let epochs: Vec<Epoch> =
            open(&path)?.deserialize().collect::<csv::Result<_>>().with_context(|| shown(&path))?;
        let last = epochs.last().with_context(|| format!("{file} is empty"))?;
        ensure!(
            (last.epoch, last.test_top1) == (published.epochs, published.top1),
            "{file} ends with {} % after epoch {}; its run, {}, with {} % after {}",
            last.test_top1,
            last.epoch,
            published.source,
            published.top1,
            published.epochs
        );
        Ok(epochs)
    }

    /// The pooled spread of the final test top-1 of runs with equal settings, of the model, data set and learning rate of
    /// `run`.
    pub fn spread(&self, run: &Published) -> Option<Spread> {
        let alike = |group: &&Repeats| (&group.model, &group.dataset, group.lr) == (&run.model, &run.dataset, run.lr);
        let (mut squares, mut freedom) = (0.0, 0);
        for group in self.repeats.iter().filter(alike) {
            squares += group.last_sd.powi(2) * (group.runs - 1) as f64;
            freedom += group.runs - 1;
        }
        (freedom > 0).then(|| Spread { sd: (squares / freedom as f64).sqrt(), freedom })
    }
}

/// Whether two cells have the same value: `0.0` is `0`.
fn equal(a: &str, b: &str) -> bool {
    a == b || a.parse::<f64>().is_ok_and(|a| b.parse() == Ok(a))
}

fn open(path: &Path) -> Result<csv::Reader<std::fs::File>> {
    csv::Reader::from_path(path).with_context(|| format!("cannot read {}", shown(path)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::workspace::data_folder;

    fn key(columns: &[(&str, &str)]) -> Key {
        columns.iter().map(|(column, value)| (column.to_string(), value.to_string())).collect()
    }

    #[test]
    fn a_key_identifies_at_most_one_run() {
        let tables = Tables::read(&data_folder("paper")).unwrap();
        let half = [("folder", "BR_test_cos---"), ("dataset", "cifar10"), ("branch_ratio", "0.50")];
        let mut one = key(&half);
        let error = tables.find(&one).unwrap_err().to_string();
        assert!(error.contains("more than one run with branch_ratio=0.50"), "{error}");
        one.extend(key(&[("similarity", "Col"), ("aggregation", "Col")]));
        let published = tables.find(&one).unwrap().unwrap();
        assert_eq!((published.top1, published.best_top1, published.epochs), (81.2695, 82.793, 150));
        one.extend(key(&[("branch_ratio", "0.3")]));
        assert!(tables.find(&one).unwrap().is_none());
        let error = tables.find(&key(&[("ratio", "1")])).unwrap_err().to_string();
        assert!(error.contains("no column `ratio`"), "{error}");
    }

    #[test]
    fn a_curve_says_what_was_reached_after_fewer_epochs() {
        let tables = Tables::read(&data_folder("paper")).unwrap();
        let columns = [("folder", "BR_test_cos---"), ("dataset", "cifar10"), ("branch_ratio", "0.50")];
        let columns = columns.into_iter().chain([("similarity", "Col"), ("aggregation", "Col")]);
        let mut published = tables.find(&key(&columns.collect::<Vec<_>>())).unwrap().unwrap();
        assert!(published.clone().after(2).is_none(), "no curve");
        published.curve = tables.curve("curve_vgg11_cifar10_branch_0500_colcol_cos.csv", &published).unwrap();
        let early = published.clone().after(2).unwrap();
        assert_eq!((early.top1, early.best_top1, early.epochs, early.curve.len()), (59.209, 59.209, 2, 2));
        assert!((early.last5_top1 - (49.8047 + 59.209) / 2.0).abs() < 1e-9);
        // All epochs: the figures of the table.
        assert_eq!(published.clone().after(150).unwrap().last5_top1, published.last5_top1);
        assert!(published.after(151).is_none());
    }

    #[test]
    fn equal_runs_differ_by_more_than_half_a_point() {
        let tables = Tables::read(&data_folder("paper")).unwrap();
        let columns = [("folder", "BR_test_cos---"), ("run", "BranchingConvNN_All_K9_Col_Col_br0000_s42")];
        let mut one = key(&columns);
        one.extend(key(&[("dataset", "cifar10")]));
        let run = tables.find(&one).unwrap().unwrap();
        let Spread { sd, freedom } = tables.spread(&run).unwrap();
        assert!((sd - 0.649).abs() < 1e-3 && freedom == 157, "{sd}, {freedom}");
        let group: Vec<f64> = (tables.runs.rows.iter())
            .filter(|row| {
                let is = |column: &str, value: &str| {
                    equal(&row[tables.runs.header.iter().position(|name| name == column).unwrap()], value)
                };
                is("folder", "K_test_cos_first")
                    && is("dataset", "cifar10")
                    && is("branch_ratio", "0")
                    && is("conv_kernel", "1")
            })
            .map(|row| row.deserialize::<Published>(Some(&tables.runs.header)).unwrap().top1)
            .collect();
        let found = crate::statistics::Mean::of(&group).unwrap();
        let stored = tables.repeats.iter().find(|group| group.runs == 12 && group.last_sd == 1.036).unwrap();
        assert!(found.n == stored.runs && (found.sd.unwrap() - stored.last_sd).abs() < 1e-3, "{found:?}");
        // Runs at ten times the learning rate differ more.
        assert!(tables.spread(&Published { lr: 1e-3, ..run.clone() }).unwrap().sd > 1.0);
        assert_eq!(tables.spread(&Published { model: "resnet50".to_owned(), ..run }), None);
    }
}
