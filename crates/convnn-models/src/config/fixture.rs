//! Configurations in the flat form of the golden files: one table of words, the layer among them.

use super::{MixerConfig, ModelConfig, VggConfig, VitConfig};
use crate::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Words of a golden training case that tell how to train, not what.
const TRAINING_WORDS: [&str; 5] = ["optimizer", "lr", "weight_decay", "clip_grad_norm", "steps"];

impl ModelConfig {
    /// Reads the `config` of a golden training case of the model `architecture` (`vgg` or `vit`).
    ///
    /// Such a case trains without dropout, and so does the configuration returned.
    ///
    /// # Errors
    /// [`Error::Value`] for another architecture, [`Error::Words`] for a word or value that is not known.
    pub fn from_fixture(architecture: &str, config: &Map<String, Value>) -> Result<Self> {
        let mut words = config.clone();
        for word in TRAINING_WORDS {
            words.remove(word);
        }
        let mut config = match architecture {
            "vgg" => Self::Vgg { model: take::<VggConfig>(&mut words)?, layer: rest(words, "layer")? },
            "vit" => Self::Vit { model: take::<VitConfig>(&mut words)?, layer: rest(words, "mixer")? },
            _ => {
                let found = format!("`{architecture}`");
                return Err(Error::Value { key: "model.architecture", found, expected: "`vgg` or `vit`".into() });
            }
        };
        config.remove_dropout();
        Ok(config)
    }

    /// Sets every dropout to 0.
    pub const fn remove_dropout(&mut self) {
        match self {
            Self::Vgg { model, .. } => model.dropout = 0.0,
            Self::Vit { model, layer } => {
                model.dropout = 0.0;
                layer.remove_dropout();
            }
        }
    }
}

impl MixerConfig {
    /// Reads the `config` of a golden case of the mixer `kind`: its width D, and its options without dropout.
    ///
    /// # Errors
    /// [`Error::Value`] where `dim` is missing, [`Error::Words`] for a word or value that is not known.
    pub fn from_fixture(kind: &str, config: &Map<String, Value>) -> Result<(usize, Self)> {
        let mut words = config.clone();
        let dim = words.remove("dim").and_then(|dim| dim.as_u64()).ok_or_else(|| Error::Value {
            key: "dim",
            found: "missing".into(),
            expected: "the width of the tokens".into(),
        })?;
        words.insert("kind".into(), kind.into());
        let mut mixer: Self = serde_json::from_value(Value::Object(words)).map_err(Error::Words)?;
        mixer.remove_dropout();
        Ok((dim as usize, mixer))
    }

    /// Sets the dropout to 0.
    pub const fn remove_dropout(&mut self) {
        match self {
            Self::MultiHeadAttention(c) => c.dropout = 0.0,
            Self::ConvNnAttention(c) => c.dropout = 0.0,
            Self::KvtAttention(c) => c.dropout = 0.0,
            Self::SparseAttention(c) => c.dropout = 0.0,
            Self::BranchingTokens(c) => c.dropout = 0.0,
            Self::LocalAttention(_) => {}
        }
    }
}

/// Takes the words of the table `T` out of `words`.
fn take<T: Default + Serialize + DeserializeOwned>(words: &mut Map<String, Value>) -> Result<T> {
    let mut table = serde_json::to_value(T::default()).map_err(Error::Words)?;
    if let Some(table) = table.as_object_mut() {
        for (word, value) in table.iter_mut() {
            if let Some(given) = words.remove(word) {
                *value = given;
            }
        }
    }
    serde_json::from_value(table).map_err(Error::Words)
}

/// Reads what is left of `words` as the layer whose kind stands under `key`.
fn rest<T: DeserializeOwned>(mut words: Map<String, Value>, key: &str) -> Result<T> {
    if let Some(kind) = words.remove(key) {
        words.insert("kind".into(), kind);
    }
    serde_json::from_value(Value::Object(words)).map_err(Error::Words)
}
