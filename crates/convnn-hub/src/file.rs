//! Downloaded files: whole and checked, or not there.

use crate::fetch::{Expected, Refusal, Target, fetch};
use crate::{Error, HubConfig};
use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::path::Path;
use tempfile::NamedTempFile;

/// Why a file was not saved.
#[derive(Debug)]
pub enum Failed {
    /// It could not be downloaded.
    Download(Refusal),
    /// It could not be written.
    Write(io::Error),
}

/// Downloads the file at `path` on the hub and gives it the name `to`; returns its bytes.
///
/// # Errors
/// If it cannot be downloaded or written; nothing is left behind then.
pub fn save(config: &HubConfig, path: &str, expected: Expected<'_>, to: &Path) -> Result<Vec<u8>, Failed> {
    let folder = to.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder).map_err(Failed::Write)?;
    // Until it is complete, the file has another name; if anything fails, it is removed.
    let mut aside = Aside { file: new_file(folder).map_err(Failed::Write)?, failed: None };
    let bytes = match fetch(config, path, expected, &mut aside) {
        Ok(bytes) => bytes,
        Err(refusal) => return Err(aside.failed.take().map_or(Failed::Download(refusal), Failed::Write)),
    };
    persist(aside.file, to).map_err(Failed::Write)?;
    Ok(bytes)
}

/// Writes a small file so that it is whole or not there.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> crate::Result<()> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let written = fs::create_dir_all(folder).and_then(|()| {
        let mut file = new_file(folder)?;
        file.write_all(bytes)?;
        persist(file, path)
    });
    written.map_err(Error::io(path))
}

fn persist(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    // The name may be lost in a power failure until the folder is synced, which not all file systems can do.
    let _ = File::open(path.parent().unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all());
    Ok(())
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
struct Aside {
    file: NamedTempFile,
    failed: Option<io::Error>,
}

impl Write for Aside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The file itself: an error of `NamedTempFile` names the temporary file and loses the number of the system's.
        self.file.as_file_mut().write(bytes).inspect_err(|error| {
            // The caller is told by text alone; the kind decides how the program ends.
            let copy = error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
            self.failed = Some(copy);
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Target for Aside {
    fn clear(&mut self) -> io::Result<()> {
        self.file.as_file().set_len(0)?;
        self.file.rewind()
    }
}
