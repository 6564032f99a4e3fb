//! Downloads from the Hugging Face hub: `uoft-cs/cifar10` and `uoft-cs/cifar100`, through the hub cache.
//!
//! The images are those of the official files, but in another order, so the same seed gives other batches than from a
//! folder.

use std::error::Error as _;
use std::fs;
use std::path::{Path, PathBuf};

use hf_hub::{HFClient, HFClientSync, HFError, HFRepositorySync, RepoTypeDataset};
use sha2::{Digest, Sha256};

use super::{HubConfig, parquet};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::name::DatasetName;
use crate::source::checksum::hex;

/// Retries after a failed attempt, with waits of at most 0.2, 0.4 and 0.8 s.
const RETRIES: usize = 3;

/// Opens a data set from the cache, and downloads what is missing.
pub(crate) fn open(name: DatasetName, config: &HubConfig) -> Result<Dataset> {
    let hub = Hub::new(name, config)?;
    let (train, commit) = hub.file("train")?;
    let (test, _) = hub.file("test")?;
    let train = parquet::read(name, &train, &remedy(&train))?;
    let test = parquet::read(name, &test, &remedy(&test))?;
    let origin = format!("hub dataset {} at {commit}", hub.repository.repo_path());
    Ok(Dataset::new(name, train, test, origin))
}

struct Hub<'a> {
    config: &'a HubConfig,
    repository: HFRepositorySync<RepoTypeDataset>,
    /// Folder of the parquet files inside the repository.
    folder: &'static str,
}

impl<'a> Hub<'a> {
    fn new(name: DatasetName, config: &'a HubConfig) -> Result<Self> {
        let (repository, folder) = match name {
            DatasetName::Cifar10 => ("cifar10", "plain_text"),
            DatasetName::Cifar100 => ("cifar100", "cifar100"),
        };
        let mut client =
            HFClient::builder().endpoint(&config.endpoint).cache_dir(&config.cache).retry_max_attempts(RETRIES);
        if let Some(token) = &config.token {
            client = client.token(token);
        }
        let failed = |error| failure(config, &format!("uoft-cs/{repository}"), error);
        let client: HFClientSync = client.build_sync().map_err(failed)?;
        Ok(Self { config, repository: client.dataset("uoft-cs", repository), folder })
    }

    /// The cached parquet file of a split, and its commit.
    fn file(&self, split: &str) -> Result<(PathBuf, String)> {
        let path = format!("{}/{split}-00000-of-00001.parquet", self.folder);
        let download = self.repository.download_file().filename(path.as_str());
        let file = format!("{}/{path}", self.repository.repo_path());
        let failed = |error| failure(self.config, &file, error);
        // The data sets never change, so a cached file is used without asking the hub.
        let cached = download.clone().local_files_only(true).send();
        let path = match cached {
            Ok(path) => path,
            Err(HFError::LocalEntryNotFound { .. } | HFError::EntryNotFound { .. }) => {
                if self.config.offline {
                    return Err(Error::HubOffline { file, cache: self.config.cache.clone() });
                }
                tracing::info!("downloading {file} from {}", self.config.endpoint);
                download.clone().send().map_err(failed)?
            }
            Err(error) => return Err(failed(error)),
        };
        // hf-hub 1.0 stores any response, error pages included, under the name of the file.
        let path = match check(&path) {
            Err(Error::Checksum { .. }) if !self.config.offline => {
                tracing::warn!("{} is damaged; downloading it again", path.display());
                let path = download.force_download(true).send().map_err(failed)?;
                check(&path).inspect_err(|_| discard(&path))?;
                path
            }
            checked => checked.map(|()| path)?,
        };
        let commit = commit(&path);
        Ok((path, commit))
    }
}

/// Checks the SHA-256 of a cached file, which is the name of the blob that its path in the cache links to.
///
/// Small files, whose blobs are not named by a SHA-256, and caches without links (Windows) cannot be checked.
fn check(path: &Path) -> Result<()> {
    let blob = fs::read_link(path).ok();
    let name = blob.as_deref().and_then(Path::file_name);
    let is_sum = |name: &&str| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
    let Some(expected) = name.and_then(|name| name.to_str()).filter(is_sum) else {
        return Ok(());
    };
    let found = hex(&Sha256::digest(fs::read(path).map_err(Error::io(path))?));
    if found == expected {
        return Ok(());
    }
    Err(Error::Checksum {
        file: path.to_owned(),
        algorithm: "SHA-256",
        found: found.into(),
        expected: expected.into(),
        remedy: remedy(path),
    })
}

/// How to replace a cached file: links, blobs and metadata of its repository belong together.
fn remedy(path: &Path) -> String {
    let repository = path.ancestors().nth(4).unwrap_or(path);
    format!("delete '{}' to download it again", repository.display())
}

/// Removes a damaged download from the cache, which other tools share.
fn discard(path: &Path) {
    let removed = fs::canonicalize(path).and_then(fs::remove_file).and_then(|()| fs::remove_file(path));
    if let Err(error) = removed {
        tracing::warn!("{} is damaged but could not be removed: {error}", path.display());
    }
}

/// The commit in a cache path, `<repository>/snapshots/<commit>/<folder>/<file>`.
fn commit(path: &Path) -> String {
    let folder = path.ancestors().nth(2).and_then(Path::file_name);
    folder.unwrap_or_default().to_string_lossy().into_owned()
}

/// A client error with all its causes on one line.
fn failure(config: &HubConfig, file: &str, error: HFError) -> Error {
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        // Some errors already contain their cause.
        if !reason.contains(&text) {
            reason = format!("{reason}: {text}");
        }
        cause = inner.source();
    }
    Error::Hub { file: file.to_owned(), endpoint: config.endpoint.clone(), reason, source: Box::new(error) }
}
