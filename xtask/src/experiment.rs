//! Experiments as data: the files in `xtask/experiments`.
//!
//! A family (`NAME.toml`) says how each preset trains it and lists its rows and the claims that they decide. A row may
//! name the published run to compare it with. `presets.toml` says what each preset is for.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::files::{list, read_toml, shown};
use crate::published::{self, Key, Published};

/// All experiments, checked.
#[derive(Debug)]
pub struct Experiments {
    /// What each preset is for, by name.
    pub presets: BTreeMap<String, Preset>,
    /// The families in order of their file names.
    pub families: Vec<Family>,
}

/// What a preset is for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// One line for the list of presets.
    pub summary: String,
    /// The note above the figures of every report.
    pub note: String,
    /// Whether claims can be judged at this size.
    pub verdicts: bool,
}

/// Rows that belong together.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Family {
    /// The file name without its extension; the first part of run ids.
    #[serde(skip)]
    pub id: String,
    /// Heading.
    pub title: String,
    /// What is compared, in a sentence or two.
    pub about: String,
    /// The published runs that the rows are compared with, if any.
    pub published: Option<PublishedRuns>,
    /// How each preset trains this family; a preset without an entry skips it.
    pub presets: BTreeMap<String, Training>,
    /// The rows in the order of the report.
    pub rows: Vec<Row>,
    /// Claims about these rows.
    #[serde(default)]
    pub claims: Vec<Claim>,
}

/// What the published runs of a family have in common.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedRuns {
    /// Their model.
    pub model: String,
    /// Where their numbers come from.
    pub source: String,
}

/// How a preset trains a family.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// The trainer's preset that rows start from.
    pub base: String,
    /// What the rows are trained on.
    pub data: Data,
    /// Epochs.
    pub epochs: u32,
    /// Runs per row; their seeds are 1, 2, ….
    pub seeds: u32,
    /// Settings of the trainer for every row.
    #[serde(default)]
    pub set: Settings,
}

/// Dotted keys and values passed to the trainer as `--set key=value`.
pub type Settings = BTreeMap<String, toml::Value>;

/// What a run is trained on.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Data {
    /// The images embedded in the trainer.
    Sample,
    /// The full CIFAR-10.
    Cifar10,
    /// The full CIFAR-100.
    Cifar100,
}

/// One line of the report.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The second part of run ids.
    pub id: String,
    /// Its name in the report.
    pub label: String,
    /// The layer under test, if it is not the base's: the trainer names its presets `BASE_VARIANT`.
    pub variant: Option<String>,
    /// Settings of the trainer.
    #[serde(default)]
    pub set: Settings,
    /// Where the published run of the full-size counterpart is found.
    #[serde(rename = "published")]
    reference: Option<Reference>,
    /// The published run of the full-size counterpart.
    #[serde(skip)]
    pub published: Option<Published>,
}

/// A published number, and the row of a CSV file that must agree with it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reference {
    top1: f64,
    file: String,
    row: Key,
    curve: Option<String>,
}

/// A claim: one row reaches a higher test top-1 than another.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The claim in words.
    pub text: String,
    /// Id of the row that is claimed to be more accurate.
    pub better: String,
    /// Id of the row that is claimed to be less accurate.
    pub worse: String,
}

impl Experiments {
    /// Reads all experiments in `folder`, and their published numbers in `paper`. Refuses references to a preset, row
    /// or published number that does not exist.
    pub fn read(folder: &Path, paper: &Path) -> Result<Self> {
        let presets_file = folder.join("presets.toml");
        let presets = read_toml(&presets_file)?;
        let mut families = Vec::new();
        for path in list(folder, "toml")?.iter().filter(|path| **path != presets_file) {
            let mut family: Family = read_toml(path)?;
            family.id = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            family.resolve(&presets, paper).with_context(|| shown(path))?;
            families.push(family);
        }
        Ok(Self { presets, families })
    }
}

