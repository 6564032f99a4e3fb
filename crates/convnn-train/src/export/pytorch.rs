//! The model as a PyTorch program, with logits to compare it with.

use crate::session::Session;
use crate::{Error, Result};
use candle_core::{DType, Device};
use candle_nn::Module;
use convnn_data::Dataset;
use convnn_models::weights::{Files, Stored};
use convnn_models::{Loaded, ModelConfig};
use std::collections::BTreeMap;

/// The program.
pub const PROGRAM_FILE: &str = "model.py";
/// Images and their logits.
pub const REFERENCE_FILE: &str = "reference.safetensors";
/// Number of images in it.
const IMAGES: usize = 4;

/// Kinds of layers that the program has.
const KINDS: [&str; 7] = [
    "conv2d",
    "conv_nn_2d",
    "conv_nn_2d_attention",
    "branching_2d",
    "branching_2d_attention",
    "multi_head_attention",
    "conv_nn_attention",
];

/// Options that must have one of these values, if the layer has them.
const OPTIONS: [(&str, &[&str]); 4] =
    [("compare", &["features"]), ("values", &["features"]), ("shuffle", &["none"]), ("positions", &["false"])];

/// Fails unless the program can compute the model.
pub(super) fn check(config: &ModelConfig) -> Result<()> {
    let wrong = |key: String, found: String, expected: String| {
        Err(Error::Value { key, found, expected: format!("{expected} for `--to pytorch`") })
    };
    let value = serde_json::to_value(config).map_err(convnn_models::Error::Words)?;
    let layer = &value["layer"];
    if !KINDS.contains(&config.layer_kind()) {
        return wrong("layer.kind".to_owned(), config.layer_kind().to_owned(), KINDS.join(", "));
    }
    for (key, accepted) in OPTIONS {
        let Some(found) = layer.get(key) else { continue };
        let found = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
        if !accepted.contains(&found.as_str()) {
            return wrong(format!("layer.{key}"), found, accepted.join(", "));
        }
    }
    match layer["candidates"].get("random") {
        Some(_) => wrong("layer.candidates".to_owned(), "random".to_owned(), "all or spatial".to_owned()),
        None => Ok(()),
    }
}

/// Adds the program and the reference: test images, and their logits in 64 bits.
pub(super) fn add(files: &mut Files, stored: Stored, session: &Session, data: &Dataset) -> Result<()> {
    let loaded = Loaded::new(stored, DType::F64, &Device::Cpu)?;
    let loader = session.test_loader(data, IMAGES)?;
    let Some(batch) = loader.epoch(0)?.next() else { return Ok(()) };
    let images = batch?.images.to_dtype(DType::F64)?;
    let logits = loaded.model.forward(&images)?;
    let tensors = BTreeMap::from([("images", images), ("logits", logits)]);
    let bytes = safetensors::serialize(&tensors, None).map_err(std::io::Error::other);
    let bytes = bytes.map_err(Error::io("write", REFERENCE_FILE.as_ref()))?;
    files.insert(REFERENCE_FILE.to_owned(), bytes);
    files.insert(PROGRAM_FILE.to_owned(), include_bytes!("model.py").to_vec());
    Ok(())
}
