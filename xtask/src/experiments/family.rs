//! A family of rows that belong together.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::axis::{Axis, Selector, ValueName};
use super::published::{Key, Tables};
use super::{Budget, Row};

/// Rows that belong together: the product of its axes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Family {
    /// The file name without its extension.
    #[serde(skip)]
    pub id: String,
    /// Heading.
    pub title: String,
    /// What is compared, in a sentence or two.
    pub about: String,
    /// Families are planned and reported by this number, then by name.
    #[serde(default = "last")]
    pub order: u32,
    /// The published runs that the rows are compared with, if any.
    pub published: Option<PublishedRuns>,
    /// The data sets, which are the first axis.
    #[serde(default = "cifar10")]
    pub datasets: Vec<String>,
    /// What else is varied; the rows are the product.
    pub axes: Vec<Axis>,
    /// Rows that differ from the product.
    #[serde(default)]
    pub overrides: Vec<Override>,
    /// How each budget trains this family; a budget without an entry skips it.
    pub budgets: BTreeMap<String, Training>,
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
    /// Columns and values that all of them share.
    #[serde(rename = "where")]
    pub common: BTreeMap<String, toml::Value>,
    /// The files with the curves of some rows.
    #[serde(default)]
    pub curves: Vec<Curve>,
}

/// The published curve of a row.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curve {
    /// The row.
    pub row: Selector,
    /// The file.
    pub file: String,
}

/// How a budget trains a family.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// The trainer's preset that rows start from.
    pub preset: String,
    /// Whether rows are trained on the images embedded in the trainer instead of the full data set.
    #[serde(default)]
    pub sample: bool,
    /// The name of settings in budgets.toml that rows start from.
    pub recipe: Option<String>,
    /// Epochs.
    pub epochs: u32,
    /// Runs per row; their seeds are 1, 2, ….
    pub seeds: u32,
    /// Settings of the trainer for every row.
    #[serde(default)]
    pub set: Settings,
    /// The values of an axis that this budget takes, if not all.
    #[serde(default)]
    pub axes: Selector,
    /// That of the budget.
    #[serde(skip)]
    pub as_published: bool,
}

/// Dotted keys and values passed to the trainer as `--set key=value`.
pub type Settings = BTreeMap<String, toml::Value>;

/// What is different in some rows.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// The rows.
    pub when: Selector,
    /// They do not exist.
    #[serde(default)]
    pub skip: bool,
    /// Settings of the trainer, which take precedence over those of the axes.
    #[serde(default)]
    pub set: Settings,
    /// Columns that identify the published run, which take precedence over those of the axes.
    #[serde(default)]
    pub published: BTreeMap<String, toml::Value>,
}

/// A claim: some rows reach a higher test top-1 than others. It is judged for every value of the axes that it does not name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The claim in words.
    pub text: String,
    /// The rows claimed to be more accurate; of several, the mean counts.
    pub better: Selector,
    /// The rows claimed to be less accurate; the claim is about each of them.
    pub worse: Vec<Selector>,
    /// Values of other axes that the claim is about.
    #[serde(rename = "where", default)]
    pub only: Selector,
}

fn cifar10() -> Vec<String> {
    vec!["cifar10".to_owned()]
}

fn last() -> u32 {
    1000
}

impl Family {
    /// The rows that a budget trains, in order; the first axis varies slowest.
    pub fn rows(&self, training: &Training, tables: &Tables) -> Result<Vec<Row>> {
        let mut rows = vec![Vec::new()];
        for axis in &self.axes {
            let wanted = training.axes.get(&axis.name).map(|values| values.names()).transpose()?;
            let chosen: Vec<usize> = match &wanted {
                None => (0..axis.values.len()).collect(),
                Some(names) => names.iter().map(|name| self.value(&axis.name, name)).collect::<Result<_>>()?,
            };
            for (index, value) in chosen.iter().enumerate() {
                let name = axis.values[*value].name.as_str();
                ensure!(!chosen[..index].contains(value), "axis `{}` takes the value `{name}` twice", axis.name);
            }
            let longer = |row: &Vec<usize>| -> Vec<Vec<usize>> {
                chosen.iter().map(|&value| row.iter().copied().chain([value]).collect()).collect()
            };
            rows = rows.iter().flat_map(longer).collect();
        }
        let mut made = Vec::new();
        for values in rows {
            made.extend(Row::new(self, training, values, tables)?);
        }
        Ok(made)
    }

