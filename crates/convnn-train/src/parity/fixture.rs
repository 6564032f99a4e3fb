//! A file of golden tensors.

use super::Tensors;
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// A case as it stands in its file.
#[derive(Debug)]
pub(super) struct Fixture {
    path: PathBuf,
    /// The name of the case.
    pub(super) case: String,
    /// The kind of the layer or model.
    pub(super) layer: String,
    /// Its options.
    pub(super) config: Map<String, Value>,
    /// Its tensors.
    pub(super) tensors: Tensors,
}

impl Fixture {
    /// Reads a file; the tensors are unchecked but for being there and holding values.
    ///
    /// # Errors
    /// Where it cannot be read, or is no safetensors file with the metadata of a case.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let wrong = |message: String| Error::Damaged { path: path.to_owned(), message };
        let no_file = |error: &dyn std::fmt::Display| wrong(format!("no safetensors file ({})", line(error)));
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| no_file(&error))?;
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|error| no_file(&error))?;
        let metadata = |name: &str| {
            let found = header.metadata().as_ref().and_then(|metadata| metadata.get(name)).cloned();
            found.ok_or_else(|| wrong(format!("no fixture: the metadata lacks `{name}`; expected case, layer, config")))
        };
        let config = serde_json::from_str(&metadata("config")?)
            .map_err(|error| wrong(format!("the metadata `config` is no JSON object: {error}")))?;
        let (case, layer) = (metadata("case")?, metadata("layer")?);
        let fixture = Self { path: path.to_owned(), case, layer, config, tensors: tensors.into_iter().collect() };
        for (name, tensor) in &fixture.tensors {
            if tensor.elem_count() == 0 {
                let shape = tensor.dims();
                return Err(fixture.wrong(format!("tensor `{name}` has shape {shape:?}; expected at least one value")));
            }
        }
        Ok(fixture)
    }

    /// The floating-point tensor `name`, which must have the shape `expected`.
    ///
    /// # Errors
    /// Where it is missing, or of another type or shape.
    pub(super) fn tensor(&self, name: &str, expected: &[usize]) -> Result<&Tensor> {
        let tensor = self.any(name, &format!("shape {expected:?}"))?;
        if tensor.dims() != expected {
            let found = tensor.dims();
            return Err(self.wrong(format!("tensor `{name}` has shape {found:?}; expected {expected:?}")));
        }
        self.float(name, tensor)
    }

    /// The floating-point tensor `name` of whatever shape.
    ///
    /// # Errors
    /// Where it is missing, or of another type.
    pub(super) fn values(&self, name: &str) -> Result<&Tensor> {
        self.float(name, self.any(name, "a tensor of floating-point values")?)
    }

    fn any(&self, name: &str, expected: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| self.wrong(format!("tensor `{name}` is missing; expected {expected}")))
    }

    fn float<'a>(&self, name: &str, tensor: &'a Tensor) -> Result<&'a Tensor> {
        match tensor.dtype().is_float() {
            true => Ok(tensor),
            false => {
                let found = tensor.dtype().as_str();
                Err(self.wrong(format!("tensor `{name}` is of type {found}; expected floating-point values")))
            }
        }
    }

    /// The whole numbers of `name`, each below `limit`.
    ///
    /// # Errors
    /// Where it is missing, no list of whole numbers, or holds one out of range.
    pub(super) fn numbers(&self, name: &str, limit: usize, what: &str) -> Result<Vec<u32>> {
        let expected = format!("a list of {what}");
        let tensor = self.any(name, &expected)?;
        let whole = tensor.rank() == 1 && tensor.dtype().is_int();
        if !whole {
            let (shape, kind) = (tensor.dims(), tensor.dtype().as_str());
            return Err(self.wrong(format!("tensor `{name}` is {kind} of shape {shape:?}; expected {expected}")));
        }
        let numbers = tensor.to_dtype(candle_core::DType::I64)?.to_vec1::<i64>()?;
        let below = |number: &i64| usize::try_from(*number).is_ok_and(|number| number < limit);
        if let Some(number) = numbers.iter().find(|number| !below(number)) {
            return Err(self.wrong(format!("tensor `{name}` holds {number}; expected {what} from 0 to {}", limit - 1)));
        }
        Ok(numbers.into_iter().map(|number| number as u32).collect())
    }

    /// Reads the options with `read`; an error names the one option without which they could be read.
    ///
    /// # Errors
    /// The message of `read`.
    pub(super) fn options<T>(&self, read: impl Fn(&Map<String, Value>) -> std::result::Result<T, String>) -> Result<T> {
        read(&self.config).map_err(|message| {
            let culprit = self.config.iter().find(|(key, _)| {
                let mut others = self.config.clone();
                others.remove(*key);
                read(&others).is_ok()
            });
            self.wrong(match culprit {
                Some((key, value)) => format!("config: option `{key}` is {value}: {}", line(&message)),
                None => format!("config: {}", line(&message)),
            })
        })
    }

    /// The option `name`, a number.
    ///
    /// # Errors
    /// Where it is no number.
    pub(super) fn number(&self, name: &str) -> Result<Option<f64>> {
        match self.config.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let wrong = || self.wrong(format!("config: option `{name}` is {value}; expected a number"));
                value.as_f64().map(Some).ok_or_else(wrong)
            }
        }
    }

    /// That the file is no fixture, and why.
    pub(super) fn wrong(&self, message: String) -> Error {
        Error::Damaged { path: self.path.clone(), message }
    }
}

/// A message without what follows its first line: Candle's have a backtrace there.
pub(super) fn line(message: &dyn std::fmt::Display) -> String {
    message.to_string().lines().next().unwrap_or_default().to_owned()
}
