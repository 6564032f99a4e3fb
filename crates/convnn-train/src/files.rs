//! Durable files: written aside, synced, renamed, so that they are complete or absent.

use crate::{Error, Result};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Writes `bytes` to `path` so that readers find either the old file or the new one, even after a power failure.
///
/// # Errors
/// If the folder cannot be written; the old file is then unchanged.
pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let aside = aside(path);
    let written = File::create(&aside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&aside, path));
    if let Err(error) = written {
        // The first error is the one to report; a leftover is overwritten by the next write.
        let _ = fs::remove_file(&aside);
        return Err(Error::io("write", path)(error));
    }
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// Makes the names in `folder` durable.
///
/// # Errors
/// If the folder cannot be opened or synced.
pub fn sync_directory(folder: &Path) -> Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder).and_then(|file| file.sync_all()).map_err(Error::io("sync", folder))
}

/// The hidden file beside `path` that is written first.
fn aside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", std::process::id()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_new_file_replaces_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let (path, plain) = (folder.path().join("a"), folder.path().join("plain"));
        write_durably(&path, b"one").unwrap();
        write_durably(&path, b"two").unwrap();
        File::create(&plain).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(mode(&path), mode(&plain));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left aside");
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = write_durably(Path::new("/nonexistent/a"), b"").unwrap_err();
        assert!(error.to_string().starts_with("cannot write /nonexistent/a"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}
