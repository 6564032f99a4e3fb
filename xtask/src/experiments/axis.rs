//! An axis of a family: what is varied, and its values.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use toml::Value;

use super::family::Settings;
use super::published::Key;

/// What is varied.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RawAxis")]
pub struct Axis {
    /// Its name in selectors and in ids of rows.
    pub name: String,
    /// Its heading in tables and charts.
    pub label: String,
    /// Its values in order.
    pub values: Vec<AxisValue>,
}

/// A value of an axis, and what it means for a run.
#[derive(Clone, Debug)]
pub struct AxisValue {
    /// Its name in selectors and in ids of rows.
    pub name: ValueName,
    /// Its name in tables and charts.
    pub label: String,
    /// Its place on a chart, if it is a number.
    pub number: Option<f64>,
    /// Settings of the trainer.
    pub set: Settings,
    /// The end of the name of the trainer's preset, `PRESET_VARIANT`.
    pub variant: Option<String>,
    /// Columns that identify the published run.
    pub published: Key,
}

/// The name of a value: text, or a number in its shortest form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ValueName(String);

/// Values of some axes; rows match if each of these axes has one of the values.
pub type Selector = BTreeMap<String, OneOrMore>;

/// One value of an axis, or any of several.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
pub enum OneOrMore {
    /// Any of these.
    More(Vec<Value>),
    /// This one.
    One(Value),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAxis {
    name: String,
    label: Option<String>,
    key: Option<String>,
    column: Option<String>,
    format: Option<String>,
    values: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawValue {
    name: Value,
    label: Option<String>,
    value: Option<Value>,
    #[serde(default)]
    set: Settings,
    variant: Option<String>,
    #[serde(default)]
    published: BTreeMap<String, Value>,
}

/// The name of the axis of data sets.
pub const DATASET: &str = "dataset";

impl Axis {
    /// The data sets.
    pub(super) fn of_datasets(names: &[String]) -> Result<Self> {
        let value = |name: &String| {
            let label = match name.as_str() {
                "cifar10" => "CIFAR-10",
                "cifar100" => "CIFAR-100",
                other => other,
            };
            AxisValue {
                name: ValueName(name.clone()),
                label: label.to_owned(),
                number: None,
                set: Settings::from([(DATASET.to_owned(), Value::String(name.clone()))]),
                variant: None,
                published: Key::from([(DATASET.to_owned(), name.clone())]),
            }
        };
        ensure!(!names.is_empty(), "`datasets` is empty; expected one such as \"cifar10\"");
        let values = names.iter().map(value).collect();
        Self { name: DATASET.to_owned(), label: "data".to_owned(), values }.distinct()
    }
}

impl TryFrom<RawAxis> for Axis {
    type Error = String;

    fn try_from(raw: RawAxis) -> Result<Self, String> {
        // Serde shows the outermost message alone.
        Self::new(raw).map_err(|error| format!("{error:#}"))
    }
}

impl Axis {
    fn new(raw: RawAxis) -> Result<Self> {
        let name = &raw.name;
        ensure!(!raw.values.is_empty(), "axis `{name}` has no values");
        let values = raw.values.iter().map(|value| AxisValue::new(&raw, value));
        let values = values.collect::<Result<Vec<_>>>().with_context(|| format!("axis `{name}`"))?;
        Self { label: raw.label.unwrap_or_else(|| name.clone()), name: raw.name, values }.distinct()
    }

    /// Itself, unless it has a value twice.
    fn distinct(self) -> Result<Self> {
        for (index, value) in self.values.iter().enumerate() {
            ensure!(
                !self.values[..index].iter().any(|other| other.name == value.name),
                "axis `{}` has the value `{}` twice",
                self.name,
                value.name.as_str()
            );
        }
        Ok(self)
    }
}

impl AxisValue {
    fn new(axis: &RawAxis, value: &Value) -> Result<Self> {
        let raw = match value {
            Value::Table(table) => RawValue::deserialize(table.clone())?,
            scalar => RawValue {
                name: scalar.clone(),
                label: None,
                value: Some(scalar.clone()),
                set: Settings::new(),
                variant: None,
                published: BTreeMap::new(),
            },
        };
        let name = ValueName::of(&raw.name)?;
        let mut set = raw.set;
        let mut published: Key = BTreeMap::new();
        if let Some(value) = &raw.value {
            let Some(key) = &axis.key else {
                bail!(
                    "the value `{}` needs the axis to have a `key`, the configuration key that it sets",
                    name.as_str()
                );
            };
            let name = ValueName::of(value)?;
            set.insert(
                key.clone(),
                match &axis.format {
                    Some(format) => Value::String(format.replace("{}", name.as_str())),
                    None => value.clone(),
                },
            );
            if let Some(column) = &axis.column {
                published.insert(column.clone(), name.0);
            }
        }
        for (column, value) in &raw.published {
            published.insert(column.clone(), ValueName::of(value)?.0);
        }
        Ok(Self {
            label: raw.label.unwrap_or_else(|| name.0.clone()),
            number: number(&raw.name),
            name,
            set,
            variant: raw.variant,
            published,
        })
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}

impl ValueName {
    /// The name that `value` has in a file of experiments.
    pub fn of(value: &Value) -> Result<Self> {
        Ok(Self(match value {
            Value::String(text) => text.clone(),
            Value::Boolean(flag) => flag.to_string(),
            other => match number(other) {
                Some(number) if number != 0.0 && number.abs() < 1e-3 => format!("{number:e}"),
                Some(number) => number.to_string(),
                None => bail!("{other} names no value; expected text or a number"),
            },
        }))
    }

    /// The name that `text` on a command line means: `0.50` is `0.5`.
    pub fn parse(text: &str) -> Self {
        let number = text.parse().ok().and_then(|number| Self::of(&Value::Float(number)).ok());
        number.unwrap_or_else(|| Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl OneOrMore {
    /// The names of the values.
    pub fn names(&self) -> Result<Vec<ValueName>> {
        match self {
            Self::One(value) => Ok(vec![ValueName::of(value)?]),
            Self::More(values) => values.iter().map(ValueName::of).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_have_one_name() {
        let name = |text: &str| ValueName::of(&toml::from_str::<toml::Table>(&format!("v = {text}")).unwrap()["v"]);
        for (text, expected) in
            [("0.0", "0"), ("0", "0"), ("0.50", "0.5"), ("9", "9"), ("0.0001", "1e-4"), ("'x'", "x")]
        {
            assert_eq!(name(text).unwrap().as_str(), expected);
            assert_eq!(ValueName::parse(text.trim_matches('\'')).as_str(), expected);
        }
        assert!(name("{}").is_err());
    }

    #[test]
    fn a_scalar_needs_a_key() {
        let error = toml::from_str::<Axis>("name = 'k'\nvalues = [1]").unwrap_err().to_string();
        assert!(error.contains("the value `1` needs the axis to have a `key`"), "{error}");
        let error = toml::from_str::<Axis>("name = 'k'\nkey = 'a'\nvalues = [1, 1.0]").unwrap_err().to_string();
        assert!(error.contains("the value `1` twice"), "{error}");
        let error = toml::from_str::<Axis>("name = 'k'\nvalues = [{ name = 1, sets = {} }]").unwrap_err().to_string();
        assert!(error.contains("unknown field `sets`"), "{error}");
    }
}
