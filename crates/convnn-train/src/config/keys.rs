//! Every key of a configuration, with its type, range, default and text.
//!
//! All of it comes from the types. To add a key, add a field to [`RunConfig`], or to the options of a
//! model or layer, with
//! - a doc comment, whose first paragraph is the text in messages and in the reference;
//! - the range of a number: `#[schemars(range(min = 1, max = 100))]`, or
//!   `#[schemars(extend("exclusiveMinimum" = 0.0, "maximum" = 1.0))]` if a bound is excluded. It is checked wherever the
//!   key is set. An `Option` that is written `none` in TOML has
//!   `#[serde(with = "none_or")] #[schemars(with = "f64", extend("x-none" = true, …))]`;
//! - `#[serde(default)]` if configurations without it are to be read.
//!
//! New enums derive `JsonSchema`. A symbol and common words for the key go into the module `words`. Then write the
//! reference again: `cargo run -p convnn-train -- info --keys --format markdown > docs/configuration.md` and the same
//! with `--format schema > docs/configuration.schema.json`.

use super::RunConfig;
use super::schema;
use super::value_type::{Choice, Type, resolve};
use super::words::{self, Word};
use serde_json::{Map, Value as Json};
use std::sync::LazyLock;

/// A key of a configuration.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its dotted name, such as `layer.neighbors`.
    pub name: String,
    /// What it is, in one sentence.
    pub text: String,
    /// Its type and range.
    pub of: Type,
    /// Its default in TOML; for a training key, the values of the presets.
    pub default: String,
}

impl Key {
    /// The name after the last dot.
    pub fn last(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }

    /// Its symbol in the specification.
    pub fn symbol(&self) -> Option<&'static str> {
        words::symbol(&self.name)
    }
}

/// The keys of `[model]` or `[layer]` for one architecture or kind.
#[derive(Clone, Debug)]
pub struct Variant {
    /// The architecture, or the kind.
    pub word: String,
    /// What it is.
    pub text: String,
    /// The architecture that it belongs to.
    pub architecture: String,
    /// Its keys.
    pub keys: Vec<Key>,
}

/// All keys.
#[derive(Debug)]
pub struct Keys {
    /// The keys outside of tables.
    pub training: Vec<Key>,
    /// The architectures of `[model]`.
    pub models: Vec<Variant>,
    /// The kinds of `[layer]`.
    pub layers: Vec<Variant>,
}

/// All keys.
pub fn keys() -> &'static Keys {
    static KEYS: LazyLock<Keys> = LazyLock::new(Keys::read);
    &KEYS
}

impl Keys {
    fn read() -> Self {
        let schema = schema::raw();
        let none = Map::new();
        let definitions = schema["$defs"].as_object().unwrap_or(&none);
        let all = schema["properties"].as_object().unwrap_or(&none);
        let model = resolve(&all["model"], definitions);
        let models = variants(model, "model", "architecture", None, definitions);
        let layers = all["layer"]["anyOf"].as_array().into_iter().flatten().zip(&models).flat_map(|(layer, model)| {
            variants(resolve(layer, definitions), "layer", "kind", Some(&model.word), definitions)
        });
        let layers = layers.collect();
        let defaults = defaults_of_presets();
        let training = all
            .iter()
            .filter(|(name, _)| *name != "model" && *name != "layer")
            .map(|(name, schema)| Key { default: defaults(name), ..key(name.clone(), schema, definitions) });
        Self { training: training.collect(), models, layers }
    }

    /// Every key with the architectures or kinds that have it; equal ones are joined.
    pub fn joined(&self) -> Vec<(&Key, Vec<&str>)> {
        let mut joined: Vec<(&Key, Vec<&str>)> = self.training.iter().map(|key| (key, Vec::new())).collect();
        for variant in self.models.iter().chain(&self.layers) {
            for key in &variant.keys {
                let same = |(other, _): &&mut (&Key, Vec<&str>)| {
                    other.name == key.name
                        && other.text == key.text
                        && other.of == key.of
                        && other.default == key.default
                };
                match joined.iter_mut().find(same) {
                    Some((_, of)) => of.push(&variant.word),
                    None => joined.push((key, vec![&variant.word])),
                }
            }
        }
        joined
    }

    /// The joined keys that `word` is about: by name, symbol, common word, or a word of the text.
    pub fn about(&self, word: &str) -> Vec<(&Key, Vec<&str>)> {
        let lower = word.to_lowercase();
        let meant: Vec<&str> = words::meanings(word).map(|Word { key, .. }| *key).collect();
        let all = self.joined();
        let named = |key: &Key| match meant.is_empty() {
            true => key.name.contains(&lower),
            false => meant.contains(&key.name.as_str()) || key.last() == lower,
        };
        match all.iter().any(|(key, _)| named(key)) {
            true => all.into_iter().filter(|(key, _)| named(key)).collect(),
            false => all.into_iter().filter(|(key, _)| key.text.to_lowercase().contains(&lower)).collect(),
        }
    }
}

