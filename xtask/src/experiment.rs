//! Experiments as data: the files in `xtask/experiments`.
//!
//! A family (`NAME.toml`) holds how each preset trains it, its rows with the published run that each row stands beside,
//! and the claims that its rows decide. `presets.toml` says what each preset is for.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::published::{self, CsvRow, Published};

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
    /// The sentence that stands above the figures of every report.
    pub note: String,
    /// Whether claims can be judged at this size.
    pub verdicts: bool,
}

/// Rows that are read together.
#[derive(Debug)]
pub struct Family {
    /// The file name without its ending; the first part of run ids.
    pub id: String,
    /// Heading.
    pub title: String,
    /// What is compared, in a sentence or two.
    pub about: String,
    /// Where the published numbers come from.
    pub source: String,
    /// The model of the published runs.
    pub published_model: String,
    /// How each preset trains this family; a preset without an entry leaves it out.
    pub presets: BTreeMap<String, Training>,
    /// The rows in the order of the report.
    pub rows: Vec<Row>,
    /// What the paper concludes from these rows.
    pub claims: Vec<Claim>,
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
    /// Runs of each row; their seeds are 1, 2, ….
    pub seeds: u32,
    /// Settings of the trainer that hold for every row.
    #[serde(default)]
    pub set: Settings,
}

/// Dotted keys and values handed to the trainer as `--set key=value`.
pub type Settings = BTreeMap<String, toml::Value>;

/// What a run is trained on.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Data {
    /// The images inside the trainer.
    Sample,
    /// The complete CIFAR-10.
    Cifar10,
    /// The complete CIFAR-100.
    Cifar100,
}

/// One line of the report.
#[derive(Debug)]
pub struct Row {
    /// The second part of run ids.
    pub id: String,
    /// How the report names it.
    pub label: String,
    /// The layer under test, where it is not that of the base: the trainer names its presets `BASE_VARIANT`.
    pub variant: Option<String>,
    /// Settings of the trainer.
    pub set: Settings,
    /// The published run of the full-size counterpart.
    pub published: Published,
}

/// A conclusion of the paper: one row reaches a higher test top-1 than another.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The claim in words.
    pub text: String,
    /// Id of the row that is said to be more accurate.
    pub better: String,
    /// Id of the row that is said to be less accurate.
    pub worse: String,
}

impl Family {
    /// The row named `id`.
    pub fn row(&self, id: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.id == id)
    }
}

impl Experiments {
    /// Reads all experiments in `folder`, with their published numbers in `paper`.
    ///
    /// # Errors
    /// A file that cannot be read, an unknown key, or a reference to a preset, row or published number that is not there.
    pub fn read(folder: &Path, paper: &Path) -> Result<Self> {
        let mut names = Vec::new();
        let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "toml") {
                names.push(path);
            }
        }
        names.sort();
        let presets = folder.join("presets.toml");
        let mut experiments = Self { presets: parse(&presets)?, families: Vec::new() };
        for path in names.iter().filter(|path| **path != presets) {
            let id = path.file_stem().unwrap_or_default().to_string_lossy();
            let family = (parse::<FamilyFile>(path)?.check(&id, &experiments.presets, paper))
                .with_context(|| path.display().to_string())?;
            experiments.families.push(family);
        }
        Ok(experiments)
    }
}

/// A family as its file holds it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FamilyFile {
    title: String,
    about: String,
    source: String,
    published_model: String,
    presets: BTreeMap<String, Training>,
    rows: Vec<RowFile>,
    #[serde(default)]
    claims: Vec<Claim>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RowFile {
    id: String,
    label: String,
    variant: Option<String>,
    #[serde(default)]
    set: Settings,
    published: PublishedFile,
}

/// A published number and the CSV row that it must agree with.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishedFile {
    top1: f64,
    file: String,
    row: CsvRow,
    curve: Option<String>,
}

impl FamilyFile {
    fn check(self, id: &str, presets: &BTreeMap<String, Preset>, paper: &Path) -> Result<Family> {
        for (name, training) in &self.presets {
            ensure!(presets.contains_key(name), "preset `{name}` is not in presets.toml");
            ensure!(training.epochs > 0, "preset `{name}`: epochs is 0");
            ensure!(training.seeds > 0, "preset `{name}`: seeds is 0");
        }
        let mut rows: Vec<Row> = Vec::new();
        for row in self.rows {
            let taken = rows.iter().any(|other| other.id == row.id);
            ensure!(!taken, "two rows are named `{}`", row.id);
            rows.push(row.check(paper)?);
        }
        for named in self.claims.iter().flat_map(|claim| [&claim.better, &claim.worse]) {
            let known = rows.iter().any(|row| row.id == *named);
            ensure!(known, "a claim names `{named}`, which is no row");
        }
        Ok(Family {
            id: id.to_string(),
            title: self.title,
            about: self.about,
            source: self.source,
            published_model: self.published_model,
            presets: self.presets,
            rows,
            claims: self.claims,
        })
    }
}

impl RowFile {
    fn check(self, paper: &Path) -> Result<Row> {
        let named = &self.published;
        let published = published::read(paper, &named.file, &named.row, named.curve.as_deref())
            .with_context(|| format!("row `{}`", self.id))?;
        if published.top1 != named.top1 {
            bail!(
                "row `{}` gives the published top-1 as {}, but {} says {}",
                self.id,
                named.top1,
                published.source,
                published.top1
            );
        }
        Ok(Row { id: self.id, label: self.label, variant: self.variant, set: self.set, published })
    }
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::workspace::data_folder;

    /// Copies the experiments, replaces `from` by `to` in the VGG family, and expects a refusal that says `reason`.
    #[track_caller]
    fn refused(from: &str, to: &str, reason: &str) {
        let copy = tempfile::tempdir().unwrap();
        for name in ["presets.toml", "vgg_branch_ratio.toml"] {
            let text = fs::read_to_string(data_folder("experiments").join(name)).unwrap();
            fs::write(copy.path().join(name), text.replacen(from, to, 1)).unwrap();
        }
        let error = Experiments::read(copy.path(), &data_folder("paper")).unwrap_err();
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
        let curves = all.families.iter().flat_map(|family| &family.rows);
        for row in curves {
            let last = row.published.curve.last().unwrap();
            assert_eq!((last.epoch, last.test_top1), (row.published.epochs, row.published.top1));
        }
    }

    #[test]
    fn wrong_references_are_refused() {
        refused("top1 = 80.6543", "top1 = 81.0", "but vgg_branch_ratio.csv");
        refused("branch_ratio = \"0.0\"", "branch_ratio = \"0.1\"", "no row with");
        refused("[presets.smoke]", "[presets.smok]", "`smok` is not in presets.toml");
        refused("better = \"ratio_0.5\"", "better = \"ratio_2\"", "`ratio_2`, which is no row");
        refused("id = \"ratio_1\"", "id = \"ratio_0\"", "two rows are named `ratio_0`");
        refused("epochs = 2", "epoch = 2", "unknown field `epoch`");
    }
}
