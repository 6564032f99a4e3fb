//! The published numbers: rows and curves in the CSV files of `xtask/paper`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::files::shown;
use crate::run_folder::Epoch;

/// Values of columns, which together identify a row of a CSV file.
pub type Key = BTreeMap<String, String>;

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
    /// Epochs trained.
    pub epochs: u32,
    /// The CSV file and the row in it.
    #[serde(skip)]
    pub source: String,
    /// The epochs in order; empty if no curve is published.
    #[serde(skip)]
    pub curve: Vec<Epoch>,
}

/// Reads the row of `folder/file` identified by `key`, and the curve in `folder/curve`.
pub fn read(folder: &Path, file: &str, key: &Key, curve: Option<&str>) -> Result<Published> {
    let described: Vec<String> = key.iter().map(|(column, value)| format!("{column}={value}")).collect();
    let described = described.join(" ");
    let mut reader = open(&folder.join(file))?;
    let header = reader.headers().context(file.to_string())?.clone();
    let mut wanted = Vec::new();
    for (column, value) in key {
        let position = header.iter().position(|name| name == column);
        wanted.push((position.with_context(|| format!("{file} has no column `{column}`"))?, value.as_str()));
    }
    let mut found = None;
    for row in reader.records() {
        let row = row.context(file.to_string())?;
        if wanted.iter().all(|&(position, value)| row.get(position) == Some(value)) {
            ensure!(found.replace(row).is_none(), "{file} has more than one row with {described}");
        }
    }
    let row = found.with_context(|| format!("{file} has no row with {described}"))?;
    let source = format!("{file}: {described}");
    let published: Published = row.deserialize(Some(&header)).with_context(|| source.clone())?;
    let curve = curve.map_or(Ok(Vec::new()), |name| read_curve(&folder.join(name)))?;
    Ok(Published { source, curve, ..published })
}

fn read_curve(path: &Path) -> Result<Vec<Epoch>> {
    let epochs: csv::Result<_> = open(path)?.deserialize().collect();
    epochs.with_context(|| shown(path))
}

fn open(path: &Path) -> Result<csv::Reader<std::fs::File>> {
    csv::Reader::from_path(path).with_context(|| format!("cannot read {}", shown(path)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[track_caller]
    fn assert_refused(text: &str, key: &[(&str, &str)], reason: &str) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.csv"), text).unwrap();
        let key = key.iter().map(|(column, value)| (column.to_string(), value.to_string())).collect();
        let error = read(folder.path(), "a.csv", &key, None).unwrap_err();
        assert!(format!("{error:#}").contains(reason), "{error:#}");
    }

    #[test]
    fn a_key_identifies_exactly_one_complete_row() {
        let text = "run,last_top1\na,1\na,2\nb,x\n";
        assert_refused(text, &[("run", "c")], "no row with run=c");
        assert_refused(text, &[("run", "a")], "more than one row with run=a");
        assert_refused(text, &[("runs", "a")], "no column `runs`");
        assert_refused(text, &[("run", "b")], "invalid float");
        assert_refused("run,last_top1\na,1\n", &[("run", "a")], "missing field `mean5_top1`");
        assert_refused("run,last_top1\na\n", &[], "record 1 (line: 2");
    }
}
