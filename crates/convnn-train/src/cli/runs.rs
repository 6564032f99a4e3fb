//! `convnn runs`.

use super::output::{print, write};
use convnn_train::runs::{RunView, compare_table, differing_keys, find, page, svg};
use convnn_train::text::{Table, age, printable};
use convnn_train::{Error, Result};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// List runs, or compare two or more
///
/// Given one folder, lists all runs in it and its subfolders. Given several run folders, shows their results and the
/// keys that differ side by side. Run folders are never modified.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// A folder of runs, or the run folders to compare
    #[arg(value_name = "DIR", default_value = "runs")]
    paths: Vec<PathBuf>,
    /// Write a page with results, curves and the keys that differ
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the curves as a picture
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Examples:
  convnn runs
  convnn runs runs/ratio0 runs/ratio1 --html ratios.html";

/// Prints the list or the comparison.
pub fn run(args: &Args) -> Result<()> {
    let runs = read(&args.paths)?;
    if let Some(path) = &args.html {
        write(path, page(&runs)?)?;
    }
    if let Some(path) = &args.svg {
        write(path, svg(&runs)?)?;
    }
    if args.json {
        let different: serde_json::Map<_, _> =
            differing_keys(&runs).into_iter().map(|(key, values)| (key, values.into())).collect();
        let runs: Vec<_> = runs.iter().map(RunView::json).collect();
        return print(&serde_json::json!({ "runs": runs, "differing": different }).to_string());
    }
    match args.paths.len() {
        1 => print(&list(&runs)),
        _ => print(&comparison(&runs)),
    }
}

/// The runs of one folder, or each of several run folders in the order given.
fn read(paths: &[PathBuf]) -> Result<Vec<RunView>> {
    let now = SystemTime::now();
    let none = |path: &Path, expected: &str| Error::Folder {
        folder: path.to_owned(),
        found: if path.exists() { "holds no run" } else { "does not exist" }.to_owned(),
        expected: expected.to_owned(),
    };
    if let [folder] = paths {
        let runs = find(folder, now);
        let expected = "a folder with run folders; `convnn train` makes one in runs/";
        return if runs.is_empty() { Err(none(folder, expected)) } else { Ok(runs) };
    }
    let read = |path: &PathBuf| RunView::read(path, now).ok_or_else(|| none(path, "run folders to compare"));
    paths.iter().map(read).collect()
}

fn list(runs: &[RunView]) -> String {
    let mut table = Table::new(&["run", "state", "epoch", "top-1 %", "best %", "changed"]).left(1);
    let percent = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"));
    for run in runs {
        table.row(vec![
            printable(&run.path.display().to_string()),
            run.state.word().to_owned(),
            run.progress(),
            percent(run.top1()),
            percent(run.best().map(|best| best.0)),
            age(run.age),
        ]);
    }
    let mut lines = table.lines();
    lines.extend(errors(runs));
    lines.join("\n")
}

fn comparison(runs: &[RunView]) -> String {
    let mut lines = compare_table(runs).lines();
    lines.extend(errors(runs));
    lines.push(String::new());
    let different = differing_keys(runs);
    if different.is_empty() {
        lines.push("no key differs".to_owned());
        return lines.join("\n");
    }
    let numbers: Vec<String> = (1..=runs.len()).map(|number| number.to_string()).collect();
    let headings: Vec<&str> = std::iter::once("key that differs").chain(numbers.iter().map(String::as_str)).collect();
    let mut table = Table::new(&headings);
    for (key, values) in different {
        let values = values.iter().map(|value| shortened(&printable(value)));
        table.row(std::iter::once(printable(&key)).chain(values).collect());
    }
    lines.extend(table.lines());
    lines.join("\n")
}

fn errors(runs: &[RunView]) -> impl Iterator<Item = String> {
    let failed = runs.iter().filter_map(|run| Some((&run.path, run.error.as_ref()?)));
    failed.map(|(path, error)| format!("{}: {}", printable(&path.display().to_string()), printable(error)))
}

/// At most 24 characters.
fn shortened(text: &str) -> String {
    match text.chars().count() {
        0..=24 => text.to_owned(),
        _ => text.chars().take(23).chain(['…']).collect(),
    }
}