impl Family {
    /// The row named `id`.
    pub fn row(&self, id: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.id == id)
    }

    /// Checks all references, and reads the published numbers.
    fn resolve(&mut self, presets: &BTreeMap<String, Preset>, paper: &Path) -> Result<()> {
        for (name, training) in &self.presets {
            ensure!(presets.contains_key(name), "preset `{name}` is not in presets.toml");
            ensure!(training.epochs > 0, "preset `{name}`: epochs is 0; expected at least 1");
            ensure!(training.seeds > 0, "preset `{name}`: seeds is 0; expected at least 1");
        }
        for (index, row) in self.rows.iter().enumerate() {
            ensure!(!self.rows[..index].iter().any(|other| other.id == row.id), "two rows are named `{}`", row.id);
        }
        for id in self.claims.iter().flat_map(|claim| [&claim.better, &claim.worse]) {
            ensure!(self.row(id).is_some(), "a claim names the row `{id}`, which does not exist");
        }
        for row in &mut self.rows {
            let Some(reference) = &row.reference else { continue };
            let id = &row.id;
            ensure!(
                self.published.is_some(),
                "row `{id}` has a published run, so the file needs a table [published] with `model` and `source`"
            );
            row.published = Some(reference.read(paper).with_context(|| format!("row `{id}`"))?);
        }
        Ok(())
    }
}

impl Reference {
    fn read(&self, paper: &Path) -> Result<Published> {
        let published = published::read(paper, &self.file, &self.row, self.curve.as_deref())?;
        ensure!(
            published.top1 == self.top1,
            "published top-1 {}, but {} says {}",
            self.top1,
            published.source,
            published.top1
        );
        Ok(published)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;
    use crate::workspace::data_folder;

    /// The experiments after `edit` was applied to the VGG family.
    fn read_edited(edit: impl Fn(&str) -> String) -> Result<Experiments> {
        let copy = tempfile::tempdir().unwrap();
        let [presets, family] = ["presets.toml", "vgg_branch_ratio.toml"];
        let read = |name| fs::read_to_string(data_folder("experiments").join(name)).unwrap();
        fs::write(copy.path().join(presets), read(presets)).unwrap();
        fs::write(copy.path().join(family), edit(&read(family))).unwrap();
        Experiments::read(copy.path(), &data_folder("paper"))
    }

    /// `text` without the part from the first `start` to the next `end`.
    fn without(text: &str, start: &str, end: &str) -> String {
        let (before, rest) = text.split_once(start).unwrap();
        let (_, after) = rest.split_once(end).unwrap();
        format!("{before}{end}{after}")
    }

    #[track_caller]
    fn assert_refused(edit: impl Fn(&str) -> String, reason: &str) {
        let error = read_edited(edit).unwrap_err();
        assert!(format!("{error:#}").contains(reason), "{error:#}");
    }

    #[test]
    fn the_experiments_of_this_workspace_agree_with_the_published_numbers() {
        let all = Experiments::read(&data_folder("experiments"), &data_folder("paper")).unwrap();
        let rows: usize = all.families.iter().map(|family| family.rows.len()).sum();
        assert!(rows >= 6, "{rows} rows");
        for preset in ["smoke", "quick"] {
            for family in &all.families {
                assert!(family.presets.contains_key(preset), "{} has no {preset}", family.id);
            }
        }
        for row in all.families.iter().flat_map(|family| &family.rows) {
            let published = row.published.as_ref().unwrap();
            let last = published.curve.last().unwrap();
            assert_eq!((last.epoch, last.test_top1), (published.epochs, published.top1));
        }
    }

    #[test]
    fn a_row_needs_no_published_run() {
        let experiments = read_edited(|text| without(text, "[rows.published]", "[[rows]]")).unwrap();
        let published: Vec<bool> = experiments.families[0].rows.iter().map(|row| row.published.is_some()).collect();
        assert_eq!(published, [false, true, true]);
    }

    #[test]
    fn wrong_references_are_refused() {
        for (from, to, reason) in [
            ("top1 = 80.6543", "top1 = 81.0", "but vgg_branch_ratio.csv"),
            ("branch_ratio = \"0.0\"", "branch_ratio = \"0.1\"", "no row with"),
            ("[presets.smoke]", "[presets.smok]", "`smok` is not in presets.toml"),
            ("better = \"ratio_0.5\"", "better = \"ratio_2\"", "`ratio_2`, which does not exist"),
            ("id = \"ratio_1\"", "id = \"ratio_0\"", "two rows are named `ratio_0`"),
            ("epochs = 2", "epoch = 2", "unknown field `epoch`"),
        ] {
            assert_refused(|text| text.replacen(from, to, 1), reason);
        }
        assert_refused(
            |text| without(text, "[published]", "[presets"),
            "row `ratio_0` has a published run, so the file needs",
        );
    }
}
