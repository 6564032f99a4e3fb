//! `convnn info --keys`.

use super::output::print;
use convnn_train::config::{reference, schema};
use convnn_train::{Error, Result};

/// How the keys are printed.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
pub enum Format {
    /// For the terminal
    #[default]
    Text,
    /// docs/configuration.md
    Markdown,
    /// docs/configuration.schema.json, a JSON schema for editors
    Schema,
}

/// Prints the keys that match `word`; all of them if it is empty.
pub fn run(word: &str, format: Format) -> Result<()> {
    let text = match format {
        Format::Text => reference::text(Some(word).filter(|word| !word.is_empty())),
        Format::Markdown => Some(reference::markdown().trim_end().to_owned()),
        Format::Schema => Some(format!("{:#}", schema::document())),
    };
    let Some(text) = text else {
        let expected = "a part of a key, a symbol or a word; `convnn info --keys` lists all keys".to_owned();
        return Err(Error::Value { key: "--keys".to_owned(), found: word.to_owned(), expected });
    };
    print(&text)
}
