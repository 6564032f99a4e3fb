//! The Hugging Face hub: weights by name, and weights folders published. Both need the feature `hub`.

use crate::{Error, Result};
use convnn_data::Search;
use convnn_hub::HubConfig;
use convnn_models::digests::{Digests, SUMS_FILE};
use convnn_models::files::read_regular;
use convnn_models::weights::{CONFIG_FILE, MODEL_FILE};
use std::path::{Path, PathBuf};

/// What names of models on the hub begin with, where a folder is expected otherwise.
pub const PREFIX: &str = "hub:";

/// How the environment says the hub is to be reached.
///
/// # Errors
/// If it names no cache folder.
pub fn config() -> Result<HubConfig> {
    Ok(Search::new(None, |name: &str| std::env::var_os(name)).hub.ok_or(convnn_data::Error::NoHubCache)?)
}

/// The folder of the model `OWNER/NAME[@REVISION]` in the cache, downloaded if necessary.
///
/// # Errors
/// If it cannot be downloaded, or the program was built without the feature `hub`.
pub fn folder(name: &str) -> Result<PathBuf> {
    let id = name.parse()?;
    download(&config()?, &id)
}

/// A weights folder to be published.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// The folder, with `SHA256SUMS`.
    pub folder: &'a Path,
    /// The name of the model on the hub, `OWNER/NAME`.
    pub name: &'a str,
    /// The branch.
    pub branch: &'a str,
    /// Whether a model that does not exist yet is to be private.
    pub private: bool,
}

impl Publication<'_> {
    /// Uploads every file that `SHA256SUMS` lists, and it; returns the URL of the commit.
    ///
    /// # Errors
    /// If a file is missing or has changed, if the hub rejects it, or the program was built without the feature `hub`.
    pub fn upload(&self, config: &HubConfig) -> Result<String> {
        let id = self.name.parse::<convnn_hub::ModelId>()?;
        if self.name.contains('@') {
            let expected = "OWNER/NAME, and the branch with --revision".to_owned();
            return Err(Error::Value { key: "OWNER/NAME".to_owned(), found: self.name.to_owned(), expected });
        }
        let id = id.at(self.branch)?;
        upload(config, &id, self.private, &self.files()?)
    }

    /// The files by name, checked.
    fn files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let wrong = |found: String| Error::Folder {
            folder: self.folder.to_owned(),
            found,
            expected: "a weights folder that `convnn export` made".to_owned(),
        };
        let sums = Digests::read(self.folder)?.ok_or_else(|| wrong(format!("holds no {SUMS_FILE}")))?;
        for name in [CONFIG_FILE, MODEL_FILE] {
            sums.get(name).ok_or_else(|| wrong(format!("lists no {name} in {SUMS_FILE}")))?;
        }
        let read = |name: &str| {
            let path = self.folder.join(name);
            let bytes = read_regular(&path, u64::MAX).map_err(Error::io("read", &path))?;
            Ok::<_, Error>((name.to_owned(), bytes))
        };
        let mut files = Vec::new();
        for name in sums.names() {
            if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\']) {
                return Err(wrong(format!("lists `{name}` in {SUMS_FILE}, which is not a file of the folder")));
            }
            let (name, bytes) = read(name)?;
            sums.check(self.folder, &name, &bytes)?;
            files.push((name, bytes));
        }
        files.push(read(SUMS_FILE)?);
        Ok(files)
    }
}

#[cfg(feature = "hub")]
fn download(config: &HubConfig, id: &convnn_hub::ModelId) -> Result<PathBuf> {
    Ok(convnn_hub::download(config, id)?)
}

#[cfg(feature = "hub")]
fn upload(config: &HubConfig, id: &convnn_hub::ModelId, private: bool, files: &[(String, Vec<u8>)]) -> Result<String> {
    let summary = format!("Weights, exported by convnn {}", env!("CARGO_PKG_VERSION"));
    Ok(convnn_hub::push(config, &convnn_hub::Push { id, private, files, summary: &summary })?)
}

#[cfg(not(feature = "hub"))]
fn download(_: &HubConfig, _: &convnn_hub::ModelId) -> Result<PathBuf> {
    Err(convnn_data::Error::NoHub.into())
}

#[cfg(not(feature = "hub"))]
fn upload(_: &HubConfig, _: &convnn_hub::ModelId, _: bool, _: &[(String, Vec<u8>)]) -> Result<String> {
    Err(convnn_data::Error::NoHub.into())
}
