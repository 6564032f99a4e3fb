//! Resolving a configuration: a preset, then a file, then overrides; an error names the place of the key.

use super::RunConfig;
use super::document::{first_line, from_table, insert, lookup, to_table};
use super::file::read_file;
use super::keys::{Key, keys};
use super::nearest::nearest;
use super::words::{self, Word};
use crate::{Error, Result};
use convnn_data::{Augmentation, DatasetName, picture_classes};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use toml::{Table, Value};

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

/// The most names in a dotted key.
const MOST_NAMES: usize = 5;

/// A key with its value, and where they come from.
#[derive(Clone, Debug)]
pub struct Assignment {
    pub(super) path: Vec<String>,
    pub(super) value: Value,
    pub(super) place: String,
    /// Whether the last part of a key, or a common word for it, is enough.
    pub(super) loose: bool,
}

impl Assignment {
    /// The assignment of a top-level key by an argument such as `--epochs 3`, which is given as `place`.
    pub fn new(key: &str, value: impl Into<Value>, place: String) -> Self {
        Self { path: vec![key.to_owned()], value: value.into(), place, loose: false }
    }

    /// Parses `key=value`. A value that is not TOML is taken as a string.
    ///
    /// The key may be the last part of a name, such as `neighbors`, or a common word, such as `lr`.
    ///
    /// # Errors
    /// If there is no `=`, or no key before it.
    pub fn parse(text: &str) -> Result<Self> {
        let place = format!("--set {}", shorten(text));
        let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.trim().is_empty()) else {
            let message = "expected key=value, as in --set layer.neighbors=9".to_owned();
            return Err(Error::Config { place, message });
        };
        let path: Vec<String> = key.trim().split('.').take(MOST_NAMES + 1).map(|name| name.trim().to_owned()).collect();
        if path.len() > MOST_NAMES {
            let message = format!("expected a key of at most {MOST_NAMES} names; `convnn info --keys` lists all");
            return Err(Error::Config { place, message });
        }
        let parsed = format!("value = {value}").parse::<Table>().ok().filter(|table| table.len() == 1);
        let parsed = parsed.and_then(|mut table| table.remove("value"));
        Ok(Self { path, value: parsed.unwrap_or_else(|| Value::String(value.to_owned())), place, loose: true })
    }

    fn is(&self, table: &str, name: &str) -> bool {
        self.path == [table, name] || self.loose && self.path == [name]
    }

    /// Whether it decides which other keys exist, and must be applied first; the architecture comes before the kind.
    fn rank(&self) -> u8 {
        match self {
            _ if self.is("model", "architecture") => 0,
            _ if self.is("layer", "kind") => 1,
            _ => 2,
        }
    }

    /// The assignments of the keys in a table `[model]` or `[layer]`.
    fn flatten(self) -> Vec<Self> {
        match (&self.path[..], &self.value) {
            ([table], Value::Table(inner)) if is_table(table) => inner
                .iter()
                .map(|(name, value)| Self {
                    path: vec![table.clone(), name.clone()],
                    value: value.clone(),
                    ..self.clone()
                })
                .collect(),
            _ => vec![self],
        }
    }

    fn fail(&self, message: String) -> Error {
        Error::Config { place: self.place.clone(), message }
    }
}

impl Sources<'_> {
    /// Resolves and validates the configuration.
    ///
    /// # Errors
    /// One line with the place, `FILE:LINE:COLUMN` or the argument, of the first key that is unknown or has an unusable
    /// value.
    pub fn resolve(&self) -> Result<RunConfig> {
        Ok(self.resolve_with_keys()?.0)
    }

    /// [`Self::resolve`], with the names of the keys that the file and the overrides set.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn resolve_with_keys(&self) -> Result<(RunConfig, BTreeSet<String>)> {
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
        for source in [in_file, self.overrides.clone()] {
            let mut source: Vec<_> = source.into_iter().flat_map(Assignment::flatten).collect();
            source.retain(|one| one.path != ["preset"]);
            source.sort_by_key(Assignment::rank);
            for assignment in source {
                resolving.apply(assignment)?;
            }
        }
        let set = resolving.places.keys().cloned().collect();
        Ok((resolving.finish()?, set))
    }
}

