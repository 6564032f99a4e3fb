//! Token mixers and models from the options of a case.

use candle_core::Tensor;
use convnn_core::Parameters;
use convnn_core::testing::golden::{self, Case, Error, LAYERS, Result, Subject, Tensors};
use convnn_models::{Mixer, MixerConfig, Model, ModelConfig, Network};

/// The kinds that [`golden::layer`] does not build.
const KINDS: [&str; 7] =
    ["multi_head_attention", "kvt_attention", "sparse_attention", "local_attention", "branching_tokens", "vgg", "vit"];

/// Builds the layer, mixer or model of a case.
pub(super) fn build(case: &Case, parameters: &Parameters) -> Result<Subject> {
    match case.layer.as_str() {
        kind if LAYERS.contains(&kind) => golden::layer(case, parameters),
        "vgg" | "vit" => model(case, parameters),
        kind if KINDS.contains(&kind) => mixer(case, parameters),
        kind => {
            let expected = [&LAYERS[..], &KINDS].concat().join(", ");
            Err(Error::new(format!("the metadata `layer` is `{kind}`; expected one of {expected}")))
        }
    }
}

fn mixer(case: &Case, parameters: &Parameters) -> Result<Subject> {
    let candidates = case.candidates()?;
    let (dim, config) = case.options(&[], |words| MixerConfig::from_fixture(&case.layer, &words))?;
    let mixer = Mixer::new(dim, &config, parameters.builder())?;
    let mixer = match candidates {
        Some(candidates) => mixer.with_candidates(candidates),
        None => mixer,
    };
    Ok(Subject::layer(move |x, pass| mixer.forward(x, pass), vec![None, None, Some(dim)]))
}

fn model(case: &Case, parameters: &Parameters) -> Result<Subject> {
    if case.config.get("candidates").is_some_and(|candidates| candidates.get("random").is_some()) {
        let expected = "all or spatial, since each step would draw its own";
        return Err(Error::new(format!("config: option `candidates` is random; expected {expected}")));
    }
    let mut config = case.options(&[], |words| ModelConfig::from_fixture(&case.layer, &words))?;
    if let (ModelConfig::Vgg { model, .. }, None) = (&mut config, case.config.get("image")) {
        // A VGG takes images of any size, so that a case need not name it.
        model.image = case.values("input")?.dims().last().copied().unwrap_or(model.image);
    }
    let mut model = Model::new(&config, parameters.builder()).map_err(Error::new)?;
    let mut constants = Tensors::new();
    if let Network::Vit(vit) = model.network_mut() {
        constants.insert("param.positional_encoding.pe".to_owned(), vit.positions().clone());
    }
    let side = Some(config.image_size());
    let forward = Box::new(move |x: &Tensor, pass: &_| model.forward(x, pass));
    Ok(Subject { forward, input: vec![None, Some(3), side, side], constants, classes: Some(config.classes()) })
}
