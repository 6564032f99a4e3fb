//! Trained models on disk: a folder with `model.safetensors`, `config.json` and `README.md`, as on model hubs, and the
//! SHA-256 of each in `SHA256SUMS`.
//!
//! `config.json` holds the configuration, and, if they are known, the preprocessing of pictures and the names of the
//! classes. Tensors have PyTorch's names, shapes and layouts, so either side reads what the other wrote. Folders without
//! `SHA256SUMS` are read too, but damage to their numbers cannot be detected.

use crate::described::{Described, LABELS, PREPROCESSING, read_labels};
use crate::digests::{Digests, SUMS_FILE};
use crate::error::ensure;
use crate::files::{create_folders, read_regular, write_durably};
use crate::{Error, ModelCard, ModelConfig, Preprocessing, Result};
use candle_core::{DType, Device, Tensor};
use convnn_core::{Parameters, testing};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// The file of the tensors.
pub const MODEL_FILE: &str = "model.safetensors";
/// The file of the configuration.
pub const CONFIG_FILE: &str = "config.json";
/// The file of the model card.
pub const CARD_FILE: &str = "README.md";
/// Where earlier versions kept the names of the classes.
const CLASSES_FILE: &str = "classes.json";

/// What a weights folder holds.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The model.
    pub config: ModelConfig,
    /// What its input must look like, if known.
    pub preprocessing: Option<Preprocessing>,
    /// The names of the classes in the order of the logits, if known.
    pub labels: Option<Vec<String>>,
    /// The parameters and running statistics as f32.
    pub tensors: Tensors,
}

/// Writes `parameters` as f32, their configuration and a model card into `folder`; see [`save_as`].
pub fn save(folder: &Path, config: &ModelConfig, parameters: &Parameters, card: &ModelCard) -> Result<Digests> {
    let tensors = parameters.all().into_iter().map(|(name, var)| (name, var.as_detached_tensor()));
    save_as(folder, config, tensors, card, DType::F32)
}

/// Writes tensors of type `dtype`, their configuration and a model card into `folder`, creating it if necessary; returns
/// the digests of the files.
///
/// Fails without writing anything if [`encode`] does. Each file is replaced as a whole: see [`write_durably`].
pub fn save_as(
    folder: &Path,
    config: &ModelConfig,
    tensors: impl IntoIterator<Item = (String, Tensor)>,
    card: &ModelCard,
    dtype: DType,
) -> Result<Digests> {
    write(folder, &encode(config, tensors, card, dtype)?)
}

/// The files of a weights folder, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The files that hold tensors as type `dtype`, their configuration and a model card.
///
/// Fails if `dtype` is not f16, bf16, f32 or f64, or if the tensors are not those of `config` ([`Error::Names`],
/// [`Error::Tensor`]) or not finite, in `dtype` too.
pub fn encode(
    config: &ModelConfig,
    tensors: impl IntoIterator<Item = (String, Tensor)>,
    card: &ModelCard,
    dtype: DType,
) -> Result<Files> {
    let origin = "the parameters given";
    let holds_weights = matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64);
    ensure(holds_weights, "dtype", dtype.as_str(), "f16, bf16, f32 or f64")?;
    let mut tensors = accept(origin, config, tensors)?;
    tensors.extend(config.buffers()?.into_iter().map(|(name, buffer)| (name.to_owned(), buffer)));
    for (name, tensor) in &mut tensors {
        *tensor = tensor.to_dtype(dtype)?;
        check_finite(origin, name, tensor)?;
    }
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = safetensors::serialize(&tensors, Some(metadata)).map_err(std::io::Error::other);
    let files = [
        (MODEL_FILE, bytes.map_err(io(Path::new(MODEL_FILE)))?),
        (CONFIG_FILE, describe(config, card)?.into_bytes()),
        (CARD_FILE, card.text(config)?.into_bytes()),
    ];
    Ok(files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect())
}

