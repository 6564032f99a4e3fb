//! Layers and models against golden tensors, made by an independent implementation.
//!
//! A golden file is a safetensors file of one case. Its metadata holds `case` (a name), `layer` (the kind of a layer or
//! model) and `config` (its options as JSON). Its tensors are `input`, `output`, `param.NAME` for every parameter, and
//! one of:
//!
//! - nothing else: only the output is compared;
//! - `grad_output`, `grad.input`, `grad.NAME`: the gradients of Σ `output` · `grad_output` are compared too;
//! - `target`, `losses`: so are the losses of the first training steps with AdamW, whose options are in `config`.
//!
//! A layer that draws candidates at random takes them from `candidates`.
//!
//! Every case is computed in f64, the precision the files were made in, and in f32, the precision of training, and both
//! must reach every stored tensor. The choice of neighbors is discrete, so rounding can decide between two neighbors that
//! are almost equally close, and training amplifies the difference. A case that passes in f64 may therefore fail in f32
//! if it is sensitive: if it fails in f64 too once the input changes by up to one millionth.

mod case;
mod layers;
mod run;
mod training;

pub use case::{Case, files};
pub use layers::{LAYERS, layer};
pub use run::{Forward, Subject};

use crate::random::streams;
use crate::{Parameters, Streams, testing};
use candle_core::{DType, Tensor};
use run::Run;
use std::collections::BTreeMap;
use std::fmt::Display;

/// The largest |a − b| that passes, as a share of max(1, max |b|).
pub const TOLERANCE: f64 = 1e-4;

/// Tensors by the names they have in a golden file.
pub type Tensors = BTreeMap<String, Tensor>;

/// The result of reading or computing a case.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a case cannot be computed: one line that names the tensor or option and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl Error {
    /// The first line of `message`; Candle's messages continue with a backtrace.
    pub fn new(message: impl Display) -> Self {
        Self(message.to_string().lines().next().unwrap_or_default().to_owned())
    }
}

impl From<crate::Error> for Error {
    fn from(error: crate::Error) -> Self {
        Self::new(error)
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::new(error)
    }
}

/// How a case went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The largest error of all tensors.
    pub max_error: f64,
    /// The tensors that differ, the output first; none if the case passes.
    pub differences: Vec<Difference>,
    /// Whether the case fails in f32, but passes because it also fails in f64 if the input changes by one millionth.
    pub sensitive: bool,
}

/// A tensor that differs from the golden one.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Its name in the file.
    pub tensor: String,
    /// The largest |a − b| as a share of max(1, max |b|); NaN if a value is not finite.
    pub error: f64,
}

/// Computes `case` in f64 and f32 with what `build` makes of it, and compares every tensor.
///
/// `build` is called with parameters of the precision to compute in, from which it takes those of the layer; their
/// values are set from the case afterwards.
///
/// # Errors
/// If the case cannot be computed: a tensor is missing, unknown or of the wrong shape, or `build` fails.
pub fn check<E: Display>(
    case: &Case,
    build: impl Fn(&Case, &Parameters) -> std::result::Result<Subject, E>,
) -> Result<Outcome> {
    let in_f64 = compare(case, &compute(case, &build, DType::F64)?)?;
    if in_f64.iter().any(Difference::exceeds_tolerance) {
        return Ok(Outcome::new(&in_f64));
    }
    let in_f32 = compare(case, &compute(case, &build, DType::F32)?)?;
    if !in_f32.iter().any(Difference::exceeds_tolerance) {
        return Ok(Outcome::new(&[in_f64, in_f32].concat()));
    }
    Ok(match is_sensitive(case, &Run::new(case, &build, DType::F64)?)? {
        true => Outcome { sensitive: true, ..Outcome::new(&in_f64) },
        false => Outcome::new(&in_f32),
    })
}

/// Computes `case` in the precision `dtype`: the tensors that [`check`] compares, by their names in the file.
///
/// # Errors
/// As [`check`].
pub fn compute<E: Display>(
    case: &Case,
    build: impl Fn(&Case, &Parameters) -> std::result::Result<Subject, E>,
    dtype: DType,
) -> Result<Tensors> {
    Run::new(case, &build, dtype)?.compute(case.values("input")?)
}

impl Outcome {
    fn new(errors: &[Difference]) -> Self {
        // A NaN counts as larger than any number.
        let larger = |a: f64, b: f64| if a.is_nan() || a > b { a } else { b };
        Self {
            max_error: errors.iter().fold(0.0, |largest, one| larger(one.error, largest)),
            differences: errors.iter().filter(|one| one.exceeds_tolerance()).cloned().collect(),
            sensitive: false,
        }
    }

    /// Whether every tensor is reached, in f32 too unless the case is sensitive.
    pub const fn passes(&self) -> bool {
        self.differences.is_empty()
    }
}

impl Difference {
    fn exceeds_tolerance(&self) -> bool {
        self.error.is_nan() || self.error > TOLERANCE
    }
}

/// The error of every computed tensor: the output first, then the losses, then the gradients by name.
fn compare(case: &Case, computed: &Tensors) -> Result<Vec<Difference>> {
    let mut errors = Vec::with_capacity(computed.len());
    for (name, tensor) in computed {
        let expected = case.tensor(name, tensor.dims())?;
        // The shapes are equal, so that only a value that is not finite fails here.
        let error = testing::compare(name, tensor, expected, f64::INFINITY).unwrap_or(f64::NAN);
        errors.push(Difference { tensor: name.clone(), error });
    }
    errors.sort_by_key(|one| (one.tensor != "output", one.tensor != "losses", one.tensor.clone()));
    Ok(errors)
}

/// Whether f64 misses a stored tensor if every number of the input changes by up to one millionth of itself.
fn is_sensitive(case: &Case, double: &Run<'_>) -> Result<bool> {
    let input = case.values("input")?.to_dtype(DType::F64)?;
    for attempt in 0..8 {
        let mut generator = Streams::new(attempt).generator("parity/sensitive");
        let factor = |_| 1.0 + 1e-6 * (2.0 * streams::uniform(&mut generator) - 1.0);
        let factors: Vec<f64> = (0..input.elem_count()).map(factor).collect();
        let changed = (&input * Tensor::from_vec(factors, input.dims(), input.device())?)?;
        if compare(case, &double.compute(&changed)?)?.iter().any(Difference::exceeds_tolerance) {
            return Ok(true);
        }
    }
    Ok(false)
}
