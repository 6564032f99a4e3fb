//! Parity: layers and models against golden tensors (SPEC section 5).
//!
//! A case is computed in f64, the precision the files were made in, and in f32, the precision of training, and must
//! reach every stored tensor in both. The choice of neighbors is discrete, so that a rounded number can decide between
//! two that are nearly equally close, and training carries that on. A case that f64 reaches may therefore miss in f32
//! if it is sensitive: if f64 misses too once the input moves by up to a millionth. The outcome then says so.

mod blame;
mod fixture;
mod optimize;
mod subject;

use crate::{Error, Result};
use candle_core::{DType, Tensor};
use convnn_core::{Streams, check, streams};
use fixture::Fixture;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use subject::Subject;

/// The largest |a − b| that passes, as a share of max(1, max |b|).
pub const TOLERANCE: f64 = 1e-4;

/// Tensors by the names they have in a file.
type Tensors = BTreeMap<String, Tensor>;

/// What came of one case.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The name of the case.
    pub case: String,
    /// The largest error of all tensors.
    pub max_error: f64,
    /// The tensors that differ, the one to look at first; empty where the case passes.
    pub differences: Vec<Difference>,
    /// Whether f32 misses, but so does f64 once the input moves by up to a millionth.
    pub sensitive: bool,
}

/// A tensor that differs from what the file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Its name in the file.
    pub tensor: String,
    /// Its error as a share of max(1, max |b|); NaN where a value is not finite.
    pub error: f64,
}

/// The files to check under `path`: itself, or the `.safetensors` files of a folder in the order of their names.
///
/// # Errors
/// Where there is no such file or folder, or nothing in the folder.
pub fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let mut files: Vec<_> = entries.map_err(Error::io("read", path))?.into_iter().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "safetensors") && file.is_file());
    files.sort();
    match files.is_empty() {
        false => Ok(files),
        true => Err(Error::Folder {
            folder: path.to_owned(),
            found: "holds no .safetensors file".to_owned(),
            expected: "golden tensors, one file a case".to_owned(),
        }),
    }
}

/// Computes the case in the file `path` and compares every tensor.
///
/// # Errors
/// [`Error::Damaged`] where the file is no fixture: the line names the tensor or option and what was expected.
pub fn check(path: &Path) -> Result<Outcome> {
    let fixture = Fixture::read(path)?;
    // Where a layer cannot work with what a file holds, the file is to be named.
    check_case(&fixture).map_err(|error| match error {
        Error::Core(_) | Error::Models(_) => fixture.wrong(fixture::line(&error)),
        other => other,
    })
}

fn check_case(fixture: &Fixture) -> Result<Outcome> {
    let double = measure(fixture, DType::F64)?;
    if double.iter().any(Difference::differs) {
        let differences = blame::first(fixture, &double)?;
        return Ok(outcome(fixture, &double, differences));
    }
    let single = measure(fixture, DType::F32)?;
    let differences: Vec<_> = single.iter().filter(|one| one.differs()).cloned().collect();
    if differences.is_empty() {
        return Ok(outcome(fixture, &[double, single].concat(), differences));
    }
    let sensitive = is_sensitive(fixture)?;
    let (all, differences) = if sensitive { (double, Vec::new()) } else { (single, differences) };
    Ok(Outcome { sensitive, ..outcome(fixture, &all, differences) })
}

fn outcome(fixture: &Fixture, all: &[Difference], differences: Vec<Difference>) -> Outcome {
    // A NaN is larger than every error.
    let larger = |a: f64, b: f64| if a.is_nan() || a > b { a } else { b };
    let max_error = all.iter().map(|one| one.error).fold(0.0, |largest, error| larger(error, largest));
    Outcome { case: fixture.case.clone(), max_error, differences, sensitive: false }
}

impl Difference {
    fn differs(&self) -> bool {
        self.error.is_nan() || self.error > TOLERANCE
    }
}

/// The error of every stored tensor.
fn measure(fixture: &Fixture, dtype: DType) -> Result<Vec<Difference>> {
    let subject = Subject::new(fixture, dtype)?;
    compare(fixture, &subject.compute(&subject.given(fixture)?)?)
}

/// The error of every tensor in `actual`, in the order: output, losses, gradients.
fn compare(fixture: &Fixture, actual: &Tensors) -> Result<Vec<Difference>> {
    let mut differences = Vec::with_capacity(actual.len());
    for (name, tensor) in actual {
        let expected = fixture.tensor(name, tensor.dims())?;
        // Shapes are equal, so that it fails on values alone: one is not finite.
        let error = check::compare(name, tensor, expected, f64::INFINITY).unwrap_or(f64::NAN);
        differences.push(Difference { tensor: name.clone(), error });
    }
    differences.sort_by_key(|one| (one.tensor != "output", one.tensor != "losses", one.tensor.clone()));
    Ok(differences)
}

/// Whether f64 misses the stored tensors from an input that differs by up to a millionth.
fn is_sensitive(fixture: &Fixture) -> Result<bool> {
    let subject = Subject::new(fixture, DType::F64)?;
    let given = subject.given(fixture)?;
    let input = &given["input"];
    for attempt in 0..8 {
        let mut generator = Streams::new(attempt).generator("parity/sensitive");
        let factor = |_| 1.0 + 1e-6 * (2.0 * streams::uniform(&mut generator) - 1.0);
        let factors: Vec<f64> = (0..input.elem_count()).map(factor).collect();
        let mut given = given.clone();
        given.insert("input".to_owned(), (input * Tensor::from_vec(factors, input.dims(), input.device())?)?);
        if compare(fixture, &subject.compute(&given)?)?.iter().any(Difference::differs) {
            return Ok(true);
        }
    }
    Ok(false)
}
