//! Every mixer and every kind of model at a tiny size, in f64 with dropout, against finite differences.

use crate::{mixer, normal, parameters};
use candle_core::{DType, Var};
use convnn_core::{Pass, Streams, testing};
use convnn_models::{MixerConfig, Model, ModelConfig};
use serde_json::{Value, json};

const TOLERANCE: f64 = 1e-5;

fn pass() -> Pass {
    Pass::training(&Streams::new(5), 0)
}

fn check_mixer(config: Value) {
    let label = config.to_string();
    let config: MixerConfig = serde_json::from_value(config).unwrap();
    let parameters = parameters(DType::F64);
    let mixer = mixer(&config, 6, 8, &parameters);
    let input = Var::from_tensor(&normal(&label, &[2, 6, 8], DType::F64)).unwrap();
    let mut inputs = vec![input.clone()];
    inputs.extend(parameters.trainable().into_iter().map(|(_, var)| var));
    testing::gradients(&label, &inputs, || mixer.forward_t(&input, &pass()), TOLERANCE).unwrap();
}

#[test]
fn mixers() {
    for kernel in ["standard", "depthwise", "depthwise_separable"] {
        check_mixer(
            json!({ "kind": "conv_nn_attention", "heads": 2, "neighbors": 3, "kernel": kernel, "dropout": 0.3 }),
        );
    }
    check_mixer(json!({ "kind": "multi_head_attention", "heads": 2, "dropout": 0.3 }));
    check_mixer(json!({ "kind": "kvt_attention", "heads": 2, "neighbors": 3, "dropout": 0.3 }));
    check_mixer(json!({ "kind": "sparse_attention", "heads": 2, "mode": "local", "window": 3, "dropout": 0.3 }));
    check_mixer(json!({ "kind": "sparse_attention", "heads": 1, "mode": "strided", "window": 2 }));
    check_mixer(json!({ "kind": "sparse_attention", "heads": 2, "mode": "all" }));
    check_mixer(json!({ "kind": "local_attention", "heads": 2, "window": 2, "dim_head": 6 }));
    check_mixer(json!({ "kind": "local_attention", "heads": 2, "window": 4, "dim_head": 6, "published": true }));
    check_mixer(json!({ "kind": "pool_tokens", "window": 3 }));
    let branching = |other: &str, ratio: f64, kernel_size: usize| {
        let sizes = json!({ "kind": "branching_tokens", "heads": 2, "neighbors": 3, "other": other,
                            "branch_ratio": ratio, "kernel_size": kernel_size });
        check_mixer(sizes);
    };
    branching("conv1d", 0.5, 3);
    branching("conv1d", 0.25, 4);
    branching("attention", 0.75, 1);
    branching("attention", 0.0, 1);
    branching("attention", 1.0, 1);
}

fn model(config: Value) {
    let label = config.to_string();
    let config: ModelConfig = serde_json::from_value(config).unwrap();
    let parameters = parameters(DType::F64);
    let model = Model::new(&config, parameters.builder()).unwrap();
    let side = config.image_size();
    let images = Var::from_tensor(&normal(&label, &[3, 3, side, side], DType::F64)).unwrap();
    let mut inputs = vec![images.clone()];
    inputs.extend(parameters.trainable().into_iter().map(|(_, var)| var));
    testing::gradients(&label, &inputs, || model.forward_t(&images, &pass()), TOLERANCE).unwrap();
}

#[test]
fn vgg() {
    for kind in ["conv2d", "conv_nn_2d", "conv_nn_2d_attention", "branching_2d", "branching_2d_attention"] {
        let layer = if kind == "conv2d" { json!({ "kind": kind }) } else { json!({ "kind": kind, "neighbors": 4 }) };
        let model_of = |head: &str| json!({ "architecture": "vgg", "features": [4, "M", 4], "head": head, "hidden": 3, "classes": 3, "image": 4 });
        model(json!({ "model": model_of("linear"), "layer": layer }));
        model(json!({ "model": model_of("mlp"), "layer": layer }));
    }
    // A 1×1 map takes a shortcut to the head.
    let shape = json!({ "architecture": "vgg", "features": [4, "M", "M"], "hidden": 3, "classes": 3, "image": 4 });
    model(json!({ "model": shape, "layer": { "kind": "conv2d" } }));
}

#[test]
fn vit() {
    for kind in ["multi_head_attention", "conv_nn_attention"] {
        let layer =
            if kind == "conv_nn_attention" { json!({ "kind": kind, "neighbors": 3 }) } else { json!({ "kind": kind }) };
        let shape =
            json!({ "architecture": "vit", "image": 4, "patch": 2, "dim": 6, "mlp": 4, "layers": 2, "classes": 3 });
        model(json!({ "model": shape, "layer": layer }));
    }
}
