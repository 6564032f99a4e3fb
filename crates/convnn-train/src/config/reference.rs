//! The reference of all keys: for the terminal, and as docs/configuration.md.

use super::keys::{Key, Variant, keys};
use super::value_type::{Choice, Type};
use std::fmt::Write;

/// The keys that `word` is about, or all of them, for a terminal; `None` if there are none.
pub fn text(word: Option<&str>) -> Option<String> {
    let all = keys();
    let found = word.map_or_else(|| all.joined(), |word| all.about(word));
    let mut text = String::new();
    for (key, of) in &found {
        let symbol = key.symbol().map(|symbol| format!("  ({symbol})")).unwrap_or_default();
        let of = if of.is_empty() { String::new() } else { format!("\n    Of {}.", of.join(", ")) };
        let default = if key.default.is_empty() { String::new() } else { format!(" [default: {}]", key.default) };
        // Writing to a String cannot fail.
        let _ =
            writeln!(text, "{}{symbol}\n    {}\n    {}{default}{of}", key.name, key.text, upper(&key.of.to_string()));
    }
    (!found.is_empty()).then(|| text.trim_end().to_owned())
}

/// docs/configuration.md.
pub fn markdown() -> String {
    let all = keys();
    let mut text = INTRODUCTION.to_owned();
    text += "\n## Training\n\nTop-level keys.\n\n";
    table(&mut text, &all.training);
    for variant in &all.models {
        heading(&mut text, "model", "architecture", variant);
    }
    for variant in &all.layers {
        heading(&mut text, "layer", "kind", variant);
    }
    text += "\n## Values\n\nWhat the named values mean.\n";
    for (key, of) in all.joined() {
        words(&mut text, key, &of);
    }
    text
}

fn heading(text: &mut String, table_name: &str, choice: &str, variant: &Variant) {
    let Variant { word, text: about, architecture, .. } = variant;
    let _ = write!(text, "\n## `[{table_name}]` with `{choice} = \"{word}\"`\n\n{about}");
    if table_name == "layer" {
        let _ = write!(text, " For `architecture = \"{architecture}\"`.");
    }
    text.push_str("\n\n");
    let chosen = format!("{table_name}.{choice}");
    table(text, variant.keys.iter().filter(|key| key.name != chosen));
}

fn table<'a>(text: &mut String, keys: impl IntoIterator<Item = &'a Key>) {
    *text += "| key | symbol | value | default | |\n|---|---|---|---|---|\n";
    for key in keys {
        let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
        let default = match key.default.split_once(": ") {
            Some((preset, _)) if preset == "by preset" => preset.to_owned(),
            _ => code(&key.default),
        };
        let cells = [
            code(&key.name),
            key.symbol().unwrap_or_default().to_owned(),
            key.of.to_string(),
            default,
            key.text.clone(),
        ];
        let _ = writeln!(text, "| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | "));
    }
}

/// The meaning of every word that a key may be.
fn words(text: &mut String, key: &Key, of: &[&str]) {
    let Type::Choice(choices) = &key.of else { return };
    if choices.iter().all(|choice| choice.text.is_empty()) {
        return;
    }
    let of = if of.is_empty() { String::new() } else { format!(" of `{}`", of.join("`, `")) };
    let _ = write!(text, "\n`{}`{of}:\n\n", key.name);
    for choice in choices {
        let _ = writeln!(text, "- `{choice}`{}: {}", in_toml(choice), choice.text);
    }
}

/// The form of a choice with numbers in TOML.
fn in_toml(choice: &Choice) -> String {
    let letter = |name: &str| if name.is_empty() { "NUMBER".to_owned() } else { name.to_uppercase() };
    match &choice.fields[..] {
        [] => String::new(),
        [only] if only.name.is_empty() => format!(" or `{{ {} = {} }}`", choice.word, letter("")),
        fields => {
            let fields: Vec<_> =
                fields.iter().map(|field| format!("{} = {}", field.name, letter(&field.name))).collect();
            format!(" or `{{ {} = {{ {} }} }}`", choice.word, fields.join(", "))
        }
    }
}

fn upper(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

const INTRODUCTION: &str = "\
# Configuration

<!-- Made from the types by `convnn info --keys --format markdown`; see the module `config::keys`. -->

A run is described by a TOML file: training keys at the top, then the tables `[model]` and `[layer]`. It starts from the
key `preset` or `--preset`; every other key may be left out. `convnn train --print-config` prints the resolved file,
which reproduces the run with `--config FILE`. `convnn info --keys WORD` finds a key.

```toml
preset = \"vgg11_compact\"
epochs = 20

[layer]
neighbors = 9
candidates = \"random:32\"
compare = \"blend:0.5\"
```

- `--set KEY=VALUE` changes a key; it may be repeated, and overrides the file. The last part of a key is enough if only
  one key ends with it, as in `--set neighbors=5`; so are common words, such as `lr`, `k`, `ratio` or `wd`.
- Choices that take numbers are written `random:32`, `spatial:8` or `blend:0.5`. The TOML table form also works:
  `candidates = { random = { n = 32 } }`.
- Another `architecture` or `kind` starts from its own defaults.
- configuration.schema.json, beside this file, is the JSON schema. An editor with Taplo or Even Better TOML uses it after
  the first line `#:schema PATH/configuration.schema.json`.
";
