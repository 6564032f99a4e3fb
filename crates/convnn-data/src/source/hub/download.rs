//! Files of the hub: from its cache, or downloaded into it.
//!
//! The images are those of the official files, but in another order, so the same seed gives other batches than from a
//! folder. Paths in the cache are made of names in this crate only, never of what a server says.

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::fetch::{Target, fetch};
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
    let folder = path.parent().unwrap_or(&config.cache);
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    // Until it is complete, the file has another name; if anything fails, it is removed.
    let mut aside = Aside(new_file(folder).map_err(Error::io(folder))?);
    let url =
        format!("datasets/{}/resolve/{}/{}/{}", repository.name, repository.revision, repository.folder, pinned.name);
    let failed = |reason| Error::Hub { file, endpoint: config.shown_endpoint(), reason };
    let bytes = fetch(config, &url, pinned, &mut aside).map_err(failed)?;
    let sync = aside.0.as_file().sync_all();
    sync.and_then(|()| aside.0.persist(path).map_err(|error| error.error)).map_err(Error::io(path))?;
    // The name may be lost in a power failure until the folder is synced, which not all file systems can do.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(bytes)
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

/// A new file in `folder` that others may read as far as the user's mask allows.
fn new_file(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".").suffix(".part");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// A download that is not complete.
struct Aside(NamedTempFile);

impl Write for Aside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Target for Aside {
    fn clear(&mut self) -> io::Result<()> {
        self.0.as_file().set_len(0)?;
        self.0.rewind()
    }
}
