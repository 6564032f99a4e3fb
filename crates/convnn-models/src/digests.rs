//! `SHA256SUMS`: the SHA-256 of every file of a folder, in the format of the command `sha256sum`.

use crate::files::read_regular;
use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;

/// The name of the file; `sha256sum --check SHA256SUMS` checks the folder.
pub const SUMS_FILE: &str = "SHA256SUMS";

/// SHA-256 in lower-case hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SHA-256 of files, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digests(BTreeMap<String, String>);

impl Digests {
    /// The digests of `files`: names and contents.
    pub fn of<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        Self(files.into_iter().map(|(name, bytes)| (name.to_owned(), sha256(bytes))).collect())
    }

    /// Reads the digests of `folder`; `None` if it has no `SHA256SUMS`, as folders that other tools wrote.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(SUMS_FILE);
        match std::fs::symlink_metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            _ => {}
        }
        let bytes = read_regular(&path, 1 << 20).map_err(|source| Error::Io { path: path.clone(), source })?;
        let damaged = |reason: String| Error::Damaged { path: path.clone(), reason };
        let text = String::from_utf8(bytes).map_err(|_| damaged("not text".to_owned()))?;
        let mut digests = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let (digest, name) = line
                .split_once("  ")
                .ok_or_else(|| damaged(format!("line {number} is not a digest, two spaces and a name")))?;
            digests.insert(name.to_owned(), digest.to_owned());
        }
        Ok(Some(Self(digests)))
    }

    /// The names of the files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The digest of the file `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Fails with [`Error::Damaged`] unless `bytes` are those of the file `name` in `folder` when it was written.
    pub fn check(&self, folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
        let found = sha256(bytes);
        let reason = match self.get(name) {
            Some(expected) if expected == found => return Ok(()),
            Some(expected) => {
                format!("the file has changed since it was written: its SHA-256 is {found}; expected {expected}")
            }
            None => format!("it is not listed in {SUMS_FILE}; the folder is damaged"),
        };
        Err(Error::Damaged { path: folder.join(name), reason })
    }

    /// The text of the file.
    pub fn text(&self) -> String {
        self.0.iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect()
    }
}
