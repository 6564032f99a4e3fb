//! Files of the hub: from its cache, or downloaded into it.
//!
//! The images are those of the official files, but in another order, so the same seed gives other batches than from a
//! folder. Paths in the cache are made of names in this crate only, never of what a server says.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use convnn_hub::{Expected, Failed, Size, save};
use sha2::{Digest, Sha256};

use super::files::{Pinned, Repository, published};
use super::{HubConfig, parquet};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::name::DatasetName;
use crate::source::{file, hex, quote};

/// Opens a data set from the cache, and downloads what is missing.
pub(crate) fn open(name: DatasetName, config: &HubConfig) -> Result<Dataset> {
    read(name, config, published(name).ok_or(Error::NotOnHub(name))?)
}

pub(super) fn read(name: DatasetName, config: &HubConfig, repository: &Repository) -> Result<Dataset> {
    let split = |pinned: &Pinned| {
        let path = cached_path(config, repository, pinned);
        let bytes = load(config, repository, pinned, &path)?;
        parquet::read(name, Bytes::from(bytes), &path, &remedy(&path))
    };
    let (train, test) = (split(&repository.train)?, split(&repository.test)?);
    let origin = format!("hub dataset {} at {}", repository.name, repository.revision);
    Ok(Dataset::new(name, train, test, origin))
}

/// The path of a file in the cache, where the other hub tools look for it too.
fn cached_path(config: &HubConfig, repository: &Repository, pinned: &Pinned) -> PathBuf {
    let folder = format!("datasets--{}", repository.name.replace('/', "--"));
    config.cache.join(folder).join("snapshots").join(repository.revision).join(repository.folder).join(pinned.name)
}

/// The bytes of a file, which are those that are pinned.
fn load(config: &HubConfig, repository: &Repository, pinned: &Pinned, path: &Path) -> Result<Vec<u8>> {
    let file = format!("{}/{}/{}", repository.name, repository.folder, pinned.name);
    let damage = match cached(path, pinned) {
        Ok(Some(bytes)) => return Ok(bytes),
        Ok(None) => None,
        Err(error @ (Error::Checksum { .. } | Error::NotAFile { .. })) => Some(error),
        Err(error) => return Err(error),
    };
    if config.offline {
        return Err(damage.unwrap_or_else(|| Error::HubOffline { file, cache: config.cache.clone() }));
    }
    if damage.is_some() {
        tracing::warn!("{} is damaged; downloading it again", path.display());
    }
    tracing::info!("downloading {file} from {}", config.shown_endpoint());
    let url =
        format!("datasets/{}/resolve/{}/{}/{}", repository.name, repository.revision, repository.folder, pinned.name);
    let expected = Expected { size: Size::Exactly(pinned.size), sha256: Some(pinned.sha256) };
    save(config, &url, expected, path).map_err(|failed| match failed {
        Failed::Download(refusal) => Error::Hub { file, endpoint: config.shown_endpoint(), reason: refusal.reason },
        Failed::Write(source) => Error::io(path)(source),
    })
}

/// The verified contents of the cached file, or `None` if it is not cached.
fn cached(path: &Path, pinned: &Pinned) -> Result<Option<Vec<u8>>> {
    if !path.try_exists().map_err(Error::io(path))? {
        return Ok(None);
    }
    let bytes = file::read(path, pinned.size)?;
    let found = match &bytes {
        Some(bytes) => hex(&Sha256::digest(bytes)),
        None => format!("of more than {} bytes", pinned.size),
    };
    if found == pinned.sha256 {
        return Ok(bytes);
    }
    Err(Error::Checksum {
        file: path.to_owned(),
        algorithm: "SHA-256",
        found: found.into(),
        expected: pinned.sha256.into(),
        remedy: remedy(path),
    })
}

/// How to replace a cached file.
fn remedy(path: &Path) -> String {
    format!("; delete {} to download it again", quote(path))
}
