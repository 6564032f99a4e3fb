//! Models from a hub on this machine, and uploads to it.

#![cfg(feature = "client")]
#![allow(clippy::unwrap_used)]

mod download;
mod server;
mod upload;

use convnn_hub::HubConfig;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A client with its cache in `folder`.
fn config(endpoint: &str, folder: &Path) -> HubConfig {
    HubConfig {
        endpoint: endpoint.to_owned(),
        token: Some("secret-token".to_owned()),
        timeout: Duration::from_millis(300),
        ..HubConfig::new(folder.join("cache"))
    }
}

/// Every file below `folder`, by its path within.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()) {
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}
