//! Checksums, and notes about files that have passed.

use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use md5::{Digest, Md5};

/// The MD5 sum as 32 hexadecimal digits.
pub(crate) fn md5(bytes: &[u8]) -> String {
    hex(&Md5::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A note that a file has passed its checksum, kept outside the data folder, which may be read-only.
///
/// It holds the path, size and modification time, so it is void once the file changes. A note that cannot be read
/// counts as missing; if it cannot be written, the file is checked again next time.
pub(crate) struct Note {
    path: PathBuf,
    text: String,
}

impl Note {
    /// The note about `file` in `folder`; `None` if the system does not report modification times.
    pub(crate) fn new(folder: &Path, file: &Path, metadata: &Metadata, sum: &str) -> Option<Self> {
        let file = fs::canonicalize(file).ok()?;
        let changed = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        let name = file.display().to_string();
        Some(Self {
            path: folder.join(format!("{}.checked", md5(name.as_bytes()))),
            text: format!("{sum} {} {} {name}\n", metadata.len(), changed.as_nanos()),
        })
    }

    /// Whether this unchanged file has passed before.
    pub(crate) fn exists(&self) -> bool {
        fs::read_to_string(&self.path).is_ok_and(|text| text == self.text)
    }

    /// Records that the file has passed.
    pub(crate) fn write(&self) {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let written = fs::create_dir_all(folder).and_then(|()| fs::write(&self.path, &self.text));
        if let Err(error) = written {
            tracing::warn!("{}: {error}; the checksums will be computed again next time", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn md5_is_that_of_rfc_1321() {
        assert_eq!(md5(b""), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(md5(b"message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
    }

    #[test]
    fn a_note_is_void_once_the_file_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (file, notes) = (folder.path().join("a.bin"), folder.path().join("notes/deep"));
        let note = |sum: &str| Note::new(&notes, &file, &fs::metadata(&file).unwrap(), sum).unwrap();
        fs::write(&file, b"one").unwrap();
        assert!(!note("sum").exists());
        note("sum").write();
        assert!(note("sum").exists());
        assert!(!note("other").exists(), "another sum was expected");
        fs::write(&file, b"three").unwrap();
        assert!(!note("sum").exists(), "another size");
        fs::write(&file, b"one").unwrap();
        let earlier = UNIX_EPOCH + std::time::Duration::from_secs(1);
        let handle = fs::File::options().write(true).open(&file).unwrap();
        handle.set_modified(earlier).unwrap();
        assert!(!note("sum").exists(), "another time of change");
    }

    #[test]
    fn a_note_that_cannot_be_written_is_not_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.bin");
        fs::write(&file, b"one").unwrap();
        // A file is in the place of the folder for notes.
        let note = Note::new(&file, &file, &fs::metadata(&file).unwrap(), "sum").unwrap();
        note.write();
        assert!(!note.exists());
    }
}
