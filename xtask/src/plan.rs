//! What a budget trains: rows and seeds, and the runs that they need.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use crate::experiments::{Budget, DATASET, Experiments, Family, Row, Settings, Training, ValueName};
use crate::trainer::Trainer;

/// The rows of one budget.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The budget's name.
    pub name: &'a str,
    /// What the budget is for.
    pub budget: &'a Budget,
    /// The families with rows, in order.
    pub families: Vec<Planned<'a>>,
}

/// A family and those of its rows that are wanted.
#[derive(Debug)]
pub struct Planned<'a> {
    /// The family.
    pub family: &'a Family,
    /// How its rows are trained.
    pub training: &'a Training,
    /// The rows in the order of the report.
    pub rows: Vec<Row>,
    /// Runs per row, with the seeds 1, 2, ….
    pub seeds: u32,
}

/// Which rows of a budget are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Ids of families; all if empty.
    pub only: Vec<String>,
    /// Conditions `AXIS=VALUE` or `KEY=VALUE` that rows must meet.
    pub conditions: Vec<String>,
    /// Runs per row, if not those of the budget.
    pub seeds: Option<u32>,
}

/// One run of the trainer. Rows with equal configurations share it.
#[derive(Clone, Debug)]
pub struct Run {
    /// `PRESET-DATASET-HASH-SEED`, the same as long as the configuration is: the run's folder.
    pub id: String,
    /// What it trains.
    pub settings: RunSettings,
    /// Its resolved configuration.
    pub config: Json,
    /// Trainable parameters.
    pub parameters: u64,
    /// GFLOPs of the forward pass of an image.
    pub gflops: f64,
    /// Peak memory in bytes.
    pub memory: u64,
    /// A short name for progress lines and errors.
    pub label: String,
    /// The rows that need it: family, row.
    pub rows: Vec<(String, String)>,
}

/// What a run trains, as the arguments of the trainer say it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSettings {
    /// The trainer's preset.
    pub preset: String,
    /// Settings of the trainer, the data set aside.
    pub set: Settings,
    /// The data set.
    pub dataset: String,
    /// Whether it is trained on the images embedded in the trainer.
    pub sample: bool,
    /// Epochs.
    pub epochs: u32,
    /// Seed.
    pub seed: u32,
}

impl<'a> Plan<'a> {
    /// Plans the budget `name`. Unknown names, and a filter that leaves nothing, are errors that list what there is.
    pub fn new(experiments: &'a Experiments, name: &str, filter: &Filter) -> Result<Self> {
        let known = || {
            let line = |(name, budget): (&String, &Budget)| format!("\n  {name}: {}", budget.summary);
            experiments.budgets.iter().map(line).collect::<String>()
        };
        let found = experiments.budgets.get_key_value(name);
        let (name, budget) = found.with_context(|| format!("no budget `{name}`; available budgets:{}", known()))?;
        for id in &filter.only {
            let family = experiments.family(id)?;
            ensure!(
                family.budgets.contains_key(name),
                "--only {id}: budget `{name}` does not train this family; its budgets are {}",
                family.budgets.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
            );
        }
        let mut families = Vec::new();
        for family in &experiments.families {
            let wanted = filter.only.is_empty() || filter.only.contains(&family.id);
            let Some(training) = family.budgets.get(name).filter(|_| wanted) else { continue };
            let mut rows = family.rows(training, &experiments.tables)?;
            for condition in &filter.conditions {
                let (key, value) = parse(condition)?;
                rows.retain(|row| row_has(family, row, key, &value));
            }
            if !rows.is_empty() {
                families.push(Planned { family, training, rows, seeds: filter.seeds.unwrap_or(training.seeds) });
            }
        }
        ensure!(
            !families.is_empty(),
            "--where {}: no row of budget `{name}` matches; axes are {}",
            filter.conditions.join(" --where "),
            axes(experiments, name, filter)
        );
        Ok(Self { name, budget, families })
    }

    /// The runs of all rows in the order of training: one seed of every row of a family before the next seed, and the first
    /// data set of all families before the next.
    pub fn runs(&self, trainer: &Trainer) -> Result<Vec<Run>> {
        let rows: Vec<_> =
            self.families.iter().flat_map(|planned| planned.rows.iter().map(move |row| (planned, row))).collect();
        let described =
            trainer.describe(&rows.iter().map(|(planned, row)| RunSettings::of(planned, row, 1)).collect::<Vec<_>>());
        let mut runs: Vec<Run> = Vec::new();
        let mut place: BTreeMap<String, usize> = BTreeMap::new();
        let mut described = described?.into_iter().zip(rows);
        for planned in &self.families {
            let rows: Vec<_> = described.by_ref().take(planned.rows.len()).collect();
            for seed in 1..=planned.seeds {
                for (described, (_, row)) in &rows {
                    let settings = RunSettings::of(planned, row, seed);
                    let id = settings.id(&described.config);
                    let names = (planned.family.id.clone(), row.id.clone());
                    if let Some(&index) = place.get(&id) {
                        runs[index].rows.push(names);
                        continue;
                    }
                    place.insert(id.clone(), runs.len());
                    let mut config = described.config.clone();
                    config["seed"] = seed.into();
                    runs.push(Run {
                        id,
                        settings,
                        config,
                        parameters: described.params,
                        gflops: described.gflops,
                        memory: described.memory_bytes,
                        label: planned.label(row, seed),
                        rows: vec![names],
                    });
                }
            }
        }
        runs.sort_by_key(|run| run.settings.dataset.clone());
        Ok(runs)
    }
}

