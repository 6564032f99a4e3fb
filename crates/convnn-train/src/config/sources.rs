//! Resolving a configuration: a preset, then a file, then overrides; an error names the place of the key.

use super::document::{first_line, from_table, insert, keys, lookup, to_table};
use super::{RunConfig, nearest::nearest};
use crate::{Error, Result};
use convnn_data::{DatasetName, picture_classes};
use std::collections::BTreeMap;
use std::path::Path;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

/// The sources of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Sources<'a> {
    /// The preset; it takes precedence over the key `preset` of the file.
    pub preset: Option<&'a str>,
    /// A TOML file.
    pub file: Option<&'a Path>,
    /// Overrides. If a key is given several times, the last one counts.
    pub overrides: Vec<Assignment>,
}

/// A key with its value, and where they come from.
#[derive(Clone, Debug)]
pub struct Assignment {
    path: Vec<String>,
    value: Value,
    place: String,
}

impl Assignment {
    /// The assignment of a top-level key by an argument such as `--epochs 3`, which is given as `place`.
    pub fn new(key: &str, value: impl Into<Value>, place: String) -> Self {
        Self { path: vec![key.to_owned()], value: value.into(), place }
    }

    /// Parses `key=value`. A value that is not TOML is taken as a string.
    ///
    /// # Errors
    /// If there is no `=`, or no key before it.
    pub fn parse(text: &str) -> Result<Self> {
        let place = format!("--set {text}");
        let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.trim().is_empty()) else {
            let message = "expected key=value, as in --set layer.neighbors=9".to_owned();
            return Err(Error::Config { place, message });
        };
        let path = key.trim().split('.').map(|name| name.trim().to_owned()).collect();
        let parsed = format!("value = {value}").parse::<Table>().ok().filter(|table| table.len() == 1);
        let value = parsed.and_then(|mut table| table.remove("value"));
        let value = value.unwrap_or_else(|| Value::String(text.split_once('=').map_or("", |pair| pair.1).to_owned()));
        Ok(Self { path, value, place })
    }

    fn key(&self) -> String {
        self.path.join(".")
    }

    /// Whether it decides which other keys exist, and must be applied first.
    fn is_choice(&self) -> bool {
        matches!(self.key().as_str(), "model.architecture" | "layer.kind")
    }
}

impl Sources<'_> {
    /// Whether the file or an override sets the top-level key `key`.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn sets(&self, key: &str) -> Result<bool> {
        let in_file = self.file.map_or_else(|| Ok(Vec::new()), read_file)?;
        Ok(in_file.iter().chain(&self.overrides).any(|one| one.path == [key]))
    }

    /// Resolves and validates the configuration.
    ///
    /// # Errors
    /// One line with the place, `FILE:LINE` or the argument, of the first key that is unknown or has an unusable value.
    pub fn resolve(&self) -> Result<RunConfig> {
        let in_file = match self.file {
            Some(path) => read_file(path)?,
            None => Vec::new(),
        };
        let named = |source: &[Assignment]| source.iter().rfind(|one| one.path == ["preset"]).cloned();
        let argument = self.preset.map(|name| Assignment::new("preset", name, format!("--preset {name}")));
        let preset = argument.or_else(|| named(&self.overrides)).or_else(|| named(&in_file)).ok_or_else(|| {
            let place = self.file.map_or("no preset".to_owned(), |path| path.display().to_string());
            let message = "choose a preset with --preset NAME or the key `preset`; `convnn info` lists them";
            Error::Config { place, message: message.to_owned() }
        })?;
        let name = preset.value.as_str().map_or_else(|| preset.value.to_string(), str::to_owned);
        let base = RunConfig::from_preset(&name).map_err(|error| at_place(&preset.place, &error))?;

        let mut resolving = Resolving { table: to_table(&base)?, places: BTreeMap::new() };
        for source in [&in_file, &self.overrides] {
            let (mut choices, others): (Vec<_>, Vec<_>) =
                source.iter().filter(|one| one.path != ["preset"]).partition(|one| one.is_choice());
            choices.sort_by_key(|one| one.path[0] == "layer");
            for assignment in choices.into_iter().chain(others) {
                resolving.apply(assignment)?;
            }
        }
        resolving.finish()
    }
}

/// A partly resolved document, with the places of the values that do not come from the preset.
struct Resolving {
    table: Table,
    places: BTreeMap<String, String>,
}

impl Resolving {
    fn apply(&mut self, assignment: &Assignment) -> Result<()> {
        let wrong = |message: String| Error::Config { place: assignment.place.clone(), message };
        if matches!(assignment.value, Value::Float(number) if !number.is_finite()) {
            let (key, value) = (assignment.key(), &assignment.value);
            return Err(wrong(format!("`{key}` is {value}; expected a finite number")));
        }
        let trials = self.trials(assignment);
        let mut failure = String::new();
        for trial in trials {
            match from_table(trial) {
                Ok(config) => {
                    let table = to_table(&config)?;
                    if lookup(&table, &assignment.path).is_none() {
                        return Err(self.unknown(assignment));
                    }
                    self.table = table;
                    self.places.insert(assignment.key(), assignment.place.clone());
                    return Ok(());
                }
                Err(message) => failure = message,
            }
        }
        if lookup(&self.table, key_part(&assignment.path)).is_none() {
            return Err(self.unknown(assignment));
        }
        let reason = failure.trim_start_matches("[layer]: ");
        Err(wrong(format!("`{}` is {}: {reason}", assignment.key(), assignment.value)))
    }

