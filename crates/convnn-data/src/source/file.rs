//! Reading files without trusting their size or kind.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};

/// The metadata of a regular file, or of the one that a link leads to.
///
/// Everything else is refused: opening a pipe would block, and a device may never end.
pub(crate) fn metadata(path: &Path) -> Result<Metadata> {
    let metadata = fs::metadata(path).map_err(Error::io(path))?;
    match metadata.is_file() {
        true => Ok(metadata),
        false => Err(Error::NotAFile { file: path.to_owned() }),
    }
}

/// The bytes of a regular file; `None` if it has more than `limit`.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let size = metadata(path)?.len();
    if size > limit {
        return Ok(None);
    }
    let file = File::open(path).map_err(Error::io(path))?;
    let mut bytes = Vec::with_capacity(size as usize);
    file.take(limit + 1).read_to_end(&mut bytes).map_err(Error::io(path))?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}