impl Planned<'_> {
    /// Whether the rows have more than one value on an axis.
    pub fn varies(&self, axis: usize) -> bool {
        self.rows.iter().any(|row| row.values[axis] != self.rows[0].values[axis])
    }

    /// `FAMILY AXIS=VALUE seed N`, with the axes that vary.
    fn label(&self, row: &Row, seed: u32) -> String {
        let axes = self.family.axes.iter().zip(&row.values).enumerate().filter(|(index, _)| self.varies(*index));
        let axes: String =
            axes.map(|(_, (axis, &value))| format!(" {}={}", axis.name, axis.values[value].name.as_str())).collect();
        format!("{}{axes} seed {seed}", self.family.id)
    }
}

/// The axes of the families that a filter concerns.
fn axes(experiments: &Experiments, budget: &str, filter: &Filter) -> String {
    let families = experiments.families.iter().filter(|family| family.budgets.contains_key(budget));
    let families = families.filter(|family| filter.only.is_empty() || filter.only.contains(&family.id));
    let mut names: Vec<&str> = families.flat_map(|family| &family.axes).map(|axis| axis.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

/// `KEY=VALUE`
fn parse(condition: &str) -> Result<(&str, ValueName)> {
    let (key, value) = condition.split_once('=').with_context(|| format!("--where {condition}: expected KEY=VALUE"))?;
    Ok((key, ValueName::parse(value)))
}

/// Whether the axis, or else the setting, `key` has this value. Settings are found by their last part.
fn row_has(family: &Family, row: &Row, key: &str, value: &ValueName) -> bool {
    if let Some(place) = family.axes.iter().position(|axis| axis.name == key) {
        return family.axes[place].values[row.values[place]].name == *value;
    }
    let found = row.set.iter().find(|(name, _)| *name == key || name.rsplit('.').next() == Some(key));
    found.is_some_and(|(_, found)| ValueName::of(found).is_ok_and(|found| found == *value))
}

impl RunSettings {
    /// What the trainer does for a row and a seed.
    pub fn of(planned: &Planned, row: &Row, seed: u32) -> Self {
        let mut set = row.set.clone();
        set.remove(DATASET);
        Self {
            preset: row.preset.clone(),
            set,
            dataset: row.dataset().to_owned(),
            sample: planned.training.sample,
            epochs: planned.training.epochs,
            seed,
        }
    }

    /// Every setting as `KEY=VALUE`, epochs and data set included, the seed not.
    pub fn assignments(&self) -> Vec<String> {
        let mut all: Vec<_> = self.set.iter().map(|(key, value)| format!("{key}={}", setting(value))).collect();
        all.push(format!("dataset={}", self.dataset));
        all.push(format!("epochs={}", self.epochs));
        all
    }

    /// The trainer's arguments except `--out` and `--resume`. `data` is the folder of the full data sets.
    pub fn arguments(&self, data: Option<&Path>) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["train".into(), "--preset".into(), (&self.preset).into()];
        for (key, value) in &self.set {
            arguments.extend(["--set".into(), format!("{key}={}", setting(value)).into()]);
        }
        arguments.extend(["--dataset".into(), (&self.dataset).into()]);
        match (self.sample, data) {
            (true, _) => arguments.extend(["--data".into(), "sample".into()]),
            (false, Some(folder)) => arguments.extend(["--data".into(), folder.into()]),
            (false, None) => {}
        }
        arguments.extend(["--epochs".into(), self.epochs.to_string().into()]);
        arguments.extend(["--seed".into(), self.seed.to_string().into()]);
        arguments
    }

    /// The command that repeats the run, without its folder.
    pub fn command(&self) -> String {
        let words = self.arguments(None);
        let words = words.iter().map(|word| quoted(&word.to_string_lossy()));
        format!("convnn {}", words.collect::<Vec<_>>().join(" "))
    }

    /// The run's id: `config` is its configuration with any seed.
    fn id(&self, config: &Json) -> String {
        let digest = Sha256::digest(comparable(config, self.sample).to_string());
        let hash: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{}-{hash}-s{}", self.preset, self.dataset, self.seed)
    }
}

/// A configuration without what does not identify it: its seed, and where the full data set lies.
pub fn comparable(config: &Json, sample: bool) -> Json {
    let mut config = config.clone();
    if let Some(keys) = config.as_object_mut() {
        keys.remove("seed");
        keys.insert("data".to_owned(), if sample { "sample" } else { "full" }.into());
    }
    config
}

/// A value as the trainer's `--set` expects it: text without quotes, everything else as in TOML.
fn setting(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `word`, quoted for a shell if necessary.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
