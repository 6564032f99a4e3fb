//! Parity: layers and models against golden tensors ([`convnn_core::testing::golden`]).

use crate::{Error, Result};
use candle_core::DType;
use convnn_core::testing::golden::{self, Case, Outcome};
use convnn_models::golden::build;
use std::path::{Path, PathBuf};

/// The golden files under `path`: itself, or the `.safetensors` files of a folder in the order of their names.
///
/// # Errors
/// If the folder cannot be read or holds no such file.
pub fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let files = golden::files(path).map_err(Error::io("read", path))?;
    match files.is_empty() {
        false => Ok(files),
        true => Err(Error::Folder {
            folder: path.to_owned(),
            found: "holds no .safetensors file".to_owned(),
            expected: "golden tensors, one file per case".to_owned(),
        }),
    }
}

/// Reads the case in the file `path`.
///
/// # Errors
/// [`Error::Damaged`] if the file is not a golden file.
pub fn read(path: &Path) -> Result<Case> {
    Case::read(path).map_err(unusable(path))
}

/// Computes the case that was read from `path` and compares every tensor.
///
/// # Errors
/// [`Error::Damaged`] if the case cannot be computed; the message names the tensor or option and what was expected.
pub fn check(path: &Path, case: &Case) -> Result<Outcome> {
    golden::check(case, build).map_err(unusable(path))
}

/// Writes the tensors that [`check`] compares, as computed here, into `folder`: `CASE.f64.safetensors` and
/// `CASE.f32.safetensors`, with the names and the metadata of the golden file.
///
/// # Errors
/// As [`check`], or if a file cannot be written.
pub fn dump(path: &Path, case: &Case, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    for dtype in [DType::F64, DType::F32] {
        let tensors = golden::compute(case, build, dtype).map_err(unusable(path))?;
        // Names are free text and may not be fit for files.
        let name = case.name.replace(|c: char| !(c.is_alphanumeric() || "_-.".contains(c)), "_");
        let target = folder.join(format!("{name}.{}.safetensors", dtype.as_str()));
        let bytes = safetensors::serialize(&tensors, Some(case.metadata()));
        let bytes = bytes.map_err(|error| unusable(path)(golden::Error::new(error)))?;
        std::fs::write(&target, bytes).map_err(Error::io("write", &target))?;
    }
    Ok(())
}

fn unusable(path: &Path) -> impl Fn(golden::Error) -> Error {
    move |error| Error::Damaged { path: path.to_owned(), message: error.to_string() }
}