/// The variants of a table; `choice` is the key that tells them apart.
fn variants(
    schema: &Json,
    table: &str,
    choice: &str,
    architecture: Option<&str>,
    definitions: &Map<String, Json>,
) -> Vec<Variant> {
    let options: Vec<&Json> = match schema["oneOf"].as_array() {
        Some(options) => options.iter().collect(),
        None => vec![schema],
    };
    let word = |schema: &Json| schema["properties"][choice]["const"].as_str().unwrap_or_default().to_owned();
    let text = |schema: &Json| sentence(schema["description"].as_str().unwrap_or_default());
    let choices =
        options.iter().map(|schema| Choice { word: word(schema), text: text(schema), fields: Vec::new() }).collect();
    let chooses = Key {
        name: format!("{table}.{choice}"),
        text: match table {
            "model" => "The architecture, which decides the other keys of `[model]` and the kinds of `[layer]`.",
            _ => "The layer under test, which decides the other keys of `[layer]`.",
        }
        .to_owned(),
        of: Type::Choice(choices),
        default: "by preset".to_owned(),
    };
    let keys = |schema: &Json| {
        let properties = schema["properties"].as_object().into_iter().flatten();
        let own = properties
            .filter(|(name, _)| *name != choice)
            .map(|(name, schema)| key(format!("{table}.{name}"), schema, definitions));
        std::iter::once(chooses.clone()).chain(own).collect()
    };
    let variant = |schema: &&Json| Variant {
        word: word(schema),
        text: text(schema),
        architecture: architecture.map_or_else(|| word(schema), str::to_owned),
        keys: keys(schema),
    };
    options.iter().map(variant).collect()
}

fn key(name: String, schema: &Json, definitions: &Map<String, Json>) -> Key {
    let text = schema["description"].as_str().or_else(|| resolve(schema, definitions)["description"].as_str());
    let default = match &schema["default"] {
        Json::Null => String::new(),
        default => toml_text(default),
    };
    Key { text: sentence(text.unwrap_or_default()), of: Type::read(schema, definitions), default, name }
}

/// The first paragraph of a doc comment, as one line.
pub(super) fn sentence(text: &str) -> String {
    text.split("\n\n").next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The values of a training key in the presets: one, or `by preset` with all of them.
fn defaults_of_presets() -> impl Fn(&str) -> String {
    let presets = convnn_models::presets().iter().filter_map(|preset| RunConfig::from_preset(preset.name).ok());
    let tables: Vec<_> = presets.filter_map(|config| super::document::to_table(&config).ok()).collect();
    move |name| {
        if name == "preset" {
            return String::new();
        }
        let mut values: Vec<String> = tables.iter().filter_map(|table| Some(table.get(name)?.to_string())).collect();
        values.sort();
        values.dedup();
        match &values[..] {
            [one] => one.clone(),
            all => format!("by preset: {}", all.join(" or ")),
        }
    }
}

fn toml_text(value: &Json) -> String {
    toml::Value::try_from(value).map_or_else(|_| value.to_string(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seed is any number that TOML can hold.
    const UNBOUNDED: [&str; 1] = ["seed"];

    #[test]
    fn every_key_has_a_text_and_every_number_a_range() {
        let all = keys().joined();
        assert!(all.len() > 40, "only {} keys", all.len());
        for (key, of) in all {
            assert!(!key.text.is_empty() && key.text.ends_with('.'), "`{}` of {of:?}: {:?}", key.name, key.text);
            assert!(key.of.is_bounded() || UNBOUNDED.contains(&&*key.name), "`{}` of {of:?} needs a range", key.name);
            // The steps of augmentation have their own options, which convnn-data checks.
            let is_known = !matches!(key.of, Type::Other(_)) || key.name == "augmentation";
            assert!(is_known, "`{}` of {of:?} has a schema that `Type` does not know", key.name);
        }
    }

    #[test]
    fn keys_are_found_by_name_symbol_word_and_text() {
        let names = |word| keys().about(word).into_iter().map(|(key, _)| key.name.clone()).collect::<Vec<_>>();
        for word in ["neighbors", "K", "k"] {
            assert!(names(word).contains(&"layer.neighbors".to_owned()), "{word}: {:?}", names(word));
        }
        assert!(names("K").iter().all(|name| name == "layer.neighbors"), "{:?}", names("K"));
        assert_eq!(names("lr"), ["learning_rate"]);
        assert_eq!(names("λ")[0], "layer.compare");
        assert!(!names("padding").is_empty() && names("xyzzy").is_empty());
    }
}
