//! Models: the files of a weights folder, by the name of their repository.
//!
//! They lie in the cache in the layout of the other hub tools: `models--OWNER--NAME/snapshots/COMMIT/FILE`, and
//! `refs/REVISION` holds the commit that a revision had when it was last resolved.

use crate::fetch::{Expected, Refusal, Size, fetch};
use crate::file::{self, Failed, save};
use crate::name::is_commit;
use crate::{Error, HubConfig, ModelId, Result, hex};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

const SUMS: &str = "SHA256SUMS";
const CONFIG: &str = "config.json";
const MODEL: &str = "model.safetensors";

/// The files in the order in which they are downloaded: the digests first, so that they hold the others, and the model
/// last, so that a snapshot with a model is complete. The model card stays on the hub: people edit it there, and its digest
/// then no longer fits.
const FILES: [&str; 3] = [SUMS, CONFIG, MODEL];

/// The most bytes of a list of files, of a file of text, and of a model.
const MOST_LIST: u64 = 16 << 20;
const MOST_TEXT: u64 = 1 << 20;
const MOST_MODEL: u64 = 16 << 30;

/// The folder of a model in the cache, with what is missing downloaded.
///
/// A full commit that is in the cache needs no connection. The SHA-256 of every file is that in `SHA256SUMS`, or else the
/// one that the hub states for large files.
///
/// # Errors
/// If the hub has no such model, if a file cannot be downloaded or is not what it should be, or if connections are disabled
/// and the cache does not hold it.
pub fn download(config: &HubConfig, id: &ModelId) -> Result<PathBuf> {
    let folder = config.cache.join(format!("models--{}", id.name().replace('/', "--")));
    let reference = folder.join("refs").join(id.revision());
    if id.is_commit() || config.offline {
        let commit = if id.is_commit() { Some(id.revision().to_owned()) } else { read_reference(&reference) };
        let snapshot = commit.map(|commit| folder.join("snapshots").join(commit));
        if let Some(snapshot) =
            snapshot.filter(|snapshot| snapshot.join(CONFIG).exists() && snapshot.join(MODEL).exists())
        {
            return Ok(snapshot);
        }
        if config.offline {
            return Err(Error::Offline { what: format!("{id} is not in the hub cache {}", config.cache.display()) });
        }
    }
    let (commit, sizes) = list(config, id)?;
    let snapshot = folder.join("snapshots").join(&commit);
    let mut sums = BTreeMap::new();
    for name in FILES {
        let Some((size, stated)) = sizes.get(name) else {
            match name {
                CONFIG | MODEL => return Err(Error::File { model: id.to_string(), file: name }),
                _ => continue,
            }
        };
        let (path, most) = (snapshot.join(name), if name == MODEL { MOST_MODEL } else { MOST_TEXT });
        if *size > most {
            let found = format!("states {size} bytes of {name}");
            return Err(answer(config, id, found, "a smaller file"));
        }
        let sha256 = sums.get(name).or(stated.as_ref()).map(String::as_str);
        let bytes = match cached(&path, *size, sha256)? {
            Some(bytes) => bytes,
            None => {
                tracing::info!("downloading {name} of {id} from {}", config.shown_endpoint());
                let at = format!("{}/resolve/{commit}/{name}", id.name());
                let expected = Expected { size: Size::Exactly(*size), sha256 };
                save(config, &at, expected, &path).map_err(|failed| match failed {
                    Failed::Download(refusal) => transfer(config, format!("downloading {name} of {id}"), refusal),
                    Failed::Write(source) => Error::Io { path: path.clone(), source },
                })?
            }
        };
        if name == SUMS {
            let lines = String::from_utf8_lossy(&bytes).into_owned();
            let pairs = lines.lines().filter_map(|line| line.split_once("  "));
            sums.extend(pairs.map(|(digest, name)| (name.to_owned(), digest.to_owned())));
        }
    }
    if read_reference(&reference).as_ref() != Some(&commit) && !id.is_commit() {
        file::write(&reference, commit.as_bytes())?;
    }
    Ok(snapshot)
}

/// Size and SHA-256, if it is stated, of every file by name.
type Sizes = BTreeMap<String, (u64, Option<String>)>;

/// The commit of a revision, and its files.
fn list(config: &HubConfig, id: &ModelId) -> Result<(String, Sizes)> {
    let path = format!("api/models/{}/revision/{}?blobs=true", id.name(), id.revision().replace('/', "%2F"));
    let expected = Expected { size: Size::AtMost(MOST_LIST), sha256: None };
    let bytes = fetch(config, &path, expected, &mut io::sink()).map_err(|refusal| match refusal.status {
        Some(401 | 404) => Error::Missing { model: id.to_string(), endpoint: config.shown_endpoint() },
        _ => transfer(config, format!("looking up {id}"), refusal),
    })?;
    let wrong = |found: &str| answer(config, id, found.to_owned(), "a commit with its files");
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| wrong("sends no JSON"))?;
    let commit = value["sha"].as_str().filter(|sha| is_commit(sha)).ok_or_else(|| wrong("states no commit"))?;
    if id.is_commit() && commit != id.revision() {
        return Err(wrong("answers with another commit"));
    }
    let mut sizes = Sizes::new();
    for file in value["siblings"].as_array().ok_or_else(|| wrong("lists no files"))? {
        if let (Some(name), Some(size)) = (file["rfilename"].as_str(), file["size"].as_u64()) {
            let sha256 = file["lfs"]["sha256"].as_str().map(str::to_owned);
            sizes.insert(name.to_owned(), (size, sha256));
        }
    }
    Ok((commit.to_owned(), sizes))
}

/// The bytes of a cached file, if they are what they should be.
fn cached(path: &Path, size: u64, sha256: Option<&str>) -> Result<Option<Vec<u8>>> {
    let file = match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.len() == size => fs::File::open(path),
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => Err(error),
    };
    let mut bytes = Vec::new();
    file.and_then(|file| file.take(size).read_to_end(&mut bytes)).map_err(Error::io(path))?;
    let is_right = sha256.is_none_or(|expected| hex(&Sha256::digest(&bytes)) == expected);
    if !is_right {
        tracing::warn!("{} is damaged; downloading it again", path.display());
    }
    Ok(is_right.then_some(bytes))
}

fn read_reference(path: &Path) -> Option<String> {
    let mut text = String::new();
    fs::File::open(path).ok()?.take(64).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned()).filter(|text| is_commit(text))
}

fn transfer(config: &HubConfig, what: String, refusal: Refusal) -> Error {
    Error::Transfer { what, endpoint: config.shown_endpoint(), reason: refusal.reason }
}

fn answer(config: &HubConfig, id: &ModelId, found: String, expected: &'static str) -> Error {
    Error::Answer { endpoint: config.shown_endpoint(), model: id.to_string(), found, expected }
}
