//! A golden file and its checked access.

use super::{Error, Result, Tensors};
use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// A case as it is in its file.
#[derive(Clone, Debug)]
pub struct Case {
    /// The name of the case.
    pub name: String,
    /// The kind of the layer or model.
    pub layer: String,
    /// Its options.
    pub config: Map<String, Value>,
    /// Its tensors.
    pub tensors: Tensors,
}

/// The `.safetensors` files of a folder, in the order of their names.
///
/// # Errors
/// If the folder cannot be read.
pub fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
    let mut files: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "safetensors") && file.is_file());
    files.sort();
    Ok(files)
}

impl Case {
    /// Reads a golden file.
    ///
    /// # Errors
    /// If it cannot be read, is not a safetensors file, or lacks the metadata of a case.
    pub fn read(path: &Path) -> Result<Self> {
        let unreadable = |error: &dyn Display| Error::new(format!("cannot read the file ({error})"));
        // Reading a pipe could wait forever.
        if !std::fs::metadata(path).map_err(|error| unreadable(&error))?.is_file() {
            return Err(unreadable(&"it is not a regular file"));
        }
        Self::parse(&std::fs::read(path).map_err(|error| unreadable(&error))?)
    }

    /// Reads the bytes of a golden file.
    ///
    /// # Errors
    /// If they are not those of a safetensors file, or lack the metadata of a case.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let damaged = |error: &dyn Display| Error::new(format!("not a safetensors file ({error})"));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| damaged(&error))?;
        let tensors = candle_core::safetensors::load_buffer(bytes, &Device::Cpu).map_err(|error| damaged(&error))?;
        let metadata = |name: &str| {
            let found = header.metadata().as_ref().and_then(|metadata| metadata.get(name)).cloned();
            let missing = || format!("not a golden file: its metadata lacks `{name}`; expected case, layer, config");
            found.ok_or_else(|| Error::new(missing()))
        };
        let config = serde_json::from_str(&metadata("config")?)
            .map_err(|error| Error::new(format!("the metadata `config` is not a JSON object: {error}")))?;
        let (name, layer) = (metadata("case")?, metadata("layer")?);
        for (name, tensor) in &tensors {
            if tensor.elem_count() == 0 {
                let shape = tensor.dims();
                return Err(Error::new(format!("tensor `{name}` has shape {shape:?}; expected at least one value")));
            }
        }
        Ok(Self { name, layer, config, tensors: tensors.into_iter().collect() })
    }

    /// The metadata of its file.
    pub fn metadata(&self) -> HashMap<String, String> {
        let config = Value::Object(self.config.clone()).to_string();
        let metadata = [("case", self.name.clone()), ("layer", self.layer.clone()), ("config", config)];
        metadata.map(|(name, text)| (name.to_owned(), text)).into()
    }

    /// The floating-point tensor `name`.
    ///
    /// # Errors
    /// If it is missing or of another type.
    pub fn values(&self, name: &str) -> Result<&Tensor> {
        float(name, self.any(name, "floating-point values")?)
    }

    /// The floating-point tensor `name` of shape `expected`.
    ///
    /// # Errors
    /// If it is missing or has another type or shape.
    pub fn tensor(&self, name: &str, expected: &[usize]) -> Result<&Tensor> {
        let tensor = self.any(name, &format!("shape {expected:?}"))?;
        match tensor.dims() == expected {
            true => float(name, tensor),
            false => {
                let found = tensor.dims();
                Err(Error::new(format!("tensor `{name}` has shape {found:?}; expected {expected:?}")))
            }
        }
    }

    fn any(&self, name: &str, expected: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| Error::new(format!("tensor `{name}` is missing; expected {expected}")))
    }

    /// The integers of the tensor `name`, each below `limit`; `what` says what they are.
    ///
    /// # Errors
    /// If it is missing, is not a list of integers, or holds one out of range.
    pub fn integers(&self, name: &str, limit: usize, what: &str) -> Result<Vec<u32>> {
        let expected = format!("a list of {what}");
        let tensor = self.any(name, &expected)?;
        if tensor.rank() != 1 || !tensor.dtype().is_int() {
            let (dtype, shape) = (tensor.dtype().as_str(), tensor.dims());
            return Err(Error::new(format!("tensor `{name}` is {dtype} of shape {shape:?}; expected {expected}")));
        }
        let integers = tensor.to_dtype(DType::I64)?.to_vec1::<i64>()?;
        let in_range = |&integer: &i64| u32::try_from(integer).ok().filter(|&integer| (integer as usize) < limit);
        let integer = |integer: &i64| {
            let wrong = || format!("tensor `{name}` holds {integer}; expected {what} from 0 to {}", limit - 1);
            in_range(integer).ok_or_else(|| Error::new(wrong()))
        };
        integers.iter().map(integer).collect()
    }

    /// The candidates that were drawn when the file was made, if the options ask for `random` or `spatial` ones.
    ///
    /// # Errors
    /// If `random` candidates are missing, or there are candidates although none are drawn.
    pub fn candidates(&self) -> Result<Option<Vec<u32>>> {
        let asks_for =
            |kind: &str| self.config.get("candidates").is_some_and(|candidates| candidates.get(kind).is_some());
        match (asks_for("random"), asks_for("spatial"), self.tensors.contains_key("candidates")) {
            (true, _, _) | (_, true, true) => self.integers("candidates", u32::MAX as usize, "token indices").map(Some),
            (false, false, true) => Err(Error::new("tensor `candidates` is unknown: no candidates are drawn")),
            (false, _, false) => Ok(None),
        }
    }

    /// The option `name`, a number.
    ///
    /// # Errors
    /// If it is present and not a number.
    pub fn number(&self, name: &str) -> Result<Option<f64>> {
        match self.config.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let wrong = || Error::new(format!("config: option `{name}` is {value}; expected a number"));
                value.as_f64().map(Some).ok_or_else(wrong)
            }
        }
    }

    /// The option `name`, a size such as `in_channels` or `dim`.
    ///
    /// # Errors
    /// If it is missing or not a size.
    pub fn size(&self, name: &str) -> Result<usize> {
        let found = self.config.get(name);
        let wrong = || {
            let found = found.map_or("missing".to_owned(), Value::to_string);
            Error::new(format!("config: option `{name}` is {found}; expected a whole number"))
        };
        found.and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok()).ok_or_else(wrong)
    }

    /// The options without those in `others`, as `read` makes them of JSON. An error names the option at fault.
    ///
    /// # Errors
    /// If `read` fails.
    pub fn options<T, E: Display>(
        &self,
        others: &[&str],
        read: impl Fn(Map<String, Value>) -> std::result::Result<T, E>,
    ) -> Result<T> {
        let mut options = self.config.clone();
        options.retain(|name, _| !others.contains(&name.as_str()));
        read(options.clone()).map_err(|error| {
            // At fault is the option without which the others can be read.
            let culprit = options.iter().find(|(name, _)| {
                let mut rest = options.clone();
                rest.remove(*name);
                read(rest).is_ok()
            });
            match culprit {
                Some((name, value)) => Error::new(format!("config: option `{name}` is {value}: {error}")),
                None => Error::new(format!("config: {error}")),
            }
        })
    }
}

fn float<'a>(name: &str, tensor: &'a Tensor) -> Result<&'a Tensor> {
    match tensor.dtype() {
        dtype if dtype.is_float() => Ok(tensor),
        dtype => {
            let found = dtype.as_str();
            Err(Error::new(format!("tensor `{name}` is of type {found}; expected floating-point values")))
        }
    }
}
