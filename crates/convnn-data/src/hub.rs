//! The Hugging Face hub as a source: `uoft-cs/cifar10` and `uoft-cs/cifar100`, kept in the hub cache.
//!
//! The images are those of the official files, in the order of the parquet files, which is another one; the same
//! seed therefore draws other batches than from a folder.

use std::error::Error as _;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use hf_hub::{HFClient, HFClientSync, HFError, HFRepositorySync, RepoTypeDataset};
use sha2::{Digest, Sha256};

use crate::checksum::hex;
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::name::DatasetName;
use crate::parquet_file;

/// How to reach the hub.
#[derive(Clone, PartialEq, Eq)]
pub struct HubConfig {
    /// Address of the hub or of a mirror.
    pub endpoint: String,
    /// Folder of the hub cache, in the layout that all tools of the hub share.
    pub cache: PathBuf,
    /// Take files from the cache only.
    pub offline: bool,
    /// Access token; without one the hub client looks for the user's own. The two data sets need none.
    pub token: Option<String>,
}

impl HubConfig {
    /// The public hub, with its cache in `cache`.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self { endpoint: "https://huggingface.co".to_owned(), cache: cache.into(), offline: false, token: None }
    }
}

impl fmt::Debug for HubConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubConfig")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("offline", &self.offline)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .finish()
    }
}

/// Attempts after a failed one, with a wait of at most 0.2, 0.4 and 0.8 s before them.
const RETRIES: usize = 3;

/// Opens a data set from the cache, or fetches what is not there.
pub(crate) fn open(name: DatasetName, config: &HubConfig) -> Result<Dataset> {
    let hub = Hub::new(name, config)?;
    let (train, commit) = hub.file("train")?;
    let (test, _) = hub.file("test")?;
    let train = parquet_file::read(name, &train, &remedy(&train))?;
    let test = parquet_file::read(name, &test, &remedy(&test))?;
    let origin = format!("hub dataset {} at {commit}", hub.repository.repo_path());
    Ok(Dataset::new(name, train, test, origin))
}

struct Hub<'a> {
    config: &'a HubConfig,
    repository: HFRepositorySync<RepoTypeDataset>,
    /// Folder of the parquet files in the repository.
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

    /// The parquet file of a split in the cache, and the commit it belongs to.
    fn file(&self, split: &str) -> Result<(PathBuf, String)> {
        let path = format!("{}/{split}-00000-of-00001.parquet", self.folder);
        let download = self.repository.download_file().filename(path.as_str());
        let file = format!("{}/{path}", self.repository.repo_path());
        let failed = |error| failure(self.config, &file, error);
        // The data sets never change, so a file in the cache is taken without asking the hub.
        let cached = download.clone().local_files_only(true).send();
        let path = match cached {
            Ok(path) => path,
            Err(HFError::LocalEntryNotFound { .. } | HFError::EntryNotFound { .. }) => {
                if self.config.offline {
                    return Err(Error::HubOffline { file, cache: self.config.cache.clone() });
                }
                tracing::info!("fetching {file} from {}", self.config.endpoint);
                download.clone().send().map_err(failed)?
            }
            Err(error) => return Err(failed(error)),
        };
        // hf-hub 1.0 stores whatever a server answers, error pages included, under the name of the right file.
        let path = match check(&path) {
            Err(Error::Checksum { .. }) if !self.config.offline => {
                tracing::warn!("{} is damaged and fetched again", path.display());
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

/// Compares a cached file with its SHA-256, which is the name of the blob that the path in the cache links to.
///
/// Where the name is no SHA-256 (small files) or there are no links (Windows) there is nothing to compare with.
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

/// How to get a file of the cache once more: links, blobs and notes of its repository belong together.
fn remedy(path: &Path) -> String {
    let repository = path.ancestors().nth(4).unwrap_or(path);
    format!("remove '{}' to have it fetched again", repository.display())
}

/// Takes a damaged download out of the cache, which other tools share.
fn discard(path: &Path) {
    let removed = fs::canonicalize(path).and_then(fs::remove_file).and_then(|()| fs::remove_file(path));
    if let Err(error) = removed {
        tracing::warn!("{} is damaged and could not be removed: {error}", path.display());
    }
}

/// The commit in a path of the cache, `<repository>/snapshots/<commit>/<folder>/<file>`.
fn commit(path: &Path) -> String {
    let folder = path.ancestors().nth(2).and_then(Path::file_name);
    folder.unwrap_or_default().to_string_lossy().into_owned()
}

/// An error of the client with all its causes in one line.
fn failure(config: &HubConfig, file: &str, error: HFError) -> Error {
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        // Some errors repeat their cause.
        if !reason.contains(&text) {
            reason = format!("{reason}: {text}");
        }
        cause = inner.source();
    }
    Error::Hub { file: file.to_owned(), endpoint: config.endpoint.clone(), reason, source: Box::new(error) }
}