/// Writes `files`, and then their digests, into `folder`, creating it if necessary. Each file is replaced as a whole: see
/// [`write_durably`]. Files that an earlier call wrote and this one does not are removed; other files stay.
pub fn write(folder: &Path, files: &Files) -> Result<Digests> {
    create_folders(folder).map_err(io(folder))?;
    // Digests that cannot be read name nothing.
    let earlier = Digests::read(folder).ok().flatten();
    let digests = Digests::of(files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
    let sums = digests.text();
    let files = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    for (name, bytes) in files.chain([(SUMS_FILE, sums.as_bytes())]) {
        let path = folder.join(name);
        write_durably(&path, bytes).map_err(io(&path))?;
    }
    for name in earlier.iter().flat_map(Digests::names).filter(|name| digests.get(name).is_none()) {
        let path = folder.join(name);
        // Only a plain name is one that was written here.
        if path.file_name().is_some_and(|file| file == name) && path.is_file() {
            std::fs::remove_file(&path).map_err(io(&path))?;
        }
    }
    Ok(digests)
}

/// The text of `config.json`.
fn describe(config: &ModelConfig, card: &ModelCard) -> Result<String> {
    let mut value = serde_json::to_value(config).map_err(Error::Words)?;
    if let Some(keys) = value.as_object_mut() {
        if let Some(preprocessing) = &card.preprocessing {
            preprocessing.check(config.image_size())?;
            keys.insert(PREPROCESSING.to_owned(), serde_json::to_value(preprocessing).map_err(Error::Words)?);
        }
        if !card.labels.is_empty() {
            check_labels(&card.labels, config)?;
            keys.insert(LABELS.to_owned(), card.labels.clone().into());
        }
    }
    Ok(serde_json::to_string_pretty(&value).map_err(Error::Words)? + "\n")
}

fn check_labels(labels: &[String], config: &ModelConfig) -> Result<()> {
    let expected = format!("{}, one for each class of the model", config.classes());
    ensure(labels.len() == config.classes(), LABELS, format!("a list of {}", labels.len()), &expected)
}

/// Reads a weights folder.
///
/// Fails if a file has changed since [`save`], if the configuration is not valid, or if the tensors do not fit it or are
/// not finite; see [`accept`].
pub fn load(folder: &Path) -> Result<Stored> {
    let digests = Digests::read(folder)?;
    let read = |name: &str, most: u64| {
        let path = folder.join(name);
        let bytes = read_regular(&path, most).map_err(io(&path))?;
        digests.as_ref().map_or(Ok(()), |digests| digests.check(folder, name, &bytes))?;
        Ok::<_, Error>(bytes)
    };
    let mut stored = decode(folder, &read(CONFIG_FILE, CONFIG_BYTES)?, &read(MODEL_FILE, u64::MAX)?)?;
    let classes = folder.join(CLASSES_FILE);
    // Saving over a folder of an earlier version leaves its file of names there, which is not listed.
    let belongs = digests.as_ref().is_none_or(|digests| digests.get(CLASSES_FILE).is_some());
    if stored.labels.is_none() && belongs && classes.exists() {
        let damaged = |reason| Error::Damaged { path: classes.clone(), reason };
        let labels = read_labels(&read(CLASSES_FILE, CONFIG_BYTES)?).map_err(damaged)?;
        check_labels(&labels, &stored.config).map_err(|error| damaged(error.to_string()))?;
        stored.labels = Some(labels);
    }
    Ok(stored)
}

/// Decodes a weights folder from the contents of its `config.json` and `model.safetensors`.
///
/// Fails as [`load`] does; errors name the files as those in `folder`.
pub fn decode(folder: &Path, config: &[u8], model: &[u8]) -> Result<Stored> {
    let path = folder.join(CONFIG_FILE);
    let damaged = |reason: String| Error::Damaged { path: path.clone(), reason };
    let Described { config, preprocessing, labels } = Described::read(config).map_err(damaged)?;
    config.check().map_err(|error| damaged(error.to_string()))?;
    let path = folder.join(MODEL_FILE);
    let tensors = accept(&path.display().to_string(), &config, parse(&path, model)?)?;
    let checked = match &preprocessing {
        Some(preprocessing) => preprocessing.check(config.image_size()),
        None => Ok(()),
    };
    let checked = checked.and_then(|()| labels.as_ref().map_or(Ok(()), |labels| check_labels(labels, &config)));
    checked.map_err(|e| damaged(e.to_string()))?;
    Ok(Stored { config, preprocessing, labels, tensors })
}

/// The most bytes of a configuration; that of VGG-16 has about a thousand.
const CONFIG_BYTES: u64 = 1 << 20;

/// Reads every tensor of the safetensors file `path`.
pub fn read(path: &Path) -> Result<HashMap<String, Tensor>> {
    parse(path, &read_regular(path, u64::MAX).map_err(io(path))?)
}

/// The tensors of the safetensors file `path`, which holds `bytes`.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<HashMap<String, Tensor>> {
    candle_core::safetensors::load_buffer(bytes, &Device::Cpu)
        .map_err(|e| Error::Damaged { path: path.to_owned(), reason: format!("not a safetensors file ({e})") })
}