/// A partly resolved document, with the places of the values that do not come from the preset.
struct Resolving {
    table: Table,
    places: BTreeMap<String, String>,
}

impl Resolving {
    fn apply(&mut self, mut assignment: Assignment) -> Result<()> {
        let written = assignment.path.join(".");
        self.complete(&mut assignment)?;
        if let [table] = &assignment.path[..]
            && is_table(table)
        {
            return Err(assignment.fail(format!("`{table}` is {}; expected a table of keys", assignment.value)));
        }
        let path = key_part(&assignment.path).to_vec();
        let name = path.join(".");
        let key = self.keys().find(|key| key.name == name).ok_or_else(|| self.unknown(&assignment))?;
        let value = self.value(key, &assignment)?;
        if written != assignment.path.join(".") {
            tracing::info!("{}: {name} = {value}", assignment.place);
        }
        match &path[..] {
            // Another kind starts from its own defaults, another architecture from a layer that fits it.
            [table, choice] if choice == "kind" || choice == "architecture" => {
                if lookup(&self.table, &path) != Some(&value) {
                    if table == "model" {
                        let kind = keys().layers.iter().find(|layer| Some(&*layer.architecture) == value.as_str());
                        let kind = kind.map_or("", |layer| default_kind(&layer.architecture));
                        reset(&mut self.table, "layer", "kind", Value::String(kind.to_owned()));
                    }
                    reset(&mut self.table, table, choice, value);
                }
            }
            _ => insert(&mut self.table, &path, value),
        }
        self.places.insert(name, assignment.place);
        Ok(())
    }

