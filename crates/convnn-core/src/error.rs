//! What can go wrong. Each error names the layer or operation, what was found, and what was expected.

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of configuration, of shape, or of Candle.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// More neighbors are asked for than there are candidates.
    #[error(
        "{layer}: `neighbors` is {neighbors}, but there are only {candidates} candidates; \
         lower `neighbors` or widen `candidates`"
    )]
    NeighborsExceedCandidates {
        /// Path of the layer, or its kind if it has no path.
        layer: String,
        /// K as configured.
        neighbors: usize,
        /// The most that the layer can choose.
        candidates: usize,
    },
    /// An option holds a value that the layer cannot work with.
    #[error("{layer}: `{option}` is {found}; expected {expected}")]
    Option {
        /// Path of the layer, or its kind if it has no path.
        layer: String,
        /// Name of the option in configurations.
        option: &'static str,
        /// The value found.
        found: String,
        /// What would be accepted.
        expected: String,
    },
    /// A tensor has the wrong shape.
    #[error("{op}: `{tensor}` has shape {found:?}; expected {expected}")]
    Shape {
        /// The operation or layer.
        op: &'static str,
        /// The argument.
        tensor: &'static str,
        /// The shape found.
        found: Vec<usize>,
        /// The shape expected, in letters or numbers.
        expected: String,
    },
    /// The input of a layer has the wrong shape or type.
    #[error("{layer}: input {found}; expected {expected}")]
    Input {
        /// Path of the layer, or its kind if it has no path.
        layer: String,
        /// What was found.
        found: String,
        /// What the layer takes.
        expected: String,
    },
    /// A tensor has the wrong dtype.
    #[error("{op}: `{tensor}` has dtype {found:?}; expected {expected}")]
    DType {
        /// The operation or layer.
        op: &'static str,
        /// The argument.
        tensor: &'static str,
        /// The dtype found.
        found: candle_core::DType,
        /// The dtypes expected.
        expected: String,
    },
    /// A parameter is asked for twice with different shapes.
    #[error("parameter `{name}` exists with shape {found:?} and is asked for with shape {expected:?}")]
    ParameterShape {
        /// Path of the parameter.
        name: String,
        /// The shape it has.
        found: Vec<usize>,
        /// The shape asked for.
        expected: Vec<usize>,
    },
    /// A parameter is asked for twice with different types or devices.
    #[error("parameter `{name}` exists as {found} and is asked for as {expected}")]
    ParameterType {
        /// Path of the parameter.
        name: String,
        /// The type and device it has.
        found: String,
        /// The type and device asked for.
        expected: String,
    },
    /// A parameter would have too many values.
    #[error("parameter `{name}` would have shape {shape:?}; expected at most {most} values")]
    ParameterSize {
        /// Path of the parameter.
        name: String,
        /// The shape asked for.
        shape: Vec<usize>,
        /// The most values that a parameter may have.
        most: usize,
    },
    /// The saved state of an optimizer does not fit its parameters.
    #[error("optimizer state: {0}")]
    OptimizerState(String),
    /// An error of Candle's.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(error) => error,
            other => Self::wrap(other),
        }
    }
}

/// Fails with [`Error::Option`] unless `holds`, naming the layer and the option.
pub(crate) fn ensure(
    holds: bool,
    layer: &str,
    option: &'static str,
    found: impl ToString,
    expected: &str,
) -> Result<()> {
    if holds {
        return Ok(());
    }
    let (found, expected) = (found.to_string(), expected.to_owned());
    Err(Error::Option { layer: layer.to_owned(), option, found, expected })
}

/// Fails with [`Error::Shape`] unless `holds`.
pub(crate) fn ensure_shape(
    holds: bool,
    op: &'static str,
    tensor: &'static str,
    found: &candle_core::Tensor,
    expected: impl FnOnce() -> String,
) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::Shape { op, tensor, found: found.dims().to_vec(), expected: expected() })
}

/// Fails with [`Error::DType`] unless all tensors are of one floating-point type.
pub(crate) fn ensure_dtype(op: &'static str, tensors: &[(&'static str, &candle_core::Tensor)]) -> Result<()> {
    let Some((first_name, first)) = tensors.first() else { return Ok(()) };
    for (tensor, found) in tensors {
        let expected = match found.dtype().is_float() {
            false => "a floating-point type; convert with `to_dtype`".to_owned(),
            true if found.dtype() == first.dtype() => continue,
            true => format!("{:?}, the dtype of `{first_name}`", first.dtype()),
        };
        return Err(Error::DType { op, tensor, found: found.dtype(), expected });
    }
    Ok(())
}
