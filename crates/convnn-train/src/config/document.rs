//! A configuration as a TOML document: training keys at the top level, then the tables `[model]` and `[layer]`.

use super::RunConfig;
use crate::{Error, Result};
use toml::{Table, Value};

impl RunConfig {
    /// The text of `config.toml`.
    ///
    /// # Errors
    /// If a value cannot be written in TOML.
    pub fn to_toml(&self) -> Result<String> {
        Ok(to_table(self)?.to_string())
    }
}

/// The document of a configuration.
pub(super) fn to_table(config: &RunConfig) -> Result<Table> {
    let mut table = Table::try_from(config)
        .map_err(|error| Error::Config { place: config.preset.clone(), message: first_line(&error.to_string()) })?;
    if let Some(Value::Table(tables)) = table.remove("model") {
        table.extend(tables);
    }
    Ok(table)
}

/// The configuration of a document of checked keys; the error is the first line of Serde's.
pub(super) fn from_table(mut table: Table) -> std::result::Result<RunConfig, String> {
    let tables: Table =
        ["model", "layer"].iter().filter_map(|&name| Some((name.to_owned(), table.remove(name)?))).collect();
    table.insert("model".to_owned(), Value::Table(tables));
    table.try_into().map_err(|error: toml::de::Error| first_line(error.message()))
}

/// The value of every key such as `layer.neighbors`, in the order of the document; lists as text.
///
/// # Errors
/// If a value cannot be written in TOML.
pub fn flat_keys(config: &RunConfig) -> Result<Vec<(String, serde_json::Value)>> {
    Ok(flatten(&to_table(config)?))
}

/// The value of every key of a document, tables within tables joined by dots; lists as text.
pub fn flatten(table: &Table) -> Vec<(String, serde_json::Value)> {
    fn visit(prefix: &str, table: &Table, found: &mut Vec<(String, serde_json::Value)>) {
        for (name, value) in table {
            let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            let value = match value {
                Value::Table(table) => {
                    visit(&key, table, found);
                    continue;
                }
                Value::Integer(number) => (*number).into(),
                Value::Float(number) => (*number).into(),
                Value::Boolean(value) => (*value).into(),
                Value::String(text) => text.as_str().into(),
                other => other.to_string().into(),
            };
            found.push((key, value));
        }
    }
    let mut found = Vec::new();
    visit("", table, &mut found);
    found
}

/// The value at `path`.
pub(super) fn lookup<'a>(table: &'a Table, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let mut value = table.get(first)?;
    for name in rest {
        value = value.as_table()?.get(name)?;
    }
    Some(value)
}

/// Sets the value at `path`. Missing tables on the way are created, and other values on the way replaced by tables.
pub(super) fn insert(table: &mut Table, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        table.insert(first.clone(), value);
        return;
    }
    let inner = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
    if !inner.is_table() {
        *inner = Value::Table(Table::new());
    }
    if let Value::Table(inner) = inner {
        insert(inner, rest, value);
    }
}

/// The dotted names of all keys of a document, in order, down to those of `[model]` and `[layer]`.
pub(super) fn keys(table: &Table) -> Vec<String> {
    let mut keys = Vec::new();
    for (name, value) in table {
        match value {
            Value::Table(inner) if name == "model" || name == "layer" => {
                keys.extend(inner.keys().map(|key| format!("{name}.{key}")));
            }
            _ => keys.push(name.clone()),
        }
    }
    keys
}

/// A key that differs between two configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The dotted name of the key.
    pub key: String,
    /// Its value in the first configuration, or `absent`.
    pub first: String,
    /// Its value in the second configuration, or `absent`.
    pub second: String,
}

/// The first key that differs between two configurations, except for the keys in `ignored`.
///
/// # Errors
/// If a value cannot be written in TOML.
pub fn first_difference(first: &RunConfig, second: &RunConfig, ignored: &[&str]) -> Result<Option<Difference>> {
    let all = differences(first, second)?;
    Ok(all.into_iter().find(|difference| !ignored.contains(&difference.key.as_str())))
}

/// All keys in which two configurations differ.
///
/// # Errors
/// If a configuration cannot be written as TOML.
pub fn differences(first: &RunConfig, second: &RunConfig) -> Result<Vec<Difference>> {
    let (first, second) = (to_table(first)?, to_table(second)?);
    let mut all = keys(&first);
    all.extend(keys(&second).into_iter().filter(|key| !all.contains(key)).collect::<Vec<_>>());
    let show = |value: Option<&Value>| value.map_or("absent".to_owned(), Value::to_string);
    let differs = |key: String| {
        let path: Vec<_> = key.split('.').map(str::to_owned).collect();
        let (first, second) = (lookup(&first, &path), lookup(&second, &path));
        (first != second).then(|| Difference { key, first: show(first), second: show(second) })
    };
    Ok(all.into_iter().filter_map(differs).collect())
}

pub(super) fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim_end().to_owned()
}