/// Copies the values of `tensors` into `parameters`.
///
/// Fails without changing anything if names ([`Error::Names`]) or shapes ([`Error::Tensor`]) differ.
pub fn load_into(parameters: &Parameters, tensors: &Tensors) -> Result<()> {
    let vars = parameters.all();
    let origin = "the tensors given";
    let expected = vars.iter().map(|(name, var)| (name.clone(), var.dims().to_vec())).collect();
    check_names(origin, &expected, tensors.keys())?;
    for (name, shape) in &expected {
        check_tensor(origin, name, shape, &tensors[name])?;
    }
    for (name, var) in vars {
        var.set(&tensors[&name].to_dtype(var.dtype())?.to_device(var.device())?)?;
    }
    Ok(())
}

/// Checks `tensors`, read from `origin`, against the names and shapes of `config`, and converts them to f32.
///
/// Drops what PyTorch stores and the model does not: batch counters, and constants that the model computes, if equal.
/// Fails with every missing and unexpected name ([`Error::Names`]), or with the first tensor that has another shape, is
/// not floating-point or holds a number that is not finite ([`Error::Tensor`]).
pub fn accept(
    origin: &str,
    config: &ModelConfig,
    tensors: impl IntoIterator<Item = (String, Tensor)>,
) -> Result<Tensors> {
    let expected = config.shapes()?;
    let mut tensors: Tensors =
        tensors.into_iter().filter(|(name, _)| !name.ends_with(".num_batches_tracked")).collect();
    for (name, buffer) in config.buffers()? {
        let Some(found) = tensors.remove(name) else { continue };
        check_tensor(origin, name, buffer.dims(), &found)?;
        let differs = |_| Error::Tensor {
            origin: origin.to_owned(),
            name: name.to_owned(),
            found: "another constant".to_owned(),
            expected: "the values that the model computes".to_owned(),
        };
        // Half precision keeps 11 bits of a number, bf16 only 8.
        let tolerance = match found.dtype() {
            DType::F16 => 1e-3,
            DType::BF16 => 1e-2,
            _ => 1e-4,
        };
        testing::compare(name, &found, &buffer, tolerance).map_err(differs)?;
    }
    check_names(origin, &expected, tensors.keys())?;
    for (name, tensor) in &mut tensors {
        check_tensor(origin, name, &expected[name], tensor)?;
        *tensor = tensor.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.contiguous()?;
        check_finite(origin, name, tensor)?;
    }
    Ok(tensors)
}

/// Fails with [`Error::Tensor`] if `tensor`, read from or meant for `origin`, holds NaN or an infinity.
pub fn check_finite(origin: &str, name: &str, tensor: &Tensor) -> Result<()> {
    let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    let Some(position) = values.iter().position(|value| !value.is_finite()) else { return Ok(()) };
    Err(Error::Tensor {
        origin: origin.to_owned(),
        name: name.to_owned(),
        found: format!("{} at position {position}", values[position]),
        expected: "finite numbers".to_owned(),
    })
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Io { path: path.to_owned(), source }
}

fn check_names<'a>(
    origin: &str,
    expected: &BTreeMap<String, Vec<usize>>,
    found: impl Iterator<Item = &'a String>,
) -> Result<()> {
    let found: BTreeSet<&String> = found.collect();
    let missing: Vec<String> = expected.keys().filter(|name| !found.contains(name)).cloned().collect();
    let unexpected: Vec<String> = found.into_iter().filter(|name| !expected.contains_key(*name)).cloned().collect();
    if missing.is_empty() && unexpected.is_empty() {
        return Ok(());
    }
    Err(Error::Names { origin: origin.to_owned(), missing, unexpected })
}

fn check_tensor(origin: &str, name: &str, shape: &[usize], found: &Tensor) -> Result<()> {
    let wrong = |found: String, expected: String| {
        Err(Error::Tensor { origin: origin.to_owned(), name: name.to_owned(), found, expected })
    };
    if found.dims() != shape {
        return wrong(format!("of shape {:?}", found.dims()), format!("{shape:?}"));
    }
    if !found.dtype().is_float() {
        return wrong(format!("of type {}", found.dtype().as_str()), "f32".to_owned());
    }
    Ok(())
}
