//! A folder that appears whole or not at all.

use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// Lets `write` fill a folder beside `folder`, which must not exist or be empty, and then gives it that name.
pub(crate) fn write_whole<T>(folder: &Path, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    // The folder's own name: without a slash at its end, and behind any link.
    let folder = match std::fs::read_dir(folder).map(|mut entries| entries.next().is_none()) {
        Ok(true) => folder.canonicalize().map_err(Error::io("read", folder))?,
        Ok(false) => {
            return Err(Error::Folder {
                folder: folder.to_owned(),
                found: "is not empty".to_owned(),
                expected: "a folder for new weights; choose another --out".to_owned(),
            });
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => folder.components().collect::<PathBuf>(),
        Err(error) => return Err(Error::io("read", folder)(error)),
    };
    sweep(&folder);
    let mut aside = folder.clone().into_os_string();
    aside.push(format!(".{}.part", std::process::id()));
    let aside = Path::new(&aside);
    let written = write(aside);
    let written =
        written.and_then(|value| std::fs::rename(aside, &folder).map_err(Error::io("write", &folder)).map(|()| value));
    if written.is_err() {
        // The first error is the one to report.
        let _ = std::fs::remove_dir_all(aside);
    }
    written
}

/// Removes what imports to `folder` left beside it when they were killed.
fn sweep(folder: &Path) {
    let (Some(name), Some(parent)) = (folder.file_name(), folder.parent()) else { return };
    let name = name.to_string_lossy();
    // A name alone is in the current folder.
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    for path in std::fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let found = path.file_name().unwrap_or_default().to_string_lossy();
        let process = found.strip_prefix(&*name).and_then(|rest| rest.strip_prefix('.')?.strip_suffix(".part"));
        let has_ended =
            |process: u32| Path::new("/proc/self").exists() && !Path::new(&format!("/proc/{process}")).exists();
        if process.and_then(|process| process.parse().ok()).is_some_and(has_ended) {
            // If it stays, it does no harm.
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}
