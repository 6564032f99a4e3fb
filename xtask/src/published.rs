//! The published numbers: rows and curves of the CSV files in `xtask/paper`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// One row of a CSV file by column name.
pub type CsvRow = BTreeMap<String, String>;

/// What a published run reached: final test top-1 in percent, and its size.
#[derive(Clone, Debug)]
pub struct Published {
    /// Test top-1 of the final epoch, in percent.
    pub top1: f64,
    /// Mean test top-1 of the last five epochs, in percent.
    pub last5_top1: f64,
    /// Best test top-1 over all epochs, in percent.
    pub best_top1: f64,
    /// Trainable parameters.
    pub parameters: u64,
    /// GFLOPs of one image as the authors' code printed them, which leaves operations out.
    pub gflops_logged: f64,
    /// Epochs trained.
    pub epochs: u32,
    /// The CSV file and the row in it.
    pub source: String,
    /// A line an epoch, in order; empty where no curve is published.
    pub curve: Vec<CurvePoint>,
}

/// One epoch of a published curve.
#[derive(Clone, Copy, Debug)]
pub struct CurvePoint {
    /// Epoch, from 1.
    pub epoch: u32,
    /// Mean training loss.
    pub train_loss: f64,
    /// Test top-1 in percent.
    pub test_top1: f64,
}

/// Reads the one row of `folder/file` whose columns have the `wanted` values.
///
/// # Errors
/// No such file, column or row, more than one row, or a cell that is no number.
pub fn read(folder: &Path, file: &str, wanted: &CsvRow, curve: Option<&str>) -> Result<Published> {
    let rows = read_csv(&folder.join(file))?;
    let described = describe(wanted);
    for column in wanted.keys() {
        let known = rows.first().is_none_or(|row| row.contains_key(column));
        ensure!(known, "{file} has no column `{column}`");
    }
    let mut matching = (rows.iter()).filter(|row| wanted.iter().all(|(k, v)| row.get(k) == Some(v)));
    let row = matching.next().with_context(|| format!("{file} has no row with {described}"))?;
    ensure!(matching.next().is_none(), "{file} has more than one row with {described}");
    let curve = match curve {
        Some(name) => read_curve(&folder.join(name))?,
        None => Vec::new(),
    };
    Ok(Published {
        top1: number(row, file, "last_top1")?,
        last5_top1: number(row, file, "mean5_top1")?,
        best_top1: number(row, file, "best_top1")?,
        parameters: number(row, file, "params")?,
        gflops_logged: number(row, file, "gflops_logged")?,
        epochs: number(row, file, "epochs")?,
        source: format!("{file}: {described}"),
        curve,
    })
}

fn read_curve(path: &Path) -> Result<Vec<CurvePoint>> {
    let file = path.display().to_string();
    read_csv(path)?
        .iter()
        .map(|row| {
            Ok(CurvePoint {
                epoch: number(row, &file, "epoch")?,
                train_loss: number(row, &file, "train_loss")?,
                test_top1: number(row, &file, "test_top1")?,
            })
        })
        .collect()
}

/// Reads a CSV file without quoted cells, which none of ours has.
fn read_csv(path: &Path) -> Result<Vec<CsvRow>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(!text.contains('"'), "{}: quoted cells are not read", path.display());
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let mut rows = Vec::new();
    for (index, line) in lines.enumerate() {
        let cells: Vec<&str> = line.split(',').collect();
        if cells.len() != header.len() {
            bail!("{} line {}: {} cells, but the header has {}", path.display(), index + 2, cells.len(), header.len());
        }
        let cells = header.iter().zip(cells);
        rows.push(cells.map(|(k, v)| (k.to_string(), v.to_string())).collect());
    }
    Ok(rows)
}

fn number<T: std::str::FromStr>(row: &CsvRow, file: &str, column: &str) -> Result<T> {
    let cell = (row.get(column)).with_context(|| format!("{file} has no column `{column}`"))?;
    let parsed = cell.parse().ok();
    parsed.with_context(|| format!("{file}, column `{column}`: `{cell}` is not a number"))
}

fn describe(wanted: &CsvRow) -> String {
    let pairs: Vec<String> = wanted.iter().map(|(k, v)| format!("{k}={v}")).collect();
    pairs.join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn row(pairs: &[(&str, &str)]) -> CsvRow {
        let pairs = pairs.iter();
        pairs.map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[track_caller]
    fn refused(text: &str, wanted: &[(&str, &str)], reason: &str) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.csv"), text).unwrap();
        let error = read(folder.path(), "a.csv", &row(wanted), None).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }

    #[test]
    fn a_row_must_be_named_exactly() {
        let text = "run,last_top1\na,1\na,2\nb,x\n";
        refused(text, &[("run", "c")], "no row with run=c");
        refused(text, &[("run", "a")], "more than one row with run=a");
        refused(text, &[("runs", "a")], "no column `runs`");
        refused(text, &[("run", "b")], "`x` is not a number");
        refused("run,last_top1\na\n", &[], "line 2: 1 cells");
    }
}
