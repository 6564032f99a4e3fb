//! Golden cases of layers, token mixers and models, for [`convnn_core::testing::golden`].

use crate::mixer::{BranchingTokens, Slot};
use crate::{MixerConfig, Model, ModelConfig};
use convnn_core::Parameters;
use convnn_core::testing::golden::{self, Case, Error, LAYERS, Result, Subject};
use serde_json::{Map, Value, json};

/// Options of a training case that tell how the model is trained.
const TRAINING: [&str; 5] = ["optimizer", "lr", "weight_decay", "clip_grad_norm", "steps"];

/// Builds the layer, token mixer or model of a case, for [`golden::check`].
pub fn build(case: &Case, parameters: &Parameters) -> Result<Subject> {
    match case.layer.as_str() {
        kind if LAYERS.contains(&kind) => golden::layer(case, parameters),
        kind if MixerConfig::KINDS.contains(&kind) => mixer(case, parameters),
        kind if ModelConfig::ARCHITECTURES.contains(&kind) => model(case, parameters),
        kind => {
            let expected = [&LAYERS[..], MixerConfig::KINDS, ModelConfig::ARCHITECTURES].concat().join(", ");
            Err(Error::new(format!("the metadata `layer` is `{kind}`; expected one of {expected}")))
        }
    }
}

fn mixer(case: &Case, parameters: &Parameters) -> Result<Subject> {
    let dim = case.size("dim")?;
    let config = case.options(&["dim"], |mut options| {
        options.insert("kind".to_owned(), case.layer.clone().into());
        serde_json::from_value::<MixerConfig>(Value::Object(options))
    })?;
    let input = vec![None, None, Some(dim)];
    let vb = parameters.builder();
    if let (MixerConfig::BranchingTokens(options), Some(candidates)) = (&config, case.candidates()?) {
        let mixer = BranchingTokens::new(dim, options, vb)?.with_candidates(candidates);
        return Ok(Subject::layer(move |x, pass| crate::mixer::TokenMixer::forward_t(&mixer, x, pass), input));
    }
    let tokens = case.values("input")?.dims().get(1).copied().unwrap_or(0);
    let mixer = config.options().build(&Slot { index: 0, tokens, dim }, vb)?;
    Ok(Subject::layer(move |x, pass| mixer.forward_t(x, pass), input))
}

fn model(case: &Case, parameters: &Parameters) -> Result<Subject> {
    if case.config.get("candidates").is_some_and(|candidates| candidates.get("random").is_some()) {
        let expected = "all or spatial, since each step would draw its own";
        return Err(Error::new(format!("config: option `candidates` is random; expected {expected}")));
    }
    let mut config = case.options(&TRAINING, |options| model_config(&case.layer, options))?;
    if let (ModelConfig::Vgg { model, .. }, None) = (&mut config, case.config.get("image")) {
        // A VGG takes images of any size, so a case need not name it.
        model.image = case.values("input")?.dims().last().copied().unwrap_or(model.image);
    }
    let model = Model::new(&config, parameters.builder()).map_err(Error::new)?;
    let constants = config.buffers().map_err(Error::new)?;
    let side = Some(config.image_size());
    Ok(Subject {
        forward: Box::new(move |x, pass| model.forward_t(x, pass)),
        input: vec![None, Some(3), side, side],
        constants: constants.into_iter().map(|(name, tensor)| (format!("param.{name}"), tensor)).collect(),
        classes: Some(config.classes()),
    })
}

/// The configuration in the flat table of a case, without dropout: the losses of a training case are computed without.
fn model_config(architecture: &str, options: Map<String, Value>) -> serde_json::Result<ModelConfig> {
    let defaults = ModelConfig::model_defaults(architecture)?;
    let (mut model, mut layer) = (Map::new(), Map::new());
    model.insert("architecture".to_owned(), architecture.into());
    for (key, value) in options {
        match key.as_str() {
            "layer" | "mixer" => layer.insert("kind".to_owned(), value),
            _ if defaults.get(&key).is_some() => model.insert(key, value),
            _ => layer.insert(key, value),
        };
    }
    let config: ModelConfig = serde_json::from_value(json!({ "model": model, "layer": layer }))?;
    let mut tables = serde_json::to_value(config)?;
    for table in ["model", "layer"] {
        if let Some(dropout) = tables[table].get_mut("dropout") {
            *dropout = json!(0.0);
        }
    }
    serde_json::from_value(tables)
}
