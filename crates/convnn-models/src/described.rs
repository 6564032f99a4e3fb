//! Reading `config.json`: an error names the line, the key, what was found there and what is expected.
//!
//! Serde's messages are about Rust's types, and name no key.

use crate::{ModelConfig, Preprocessing};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value, json};
use std::fmt;

/// What `config.json` describes.
pub(crate) struct Described {
    pub(crate) config: ModelConfig,
    pub(crate) preprocessing: Option<Preprocessing>,
    pub(crate) labels: Option<Vec<String>>,
}

/// The keys beside those of the model.
pub(crate) const PREPROCESSING: &str = "preprocessing";
pub(crate) const LABELS: &str = "labels";

/// Keys whose values are more than a number or a word, and what they may be.
const FORMS: [(&str, &str); 3] = [
    ("candidates", r#""all", {"random": {"n": NUMBER}} or {"spatial": {"n": NUMBER, "margin": NUMBER}}"#),
    ("compare", r#""features", "position" or {"blend": NUMBER}"#),
    ("features", r#"a list of numbers of channels, with "M" for each max-pool"#),
];

impl Described {
    /// The contents of `config.json`; the error is one clause.
    pub(crate) fn read(text: &[u8]) -> Result<Self, String> {
        let value = parse(text)?;
        Self::new(&value).map_err(|wrong| wrong.at(text))
    }

    fn new(value: &Value) -> Result<Self, Wrong> {
        let keys = object(value, &[], "an object with `model` and `layer`")?;
        let known = ["model", "layer", PREPROCESSING, LABELS];
        if let Some(key) = keys.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(Wrong::unknown(&[key], &known));
        }
        let table = |name: &'static str, choice: &str| {
            let expected = format!("an object with `{choice}`");
            let value = keys.get(name).ok_or_else(|| Wrong::missing(&[name], &expected))?;
            object(value, &[name], &expected)
        };
        let (model, layer) = (table("model", "architecture")?, table("layer", "kind")?);
        let architecture = word(model, "model", "architecture", ModelConfig::ARCHITECTURES)?;
        let kinds = ModelConfig::kinds(architecture);
        let kind = word(layer, "layer", "kind", kinds)?;

        let read = |model: &Value, layer: &Value| {
            serde_json::from_value::<ModelConfig>(json!({ "model": model, "layer": layer })).map_err(|e| e.to_string())
        };
        let (model_alone, layer_alone) = (json!({ "architecture": architecture }), json!({ "kind": kind }));
        let defaults = read(&model_alone, &layer_alone).ok().and_then(|config| serde_json::to_value(config).ok());
        let defaults = defaults.unwrap_or_default();
        let none = Map::new();
        let of = |name: &str| defaults[name].as_object().unwrap_or(&none);
        let with = |alone: &Value, key: &str, value: &Value| {
            let mut table = alone.clone();
            table[key] = value.clone();
            table
        };
        check("model", model, of("model"), |key, value| read(&with(&model_alone, key, value), &layer_alone).map(drop))?;
        check("layer", layer, of("layer"), |key, value| read(&model_alone, &with(&layer_alone, key, value)).map(drop))?;
        let read_all = read(&keys["model"], &keys["layer"]);
        let config = read_all.map_err(|_| Wrong::found(&["model"], &keys["model"], "a table that fits `layer`"))?;

        Ok(Self {
            config,
            preprocessing: keys.get(PREPROCESSING).map(preprocessing).transpose()?,
            labels: keys.get(LABELS).map(|value| labels(value, &[LABELS])).transpose()?,
        })
    }
}

/// The names of the classes in a file of their own.
pub(crate) fn read_labels(text: &[u8]) -> Result<Vec<String>, String> {
    labels(&parse(text)?, &[]).map_err(|wrong| wrong.at(text))
}

fn parse(text: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(text).map_err(|error| {
        let line = text.split(|&byte| byte == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
        let place = format!("line {}, column {}", error.line(), error.column());
        if error.is_eof() {
            return format!("{place}: the file ends here; expected the rest of a JSON object");
        }
        let rest = line.get(error.column().saturating_sub(1)..).unwrap_or_default();
        format!("{place}: found {}; expected JSON", shown(&json!(String::from_utf8_lossy(rest).trim())))
    })
}

fn object<'a>(value: &'a Value, keys: &[&str], expected: &str) -> Result<&'a Map<String, Value>, Wrong> {
    value.as_object().ok_or_else(|| Wrong::found(keys, value, expected))
}

/// The word at `key`, which decides what the other keys of the table are.
fn word<'a>(table: &'a Map<String, Value>, name: &str, key: &str, known: &[&str]) -> Result<&'a str, Wrong> {
    let expected = one_of(known);
    let value = table.get(key).ok_or_else(|| Wrong::missing(&[name, key], &expected))?;
    value.as_str().filter(|word| known.contains(word)).ok_or_else(|| Wrong::found(&[name, key], value, &expected))
}

/// Checks every key of a table. `reads` tells whether a table with this key alone can be read, and Serde's error.
fn check(
    name: &str,
    table: &Map<String, Value>,
    defaults: &Map<String, Value>,
    reads: impl Fn(&str, &Value) -> Result<(), String>,
) -> Result<(), Wrong> {
    for (key, value) in table {
        let Some(default) = defaults.get(key) else {
            let known: Vec<_> = defaults.keys().map(String::as_str).collect();
            return Err(Wrong::unknown(&[name, key], &known));
        };
        if reads(key, value).is_err() {
            // No option has this word, so that the error lists those that there are.
            let words = || reads(key, &json!("")).err().map(|error| words(&error)).filter(|words| !words.is_empty());
            return Err(Wrong::found(&[name, key], value, &expected(key, default, words)));
        }
    }
    Ok(())
}

