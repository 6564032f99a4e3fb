//! Every preset: a finite forward pass, and a finite gradient for every parameter, not all zero.

use crate::{normal, parameters, targets};
use candle_core::DType;
use convnn_core::{Pass, Streams, backward, nn};
use convnn_models::{MixerConfig, Model, ModelConfig, presets};

/// The full-size heads of VGG hold 120 M of 130 M parameters and are all alike: narrow ones show the same.
fn narrowed(mut config: ModelConfig) -> ModelConfig {
    if let ModelConfig::Vgg { model, .. } = &mut config {
        model.hidden = 64;
    }
    config
}

#[test]
fn every_parameter_of_every_preset_learns() {
    for preset in presets() {
        let config = narrowed(preset.config());
        let parameters = parameters(DType::F32);
        let model = Model::new(&config, parameters.builder()).unwrap();
        assert_eq!(parameters.count(), config.parameter_count().unwrap(), "{}", preset.name);
        let batch = if config.image_size() > 32 { 1 } else { 4 };
        let images = normal("images", &[batch, 3, config.image_size(), config.image_size()], DType::F32);
        let evaluate = || {
            let logits = model.forward_t(&images, &Pass::evaluation()).unwrap();
            assert_eq!(logits.dims(), [batch, 10]);
            logits.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let logits = evaluate();
        assert!(logits.iter().all(|v| v.is_finite()), "{}: {logits:?}", preset.name);
        assert_eq!(logits, evaluate(), "{}: evaluating twice gives other numbers", preset.name);
        let logits = model.forward_t(&images, &Pass::training(&Streams::new(0), 0)).unwrap();
        let loss = nn::cross_entropy(&logits, &targets(batch, 10)).unwrap();
        let gradients = backward(&loss).unwrap();
        for (name, var) in parameters.trainable() {
            let gradient = gradients.get(var.as_tensor()).unwrap_or_else(|| panic!("{}: {name} has none", preset.name));
            let largest = gradient.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
            assert!(largest.is_finite() && largest > 0.0, "{}: {name}: {largest}", preset.name);
            assert_eq!(gradient.dims(), var.dims(), "{}: {name}", preset.name);
        }
    }
}

fn head_gain(config: &ModelConfig) -> f64 {
    match config {
        ModelConfig::Vgg { model, .. } => model.head_gain,
        ModelConfig::Vit { model, .. } => model.head_gain,
        other => panic!("{other:?}"),
    }
}

#[test]
fn presets_with_a_small_head_gain_start_at_chance() {
    for preset in presets().iter().filter(|preset| head_gain(&preset.config()) != 1.0) {
        let config = preset.config();
        let side = config.image_size();
        let model = Model::new(&config, parameters(DType::F32).builder()).unwrap();
        let images = normal("images", &[40, 3, side, side], DType::F32);
        let logits = model.forward_t(&images, &Pass::training(&Streams::new(0), 0)).unwrap();
        let loss = nn::cross_entropy(&logits, &targets(40, 10)).unwrap().to_scalar::<f32>().unwrap();
        let chance = 10f32.ln();
        assert!((loss - chance).abs() <= 0.05 * chance, "{}: {loss}, chance is {chance}", preset.name);
    }
}

#[test]
fn images_of_another_size_are_refused() {
    let config = convnn_models::preset("vgg11_compact").unwrap().config();
    let model = Model::new(&config, parameters(DType::F32).builder()).unwrap();
    let error = model.forward_t(&normal("images", &[1, 3, 32, 16], DType::F32), &Pass::evaluation()).unwrap_err();
    assert_eq!(error.to_string(), "model: `images` has shape [1, 3, 32, 16]; expected (B, 3, 32, 32)");
}

#[test]
fn training_twice_at_one_step_gives_the_same_bits() {
    for name in ["vgg11_compact", "vit_compact_random", "vit_compact_attention"] {
        let config = convnn_models::preset(name).unwrap().config();
        let model = Model::new(&config, parameters(DType::F32).builder()).unwrap();
        let images = normal("images", &[2, 3, 32, 32], DType::F32);
        let run = |step| {
            let logits = model.forward_t(&images, &Pass::training(&Streams::new(7), step)).unwrap();
            logits.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(run(3), run(3), "{name}");
        if name.starts_with("vit") {
            assert_ne!(run(3), run(4), "{name}: dropout and candidates change with the step");
        }
    }
}

#[test]
fn the_local_baseline_is_the_published_one() {
    let config = convnn_models::preset("vit_tiny_local").unwrap().config();
    let ModelConfig::Vit { layer: MixerConfig::LocalAttention(layer), .. } = config else { panic!("{config:?}") };
    assert!(layer.published);
}

/// What is observed on the way is what the model computes: tokens of every layer, the neighbors of those that choose some,
/// and the features before the last layer.
#[test]
fn a_forward_pass_can_be_observed() {
    // Layers, tokens of the first one, and the neighbors it chooses for each.
    let cases = [
        ("vgg11_compact", 8, 1024, Some(9)),
        ("vit_compact", 6, 65, Some(9)),
        ("vit_compact_kvt", 6, 65, Some(33)),
        ("vit_compact_attention", 6, 65, None),
    ];
    for (name, layers, tokens, k) in cases {
        let config = convnn_models::preset(name).unwrap().config();
        let model = Model::new(&config, parameters(DType::F32).builder()).unwrap();
        let images = normal("images", &[2, 3, 32, 32], DType::F32);
        let mut seen = Vec::new();
        let mut observe = |layer: convnn_models::Observed<'_>| {
            assert_eq!(layer.index, seen.len(), "{name}");
            seen.push((layer.tokens.dim(1)?, layer.neighbors()?.map(|found| found.index().dims().to_vec())));
            Ok(())
        };
        let observed = model.forward_observed(&images, &mut observe).unwrap();
        assert_eq!(seen.len(), layers, "{name}");
        assert_eq!(seen[0], (tokens, k.map(|k| vec![2, tokens, k])), "{name}");
        let values = |x: &candle_core::Tensor| x.to_vec2::<f32>().unwrap();
        let logits = values(&model.forward_t(&images, &Pass::evaluation()).unwrap());
        assert_eq!(values(&observed), logits, "{name}");
        let features = model.features(&images).unwrap();
        assert_eq!(values(&model.network().classify(&features).unwrap()), logits, "{name}");
    }
}