    /// The index of a value of an axis.
    pub fn value(&self, axis: &str, name: &ValueName) -> Result<usize> {
        let values = &self.axis(axis)?.values;
        let known = || values.iter().map(|value| value.name.as_str()).collect::<Vec<_>>().join(", ");
        let found = values.iter().position(|value| value.name == *name);
        found.with_context(|| format!("axis `{axis}` has no value `{}`; expected {}", name.as_str(), known()))
    }

    /// The axis of this name.
    pub fn axis(&self, name: &str) -> Result<&Axis> {
        let known = || self.axes.iter().map(|axis| axis.name.as_str()).collect::<Vec<_>>().join(", ");
        let found = self.axes.iter().find(|axis| axis.name == name);
        found.with_context(|| format!("`{name}` is not an axis of {}; expected {}", self.id, known()))
    }

    /// Whether `values`, one for each axis, are those of `selector`.
    pub fn matches(&self, values: &[usize], selector: &Selector) -> Result<bool> {
        for (name, wanted) in selector {
            let axis = self.axis(name)?;
            let place = self.axes.iter().position(|other| other.name == axis.name).unwrap_or_default();
            let found = &axis.values[values[place]].name;
            if !wanted.names()?.contains(found) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Adds the axis of data sets and the settings of recipes, and checks all references.
    pub(super) fn resolve(&mut self, budgets: &BTreeMap<String, Budget>, tables: &Tables) -> Result<()> {
        self.axes.insert(0, Axis::of_datasets(&self.datasets)?);
        for (name, training) in &mut self.budgets {
            let known = || budgets.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let budget = budgets.get(name);
            let budget =
                budget.with_context(|| format!("budget `{name}` is not in budgets.toml; expected {}", known()))?;
            training.as_published = budget.as_published;
            let Some(recipe) = &training.recipe else { continue };
            let found = budget.recipes.get(recipe);
            let mut set =
                found.with_context(|| format!("recipe `{recipe}` of budget `{name}` is not in budgets.toml"))?.clone();
            set.extend(std::mem::take(&mut training.set));
            training.set = set;
        }
        self.check(tables)
    }

    fn check(&self, tables: &Tables) -> Result<()> {
        for (index, axis) in self.axes.iter().enumerate() {
            ensure!(
                !self.axes[..index].iter().any(|other| other.name == axis.name),
                "two axes are named `{}`",
                axis.name
            );
        }
        let selectors = self.overrides.iter().map(|other| ("an override", &other.when));
        let curves = self.published.iter().flat_map(|published| &published.curves);
        let selectors = selectors.chain(curves.map(|curve| ("a curve", &curve.row)));
        let claims = self.claims.iter().flat_map(|claim| claim.worse.iter().chain([&claim.better, &claim.only]));
        let claims = claims.map(|selector| ("a claim", selector));
        let trained = self.budgets.values().map(|training| ("a budget", &training.axes));
        for (what, selector) in selectors.chain(claims).chain(trained) {
            for (axis, values) in selector {
                for name in values.names()? {
                    self.value(axis, &name).with_context(|| what.to_owned())?;
                }
            }
        }
        for (name, training) in &self.budgets {
            ensure!(training.epochs > 0, "budget `{name}`: epochs is 0; expected at least 1");
            ensure!(training.seeds > 0, "budget `{name}`: seeds is 0; expected at least 1");
            self.rows(training, tables).with_context(|| format!("budget `{name}`"))?;
        }
        Ok(())
    }

    /// The columns that identify the published runs of all rows.
    pub(super) fn common_key(&self) -> Result<Option<Key>> {
        let Some(published) = &self.published else { return Ok(None) };
        published
            .common
            .iter()
            .map(|(column, value)| Ok((column.clone(), ValueName::of(value)?.as_str().to_owned())))
            .collect::<Result<Key>>()
            .map(Some)
    }
}