/// What a key may be, told by its default.
fn expected(key: &str, default: &Value, words: impl FnOnce() -> Option<Vec<String>>) -> String {
    if let Some((_, form)) = FORMS.iter().find(|(name, _)| *name == key) {
        return (*form).to_owned();
    }
    match default {
        Value::Bool(_) => "true or false".to_owned(),
        Value::Number(number) if number.is_u64() => "a whole number, not below 0".to_owned(),
        Value::Number(_) => "a number".to_owned(),
        _ => words().map_or_else(
            || format!("a value such as {}", shown(default)),
            |words| one_of(&words.iter().map(String::as_str).collect::<Vec<_>>()),
        ),
    }
}

/// The words that an error of Serde's lists: ``unknown variant ``, expected one of `a`, `b` ``.
fn words(error: &str) -> Vec<String> {
    let listed = error.rsplit_once("expected").filter(|_| error.contains("unknown variant"));
    let listed = listed.map_or("", |(_, listed)| listed);
    listed.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn preprocessing(value: &Value) -> Result<Preprocessing, Wrong> {
    const KEYS: [&str; 3] = ["size", "mean", "sd"];
    let table = object(value, &[PREPROCESSING], &format!("an object with {}", all_of(&KEYS)))?;
    if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(Wrong::unknown(&[PREPROCESSING, key], &KEYS));
    }
    let numbers = |value: &Value| serde_json::from_value::<[f32; 3]>(value.clone()).ok();
    let three = "a list of 3 numbers, for red, green and blue";
    let read =
        |key: &str, expected: &str| table.get(key).ok_or_else(|| Wrong::missing(&[PREPROCESSING, key], expected));
    let list = |key: &str| {
        let value = read(key, three)?;
        numbers(value).ok_or_else(|| Wrong::found(&[PREPROCESSING, key], value, three))
    };
    let whole = "a whole number, not below 0";
    let size = read("size", whole)?;
    let pixels = size.as_u64().and_then(|size| usize::try_from(size).ok());
    let size = pixels.ok_or_else(|| Wrong::found(&[PREPROCESSING, "size"], size, whole))?;
    Ok(Preprocessing { size, mean: list("mean")?, sd: list("sd")? })
}

fn labels(value: &Value, keys: &[&str]) -> Result<Vec<String>, Wrong> {
    let expected = "a list of strings, the names of the classes";
    let list = value.as_array().ok_or_else(|| Wrong::found(keys, value, expected))?;
    let name = |value: &Value| match value.as_str() {
        Some(name) => Ok(name.to_owned()),
        None => Err(Wrong { entry: true, ..Wrong::found(keys, value, expected) }),
    };
    list.iter().map(name).collect()
}

/// Something in the file that is not what it should be.
#[derive(Debug)]
struct Wrong {
    /// The path to it.
    keys: Vec<String>,
    /// Whether it is an entry of the list there.
    entry: bool,
    found: Found,
    expected: String,
}

#[derive(Debug)]
enum Found {
    Value(String),
    Unknown,
    Missing,
}

impl Wrong {
    fn new(keys: &[&str], found: Found, expected: String) -> Self {
        Self { keys: keys.iter().map(|&key| key.to_owned()).collect(), entry: false, found, expected }
    }

    fn found(keys: &[&str], value: &Value, expected: &str) -> Self {
        Self::new(keys, Found::Value(shown(value)), expected.to_owned())
    }

    fn missing(keys: &[&str], expected: &str) -> Self {
        Self::new(keys, Found::Missing, expected.to_owned())
    }

    fn unknown(keys: &[&str], known: &[&str]) -> Self {
        Self::new(keys, Found::Unknown, one_of(known))
    }

    /// The message, with the line in `text`.
    fn at(&self, text: &[u8]) -> String {
        // A missing key is missing from the table around it.
        let there = self.keys.len() - usize::from(matches!(self.found, Found::Missing));
        let line = line_of(text, &self.keys[..there]);
        let name = match (&self.keys[..], self.entry) {
            ([], false) => "the file".to_owned(),
            ([], true) => "an entry".to_owned(),
            (keys, false) => format!("`{}`", keys.join(".")),
            (keys, true) => format!("an entry of `{}`", keys.join(".")),
        };
        let found = match &self.found {
            Found::Value(value) => format!("is {value}"),
            Found::Unknown => "is not a key".to_owned(),
            Found::Missing => "is missing".to_owned(),
        };
        format!("line {line}: {name} {found}; expected {}", self.expected)
    }
}

/// The line of the key at the end of a path.
fn line_of(text: &[u8], keys: &[String]) -> usize {
    let mut reader = serde_json::Deserializer::from_slice(text);
    // The error that ends the search has the place where it was raised.
    Seek(keys).deserialize(&mut reader).map_or_else(|error| error.line().max(1), |()| 1)
}

/// Reads up to the value at the end of a path, and fails there.
struct Seek<'a>(&'a [String]);

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.0 {
            [] => Err(D::Error::custom("here")),
            _ => deserializer.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((first, rest)) = self.0.split_first() else { return Ok(()) };
        while let Some(key) = map.next_key::<String>()? {
            match key == *first {
                true => map.next_value_seed(Seek(rest))?,
                false => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// A value in a message; a long one is cut.
fn shown(value: &Value) -> String {
    const MOST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn one_of(words: &[&str]) -> String {
    listed(words, "or")
}

fn all_of(words: &[&str]) -> String {
    listed(words, "and")
}

fn listed(words: &[&str], last_word: &str) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    match &quoted[..] {
        [] => String::new(),
        [only] => only.clone(),
        [others @ .., last] => format!("{} {last_word} {last}", others.join(", ")),
    }
}
