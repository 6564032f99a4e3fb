//! A row: one value of each axis.

use anyhow::{Result, bail};

use super::axis::{DATASET, ValueName};
use super::family::{Family, Settings, Training};
use super::published::{Published, Tables};
use crate::statistics::Spread;

/// One line of the report: one value of each axis.
#[derive(Clone, Debug)]
pub struct Row {
    /// `AXIS=VALUE,AXIS=VALUE`.
    pub id: String,
    /// The index of its value on each axis.
    pub values: Vec<usize>,
    /// The trainer's preset.
    pub preset: String,
    /// Settings of the trainer: those of the budget, the axes and the overrides.
    pub set: Settings,
    /// The published run of the full-size counterpart; at the same epoch if the budget trains as published.
    pub published: Option<Published>,
    /// The spread of published runs with equal settings, of the model, data set and learning rate of its published run.
    pub spread: Option<Spread>,
}

impl Row {
    /// The row with these values; `None` if an override skips it.
    pub(super) fn new(
        family: &Family,
        training: &Training,
        values: Vec<usize>,
        tables: &Tables,
    ) -> Result<Option<Self>> {
        let chosen: Vec<_> =
            family.axes.iter().zip(&values).map(|(axis, &value)| (axis, &axis.values[value])).collect();
        let names: Vec<_> =
            chosen.iter().map(|(axis, value)| format!("{}={}", axis.name, value.name.as_str())).collect();
        let id = names.join(",");
        let mut set = training.set.clone();
        let mut key = family.common_key()?;
        let mut variant: Option<&str> = None;
        for (_, value) in &chosen {
            set.extend(value.set.clone());
            if let Some(key) = &mut key {
                key.extend(value.published.clone());
            }
            if value.variant.is_some() && variant.is_some() {
                bail!("row `{id}` has two variants; expected one axis with variants");
            }
            variant = variant.or(value.variant.as_deref());
        }
        for other in &family.overrides {
            if !family.matches(&values, &other.when)? {
                continue;
            }
            if other.skip {
                return Ok(None);
            }
            set.extend(other.set.clone());
            if let Some(key) = &mut key {
                for (column, value) in &other.published {
                    key.insert(column.clone(), ValueName::of(value)?.as_str().to_owned());
                }
            }
        }
        let mut published = key.map(|key| tables.find(&key)).transpose()?.flatten();
        if let (Some(published), Some(runs)) = (&mut published, &family.published) {
            for curve in &runs.curves {
                if family.matches(&values, &curve.row)? {
                    published.curve = tables.curve(&curve.file, published)?;
                }
            }
        }
        if training.as_published {
            published = published.and_then(|published| published.after(training.epochs));
        }
        let preset = match variant {
            Some(variant) => format!("{}_{variant}", training.preset),
            None => training.preset.clone(),
        };
        let spread = published.as_ref().and_then(|published| tables.spread(published));
        Ok(Some(Self { id, values, preset, set, published, spread }))
    }

    /// The data set that it is trained on.
    pub fn dataset(&self) -> &str {
        self.set.get(DATASET).and_then(toml::Value::as_str).unwrap_or_default()
    }

    /// The labels of its values on the axes for which `shown` is true.
    pub fn label(&self, family: &Family, shown: impl Fn(usize) -> bool) -> String {
        let labels = family.axes.iter().zip(&self.values).enumerate().filter(|(index, _)| shown(*index));
        let labels: Vec<&str> = labels.map(|(_, (axis, &value))| axis.values[value].label.as_str()).collect();
        labels.join(", ")
    }
}