    /// The documents that an assignment may mean, the most likely first.
    fn trials(&self, assignment: &Assignment) -> Vec<Table> {
        let with = |clear: Option<&[String]>| {
            let mut table = self.table.clone();
            if let Some(path) = clear {
                insert(&mut table, path, Value::Table(Table::new()));
            }
            insert(&mut table, &assignment.path, assignment.value.clone());
            table
        };
        let unchanged = lookup(&self.table, &assignment.path) == Some(&assignment.value);
        if assignment.is_choice() && !unchanged {
            // Another kind starts from its own defaults, another architecture from a layer that fits it.
            let mut table = with(Some(&assignment.path[..1]));
            match assignment.value.as_str().filter(|_| assignment.path[0] == "model") {
                Some("vgg") => reset_layer(&mut table, "branching_2d"),
                Some("vit") => reset_layer(&mut table, "conv_nn_attention"),
                _ => {}
            }
            return vec![table];
        }
        // `layer.candidates.random.n` may change a number or choose another kind of candidates.
        let mut trials = vec![with(None)];
        trials.extend((assignment.path.len() > 2).then(|| with(Some(&assignment.path[..2]))));
        trials
    }

    fn unknown(&self, assignment: &Assignment) -> Error {
        let key = assignment.key();
        let known = keys(&self.table);
        let message = format!("unknown key `{key}`; the nearest known key is `{}`", nearest(&key, &known));
        Error::Config { place: assignment.place.clone(), message }
    }

    fn finish(self) -> Result<RunConfig> {
        let mut config = from_table(self.table)
            .map_err(|message| Error::Config { place: "resolved configuration".to_owned(), message })?;
        let pictures = picture_classes(Path::new(&config.data));
        if pictures.is_some() && !self.places.contains_key("dataset") {
            config.dataset = DatasetName::Folder;
        }
        if !self.places.contains_key("model.classes") {
            let folder = pictures.filter(|_| config.dataset == DatasetName::Folder);
            config.dataset.classes().or(folder).into_iter().for_each(|classes| config.model.set_classes(classes));
        }
        match config.validate() {
            Ok(()) => Ok(config),
            Err(error) => Err(match error_key(&error).and_then(|key| place_of(&self.places, &key)) {
                Some(place) => at_place(place, &error),
                None => error,
            }),
        }
    }
}

/// The part of a path that names a key: two names in `[model]` and `[layer]`, else one.
fn key_part(path: &[String]) -> &[String] {
    let depth = if path[0] == "model" || path[0] == "layer" { 2 } else { 1 };
    &path[..depth.min(path.len())]
}

fn reset_layer(table: &mut Table, kind: &str) {
    table.remove("layer");
    insert(table, &["layer".to_owned(), "kind".to_owned()], Value::String(kind.to_owned()));
}

/// The key whose value is at fault.
fn error_key(error: &Error) -> Option<String> {
    match error {
        Error::Value { key, .. } => Some(key.clone()),
        Error::Models(error) => error.key(),
        _ => None,
    }
}

/// The place of `key`, or of a key within its value.
fn place_of<'a>(places: &'a BTreeMap<String, String>, key: &str) -> Option<&'a String> {
    let is_within = |other: &str| other.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    places.iter().find_map(|(other, place)| is_within(other).then_some(place))
}

fn at_place(place: &str, error: &Error) -> Error {
    Error::Config { place: place.to_owned(), message: error.to_string() }
}

/// The assignments of a file: its top-level keys, and every key of `[model]` and `[layer]`.
fn read_file(path: &Path) -> Result<Vec<Assignment>> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let place = |offset: usize| {
        let line = 1 + text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count();
        format!("{}:{line}", path.display())
    };
    let fail = |error: toml::de::Error| Error::Config {
        place: place(error.span().map_or(0, |span| span.start)),
        message: format!("not valid TOML: {}", first_line(error.message())),
    };
    let document = DeTable::parse(&text).map_err(fail)?;
    let values: Table = toml::from_str(&text).map_err(fail)?;
    let mut assignments = Vec::new();
    let mut add = |key: &Spanned<std::borrow::Cow<'_, str>>, path: Vec<String>| {
        if let Some(value) = lookup(&values, &path) {
            assignments.push(Assignment { value: value.clone(), path, place: place(key.span().start) });
        }
    };
    for (key, value) in document.get_ref() {
        let name = key.get_ref().to_string();
        match value.get_ref() {
            DeValue::Table(inner) if name == "model" || name == "layer" => {
                for (inner_key, _) in inner {
                    add(inner_key, vec![name.clone(), inner_key.get_ref().to_string()]);
                }
            }
            _ => add(key, vec![name]),
        }
    }
    Ok(assignments)
}