    /// The keys of the present architecture and kind.
    fn keys(&self) -> impl Iterator<Item = &'static Key> + use<> {
        let [architecture, kind] = [("model", "architecture"), ("layer", "kind")].map(|(table, name)| {
            let path = [table.to_owned(), name.to_owned()];
            lookup(&self.table, &path).and_then(Value::as_str).unwrap_or_default().to_owned()
        });
        let all = keys();
        let of = |variants: &'static [super::keys::Variant], word: String| {
            variants.iter().filter(move |variant| variant.word == word).flat_map(|variant| &variant.keys)
        };
        all.training.iter().chain(of(&all.models, architecture)).chain(of(&all.layers, kind))
    }

    /// Replaces the last part of a key, or a word for it, by the name of the key.
    fn complete(&self, assignment: &mut Assignment) -> Result<()> {
        let head = assignment.path[0].clone();
        if !assignment.loose || is_table(&head) || self.keys().any(|key| key.name == head) {
            return Ok(());
        }
        let mut found: Vec<(String, &str)> =
            self.keys().filter(|key| key.last() == head).map(|key| (key.name.clone(), "")).collect();
        if found.is_empty() {
            found = words::meanings(&head).map(|Word { key, before, .. }| ((*key).to_owned(), *before)).collect();
        }
        match &found[..] {
            [] => Ok(()),
            [(name, before)] => {
                assignment.path.splice(..1, name.split('.').map(str::to_owned));
                if !before.is_empty() && !assignment.value.is_str() {
                    assignment.value = Value::String(format!("{before}{}", assignment.value));
                }
                Ok(())
            }
            several => {
                let names: Vec<_> = several.iter().map(|(name, _)| format!("`{name}`")).collect();
                Err(assignment.fail(format!("`{head}` may be {}; write one of them", names.join(" or "))))
            }
        }
    }

    /// The value that `key` gets, in the form that Serde reads.
    fn value(&self, key: &Key, assignment: &Assignment) -> Result<Value> {
        let path = key_part(&assignment.path);
        let below = &assignment.path[path.len()..];
        // `layer.candidates.random.n` may change a number or choose another kind of candidates.
        let within = |start: Table| {
            let mut table = start;
            insert(&mut table, below, assignment.value.clone());
            Value::Table(table)
        };
        let mut trials = match below {
            [] => vec![assignment.value.clone()],
            _ => vec![within(Table::new())],
        };
        if let Some(Value::Table(present)) = lookup(&self.table, path).filter(|_| !below.is_empty()) {
            trials.insert(0, within(present.clone()));
        }
        let mut result = Err(String::new());
        for trial in trials {
            let checked = key.of.check(&trial).map_err(|wrong| {
                let name: Vec<&str> =
                    std::iter::once(&*key.name).chain(wrong.within.iter().map(String::as_str)).collect();
                format!("`{}` is {}; expected {}", name.join("."), wrong.found, wrong.expected)
            });
            if checked.is_ok() {
                return checked.map_err(|message| assignment.fail(message));
            }
            result = checked;
        }
        result.map_err(|message| assignment.fail(message))
    }

    fn unknown(&self, assignment: &Assignment) -> Error {
        let name = assignment.path.join(".");
        let part = key_part(&assignment.path).join(".");
        let all = keys();
        let is_meant = |key: &&Key| key.name == part || assignment.loose && key.last() == part;
        let variants = || all.models.iter().chain(&all.layers);
        if let Some(key) = variants().flat_map(|variant| &variant.keys).find(is_meant) {
            let part = &key.name;
            let of = variants().filter(|variant| variant.keys.iter().any(|key| key.name == *part));
            let of: Vec<_> = of.map(|variant| format!("`{}`", variant.word)).collect();
            let choice = if part.starts_with("model.") { ["model", "architecture"] } else { ["layer", "kind"] };
            let path = choice.map(str::to_owned);
            let present = lookup(&self.table, &path).map(Value::to_string).unwrap_or_default();
            let message = format!("`{part}` is a key of {}, but `{}` is {present}", of.join(", "), choice.join("."));
            return assignment.fail(message);
        }
        let last = assignment.path.last().map_or("", String::as_str);
        if let Some(Word { key, before, .. }) = words::meanings(last).next() {
            let form = if before.is_empty() { String::new() } else { format!(" = \"{before}{}\"", assignment.value) };
            return assignment.fail(format!("unknown key `{name}`; use `{key}{form}`"));
        }
        let known: Vec<_> = self.keys().map(|key| key.name.clone()).collect();
        assignment.fail(format!("unknown key `{name}`; the nearest known key is `{}`", nearest(&name, &known)))
    }

    fn finish(self) -> Result<RunConfig> {
        // The one key whose values the types of the keys do not describe.
        let augmentation = self.table.get("augmentation").map(|value| value.clone().try_into::<Augmentation>());
        if let (Some(Err(error)), Some(place)) = (augmentation, place_of(&self.places, "augmentation")) {
            let message = format!("`augmentation`: {}", first_line(error.message()));
            return Err(Error::Config { place: place.clone(), message });
        }
        let mut config = from_table(self.table)
            .map_err(|message| Error::Config { place: "resolved configuration".to_owned(), message })?;
        let pictures = config.has_folder().then(|| picture_classes(Path::new(&config.data))).flatten();
        if pictures.is_some() && !self.places.contains_key("dataset") {
            config.dataset = DatasetName::Folder;
        }
        if !self.places.contains_key("model.classes") {
            // A folder that cannot be listed has an error of its own once it is opened.
            let folder = pictures.filter(|&classes| classes > 0 && config.dataset == DatasetName::Folder);
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
    let depth = if is_table(&path[0]) { 2 } else { 1 };
    &path[..depth.min(path.len())]
}

fn is_table(name: &str) -> bool {
    name == "model" || name == "layer"
}

/// The kind that another architecture starts with.
fn default_kind(architecture: &str) -> &'static str {
    match architecture {
        "vgg" => "branching_2d",
        _ => "conv_nn_attention",
    }
}

/// Makes `name` the only key of a table.
fn reset(document: &mut Table, table: &str, name: &str, value: Value) {
    document.insert(table.to_owned(), Value::Table(Table::from_iter([(name.to_owned(), value)])));
}

/// The key whose value is at fault.
fn error_key(error: &Error) -> Option<String> {
    match error {
        Error::Value { key, .. } => Some(key.clone()),
        Error::Models(error) => error.key(),
        _ => None,
    }
}

/// The place of `key`, of a key within its value, or of the key that it is within.
fn place_of<'a>(places: &'a BTreeMap<String, String>, key: &str) -> Option<&'a String> {
    let is_within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    places.iter().find_map(|(other, place)| (is_within(other, key) || is_within(key, other)).then_some(place))
}

fn at_place(place: &str, error: &Error) -> Error {
    Error::Config { place: place.to_owned(), message: error.to_string() }
}

/// The beginning of an argument.
fn shorten(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
