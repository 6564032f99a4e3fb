//! A trained model on disk: the folder `model.safetensors`, `config.json`, `README.md` of the model hubs.
//!
//! Tensors are f32, with PyTorch's names, shapes and layouts, so that either side reads what the other wrote. Files are
//! written aside, synced and renamed, so that a folder never holds half a file.

use crate::vit::sine_cosine;
use crate::{Error, ModelCard, ModelConfig, Result};
use candle_core::{DType, Device, Tensor};
use convnn_core::{Parameters, check};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// The file of the tensors.
pub const MODEL_FILE: &str = "model.safetensors";
/// The file of the configuration.
pub const CONFIG_FILE: &str = "config.json";
/// The file of the model card.
pub const CARD_FILE: &str = "README.md";

/// PyTorch's buffer of fixed positions, which a model computes for itself.
const POSITIONS: &str = "positional_encoding.pe";

/// Writes `parameters`, the configuration they belong to and a model card into `folder`, which is made where missing.
///
/// # Errors
/// [`Error::Names`] or [`Error::Tensor`] where the parameters are not those of `config`; [`Error::Io`] where a file
/// cannot be written, in which case what was there before stays.
pub fn save(folder: &Path, config: &ModelConfig, parameters: &Parameters, card: &ModelCard) -> Result<()> {
    let tensors = parameters.all().into_iter().map(|(name, var)| (name, var.as_detached_tensor()));
    let mut tensors = accept("the parameters given", config, tensors)?;
    if let Some(positions) = positions(config)? {
        tensors.insert(POSITIONS.to_owned(), positions.contiguous()?);
    }
    std::fs::create_dir_all(folder).map_err(|source| Error::Io { path: folder.to_owned(), source })?;
    let config_text = serde_json::to_string_pretty(config).map_err(Error::Words)? + "\n";
    let card_text = card.text(config)?;
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let path = folder.join(MODEL_FILE);
    let bytes = safetensors::serialize(&tensors, Some(metadata))
        .map_err(|e| Error::Io { path: path.clone(), source: std::io::Error::other(e) })?;
    write_aside(&path, &bytes)?;
    write_aside(&folder.join(CONFIG_FILE), config_text.as_bytes())?;
    write_aside(&folder.join(CARD_FILE), card_text.as_bytes())
}

/// Reads the configuration and the tensors of `folder`, every name and shape checked.
///
/// # Errors
/// [`Error::Io`] where a file cannot be read, [`Error::Damaged`] where it is no such file, [`Error::Names`] or
/// [`Error::Tensor`] where the tensors are not those of the configuration, or what [`ModelConfig::check`] finds.
pub fn load(folder: &Path) -> Result<(ModelConfig, Tensors)> {
    let path = folder.join(CONFIG_FILE);
    let text = std::fs::read_to_string(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
    let config: ModelConfig =
        serde_json::from_str(&text).map_err(|e| Error::Damaged { path, reason: e.to_string() })?;
    let path = folder.join(MODEL_FILE);
    let tensors = accept(&path.display().to_string(), &config, read(&path)?)?;
    Ok((config, tensors))
}

/// Every tensor of the safetensors file `path`, unchecked.
///
/// # Errors
/// [`Error::Io`] where it cannot be read, [`Error::Damaged`] where it is no safetensors file.
pub fn read(path: &Path) -> Result<HashMap<String, Tensor>> {
    let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
        .map_err(|e| Error::Damaged { path: path.to_owned(), reason: format!("no safetensors file ({e})") })
}

/// Puts the values of `tensors` into `parameters`.
///
/// # Errors
/// [`Error::Names`] where the names differ, [`Error::Tensor`] where a shape does; the parameters are then unchanged.
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

/// Holds `tensors`, which come from `origin`, against the names and shapes of `config`, and gives them as f32.
///
/// PyTorch's buffers that are no parameters here are left out: counters of batches, and the fixed positions where they
/// are those that the model computes.
///
/// # Errors
/// [`Error::Names`] with all that is missing or left over; [`Error::Tensor`] for another shape or type.
pub fn accept(
    origin: &str,
    config: &ModelConfig,
    tensors: impl IntoIterator<Item = (String, Tensor)>,
) -> Result<Tensors> {
    let expected = config.shapes()?;
    let mut tensors: Tensors =
        tensors.into_iter().filter(|(name, _)| !name.ends_with(".num_batches_tracked")).collect();
    if let (Some(found), Some(positions)) = (tensors.get(POSITIONS), positions(config)?) {
        check_tensor(origin, POSITIONS, positions.dims(), found)?;
        let differs = |_| {
            let (found, expected) =
                ("not the fixed encoding".to_owned(), "sines and cosines of the position".to_owned());
            Error::Tensor { origin: origin.to_owned(), name: POSITIONS.to_owned(), found, expected }
        };
        // Half precision keeps 11 bits of a number, bf16 only 8.
        let tolerance = match found.dtype() {
            DType::F16 => 1e-3,
            DType::BF16 => 1e-2,
            _ => 1e-4,
        };
        check::compare(POSITIONS, found, &positions, tolerance).map_err(differs)?;
        tensors.remove(POSITIONS);
    }
    check_names(origin, &expected, tensors.keys())?;
    for (name, tensor) in &mut tensors {
        check_tensor(origin, name, &expected[name], tensor)?;
        *tensor = tensor.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.contiguous()?;
    }
    Ok(tensors)
}

/// The buffer of positions of a Vision Transformer.
fn positions(config: &ModelConfig) -> Result<Option<Tensor>> {
    let ModelConfig::Vit { model, .. } = config else { return Ok(None) };
    Ok(Some(sine_cosine(model.tokens(), model.dim, &Device::Cpu)?.to_dtype(DType::F32)?))
}

fn check_names<'a>(
    origin: &str,
    expected: &BTreeMap<String, Vec<usize>>,
    found: impl Iterator<Item = &'a String>,
) -> Result<()> {
    let found: std::collections::BTreeSet<&String> = found.collect();
    let missing: Vec<String> = expected.keys().filter(|name| !found.contains(name)).cloned().collect();
    let left_over: Vec<String> = found.into_iter().filter(|name| !expected.contains_key(*name)).cloned().collect();
    if missing.is_empty() && left_over.is_empty() {
        return Ok(());
    }
    Err(Error::Names { origin: origin.to_owned(), missing, left_over })
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

/// Writes `bytes` beside `path`, syncs them and gives the file its name.
fn write_aside(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}.part", std::process::id()));
    let aside = PathBuf::from(aside);
    let written = File::create(&aside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&aside, path)?;
        // The name itself is safe once the folder is synced; systems that cannot sync a folder need no such step.
        path.parent().map_or(Ok(()), |folder| File::open(folder).and_then(|folder| folder.sync_all()).or(Ok(())))
    });
    written.map_err(|source| {
        // The first error is the one to report.
        let _ = std::fs::remove_file(&aside);
        Error::Io { path: path.to_owned(), source }
    })
}
