//! Reading and writing files, with errors that name the path.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;

/// The text of a file.
pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", shown(path)))
}

/// The contents of a TOML file.
pub fn read_toml<T: DeserializeOwned>(path: &Path) -> Result<T> {
    toml::from_str(&read(path)?).with_context(|| shown(path))
}

/// The contents of a JSON file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_str(&read(path)?).with_context(|| shown(path))
}

/// The contents of a file with one JSON value per line.
pub fn read_json_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = read(path)?;
    let values: serde_json::Result<_> = text.lines().map(serde_json::from_str).collect();
    values.with_context(|| shown(path))
}

/// Writes a file, and the folder that holds it. The file is replaced as a whole or not at all.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let unfinished = path.with_file_name(name);
    let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
    let written = folder.and_then(|()| fs::write(&unfinished, text)).and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        // What failed is the error to report, not this.
        let _ = fs::remove_file(&unfinished);
    }
    written.with_context(|| format!("cannot write {}", shown(path)))
}

/// The files in `folder` whose names end in `.{extension}`, sorted by name.
pub fn list(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", shown(folder)))? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// `path` as a reader would type it: relative to the current folder if it lies below it.
pub fn shown(path: &Path) -> String {
    let current = env::current_dir().unwrap_or_default();
    path.strip_prefix(&current).unwrap_or(path).display().to_string()
}
