//! The keys of a TOML file, with their places.

use super::document::first_line;
use super::sources::Assignment;
use crate::{Error, Result};
use std::path::Path;
use toml::Value;
use toml::de::{DeTable, DeValue};

/// The largest configuration file, in bytes.
const MOST_BYTES: u64 = 1 << 20;

/// The assignments of a file: its top-level keys, and every key of `[model]` and `[layer]`.
pub(super) fn read_file(path: &Path) -> Result<Vec<Assignment>> {
    let text = read_text(path)?;
    let lines: Vec<usize> = std::iter::once(0).chain(text.match_indices('\n').map(|(end, _)| end + 1)).collect();
    let place = |offset: usize| {
        let line = lines.partition_point(|&start| start <= offset);
        let column = 1 + text.get(lines[line - 1]..offset).map_or(0, |before| before.chars().count());
        format!("{}:{line}:{column}", path.display())
    };
    let document = DeTable::parse(&text).map_err(|error| Error::Config {
        place: place(error.span().map_or(0, |span| span.start)),
        message: format!("not valid TOML: {}", first_line(error.message())),
    })?;
    let mut assignments = Vec::new();
    for (key, value) in document.into_inner() {
        let (offset, name) = (key.span().start, key.into_inner().into_owned());
        let mut add = |path: Vec<String>, offset: usize, value: DeValue<'_>| -> Result<()> {
            let place = place(offset);
            let value = to_value(value).ok_or_else(|| Error::Config {
                place: place.clone(),
                message: format!("`{}` has a number that is out of range", path.join(".")),
            })?;
            assignments.push(Assignment { path, value, place, loose: false });
            Ok(())
        };
        match value.into_inner() {
            DeValue::Table(inner) if name == "model" || name == "layer" => {
                for (key, value) in inner {
                    let (offset, inner_name) = (key.span().start, key.into_inner().into_owned());
                    add(vec![name.clone(), inner_name], offset, value.into_inner())?;
                }
            }
            value => add(vec![name], offset, value)?,
        }
    }
    Ok(assignments)
}

/// The text of a regular file; anything else could block or never end.
fn read_text(path: &Path) -> Result<String> {
    let wrong = |message: String| Error::Config { place: path.display().to_string(), message };
    let metadata = std::fs::metadata(path).map_err(Error::io("read", path))?;
    if !metadata.is_file() {
        let found = if metadata.is_dir() { "a folder" } else { "not a regular file" };
        return Err(wrong(format!("{found}; expected a TOML file")));
    }
    if metadata.len() > MOST_BYTES {
        return Err(wrong(format!("{} bytes; a configuration has at most {MOST_BYTES}", metadata.len())));
    }
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    String::from_utf8(bytes).map_err(|error| wrong(format!("{}; expected UTF-8", error.utf8_error())))
}

/// The value without its place; `None` for a number that does not fit.
fn to_value(value: DeValue<'_>) -> Option<Value> {
    Some(match value {
        DeValue::String(text) => Value::String(text.into_owned()),
        DeValue::Integer(number) => Value::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok()?),
        DeValue::Float(number) => Value::Float(number.as_str().parse().ok()?),
        DeValue::Boolean(truth) => Value::Boolean(truth),
        DeValue::Datetime(time) => Value::Datetime(time),
        DeValue::Array(values) => {
            Value::Array(values.into_iter().map(|value| to_value(value.into_inner())).collect::<Option<_>>()?)
        }
        DeValue::Table(table) => Value::Table(
            table
                .into_iter()
                .map(|(key, value)| Some((key.into_inner().into_owned(), to_value(value.into_inner())?)))
                .collect::<Option<_>>()?,
        ),
    })
}
