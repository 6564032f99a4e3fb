//! The keys in which runs differ, and their results side by side.

use super::RunView;
use crate::text::Table;
use std::collections::BTreeSet;

/// Keys whose values differ, each with the value of every run; an absent one is a dash.
pub fn differing_keys(runs: &[RunView]) -> Vec<(String, Vec<String>)> {
    let keys: BTreeSet<&String> = runs.iter().flat_map(|run| run.keys.keys()).collect();
    let values = |key: &String| -> Vec<String> {
        runs.iter().map(|run| run.keys.get(key).cloned().unwrap_or_else(|| "–".to_owned())).collect()
    };
    let rows = keys.into_iter().map(|key| (key.clone(), values(key)));
    rows.filter(|(_, values)| values.windows(2).any(|pair| pair[0] != pair[1])).collect()
}

/// What the runs have reached: a row for each, with its number.
pub fn table(runs: &[RunView]) -> Table {
    let held_out = runs.iter().any(|run| run.validation_top1().is_some());
    let mut headings = HEADINGS.to_vec();
    if held_out {
        headings.push(VALIDATION);
    }
    let mut table = Table::new(&headings).left(1).left(2);
    for (index, run) in runs.iter().enumerate() {
        let mut cells = cells(run);
        cells.insert(0, (index + 1).to_string());
        if held_out {
            cells.push(percent(run.validation_top1()));
        }
        table.row(cells);
    }
    table
}

/// The headings of [`table`]; [`VALIDATION`] follows if a run has held out images.
pub(super) const HEADINGS: [&str; 7] = ["", "run", "state", "epoch", "top-1 %", "95 % interval", "best %"];
pub(super) const VALIDATION: &str = "validation %";

/// The cells of a run under [`HEADINGS`], without its number.
pub(super) fn cells(run: &RunView) -> Vec<String> {
    vec![
        super::name(run),
        run.state.word().to_owned(),
        run.progress(),
        percent(run.top1()),
        run.interval().map_or_else(|| "–".to_owned(), |(low, high)| format!("{low:.1} – {high:.1}")),
        percent(run.best().map(|best| best.0)),
    ]
}

/// Two decimals, or a dash.
pub(super) fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::SystemTime;

    #[test]
    fn only_keys_that_differ() {
        let folder = tempfile::tempdir().unwrap();
        let runs: Vec<RunView> = [("a", "seed = 1\nepochs = 2"), ("b", "seed = 2\nepochs = 2\nextra = \"x\"")]
            .into_iter()
            .map(|(name, config)| {
                let path = folder.path().join(name);
                fs::create_dir(&path).unwrap();
                fs::write(path.join("config.toml"), config).unwrap();
                RunView::read(&path, SystemTime::now()).unwrap()
            })
            .collect();
        let found = differing_keys(&runs);
        let row = |key: &str, values: [&str; 2]| (key.to_owned(), values.map(str::to_owned).to_vec());
        assert_eq!(found, [row("extra", ["–", "x"]), row("seed", ["1", "2"])]);
        assert_eq!(table(&runs).lines().len(), 3);
    }
}
