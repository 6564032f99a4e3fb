//! Golden cases: the flat tables of options in their metadata, as configurations.

use crate::{Error, MixerConfig, ModelConfig, Result};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// Options of a training case that tell how the model is trained.
const TRAINING: [&str; 5] = ["optimizer", "lr", "weight_decay", "clip_grad_norm", "steps"];

/// The configuration of a case about a model, without dropout: the losses of a training case are computed without.
pub fn model(architecture: &str, options: &Map<String, Value>) -> Result<ModelConfig> {
    let defaults = ModelConfig::model_defaults(architecture).map_err(Error::Words)?;
    let (mut model, mut layer) = (Map::new(), Map::new());
    model.insert("architecture".to_owned(), architecture.into());
    for (key, value) in options.iter().filter(|(key, _)| !TRAINING.contains(&key.as_str())) {
        let (table, key) = match key.as_str() {
            "layer" | "mixer" => (&mut layer, "kind"),
            key if defaults.get(key).is_some() => (&mut model, key),
            key => (&mut layer, key),
        };
        table.insert(key.to_owned(), value.clone());
    }
    let config: ModelConfig = parse(json!({ "model": model, "layer": layer }))?;
    let mut tables = serde_json::to_value(config).map_err(Error::Words)?;
    for table in ["model", "layer"] {
        if let Some(dropout) = tables[table].get_mut("dropout") {
            *dropout = json!(0.0);
        }
    }
    parse(tables)
}

/// The width D and the options of a case about the token mixer `kind`.
pub fn mixer(kind: &str, options: &Map<String, Value>) -> Result<(usize, MixerConfig)> {
    let mut options = options.clone();
    let dim = options.remove("dim").and_then(|dim| dim.as_u64()).ok_or_else(|| Error::Value {
        key: "dim",
        found: "missing".into(),
        expected: "the width of the tokens".into(),
    })?;
    options.insert("kind".into(), kind.into());
    Ok((dim as usize, parse(Value::Object(options))?))
}

fn parse<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(Error::Words)
}
