//! Files and folders that are either complete or absent.

use std::fs::{self, File};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes `bytes` to `path` so that any reader, even after a power failure, finds the old file or the new one.
///
/// The bytes go to a hidden file beside `path`, which is synced and renamed. The new file has the usual mode under the
/// umask. On failure the old file stays, and the hidden one is removed.
pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Two threads that write the same file must not share the hidden one.
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let write = WRITES.fetch_add(1, Ordering::Relaxed);
    let aside = path.with_file_name(format!(".{name}.{}.{write}", std::process::id()));
    let written = File::create(&aside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, path)
    });
    if let Err(error) = written {
        // The first error is the one to report.
        let _ = fs::remove_file(&aside);
        return Err(error);
    }
    sync_directory(path.parent().unwrap_or(Path::new("")))
}

/// Creates `folder` and its missing parents so that their names survive a power failure; returns those created, outermost
/// first.
pub fn create_folders(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let missing: Vec<_> =
        folder.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
    let mut created = Vec::new();
    for path in missing.into_iter().rev() {
        match fs::create_dir(path) {
            Ok(()) => {
                sync_directory(path.parent().unwrap_or(Path::new("")))?;
                created.push(path.to_owned());
            }
            // Another process was faster.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
            Err(error) => return Err(error),
        }
    }
    if folder.is_dir() { Ok(created) } else { Err(ErrorKind::NotADirectory.into()) }
}

/// Opens a regular file for reading. A pipe or a device, on which opening or reading could wait forever, is an error.
pub fn open_regular(path: &Path) -> Result<File> {
    let is_regular = fs::metadata(path)?.is_file();
    let wrong = || Error::new(ErrorKind::InvalidInput, "it is not a regular file");
    if is_regular { File::open(path) } else { Err(wrong()) }
}

/// Reads a regular file of at most `most` bytes.
pub fn read_regular(path: &Path, most: u64) -> Result<Vec<u8>> {
    let file = open_regular(path)?;
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    let wrong = || Error::new(ErrorKind::InvalidInput, format!("it has more than {most} bytes"));
    if bytes.len() as u64 > most { Err(wrong()) } else { Ok(bytes) }
}

/// Makes the names of new and renamed files in `folder` survive a power failure.
///
/// Does nothing on systems where a folder cannot be opened as a file.
pub fn sync_directory(folder: &Path) -> Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn the_new_file_replaces_the_old_one_with_the_usual_mode() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (path, plain) = (folder.path().join("a"), folder.path().join("plain"));
        write_durably(&path, b"one").unwrap();
        write_durably(&path, b"two").unwrap();
        fs::write(&plain, "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(mode(&path), mode(&plain));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "the hidden file is gone");
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), "").unwrap();
        write_durably(&path, b"bytes").unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(path.join("inside").exists());
    }
}
