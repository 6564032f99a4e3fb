//! Tables, defaults, and one line for each thing that can be wrong.

use convnn_models::{ModelConfig, Result, preset, presets};
use serde_json::{Value, json};

fn parse(model: Value, layer: Value) -> std::result::Result<ModelConfig, serde_json::Error> {
    serde_json::from_value(json!({ "model": model, "layer": layer }))
}

/// The line that a wrong configuration gives.
#[track_caller]
fn line(model: Value, layer: Value) -> String {
    parse(model, layer).unwrap().check().unwrap_err().to_string()
}

fn vgg(key: &str, value: Value) -> Value {
    json!({ "architecture": "vgg", key: value })
}

fn vit(key: &str, value: Value) -> Value {
    json!({ "architecture": "vit", key: value })
}

#[test]
fn presets_survive_toml_and_json() {
    for preset in presets() {
        let config = (preset.config)();
        config.check().unwrap();
        let text = toml::to_string(&config).unwrap();
        assert!(text.starts_with("[model]\narchitecture = "), "{text}");
        assert!(text.contains("\n[layer]\nkind = "), "{text}");
        assert_eq!(toml::from_str::<ModelConfig>(&text).unwrap(), config, "{text}");
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<ModelConfig>(&text).unwrap(), config, "{text}");
        assert!(!preset.summary.is_empty());
    }
}

#[test]
fn every_option_is_written() {
    let written = |name: &str| toml::to_string(&(preset(name).unwrap().config)()).unwrap();
    let vgg = written("vgg11");
    for key in ["features", "head", "hidden", "classes", "image", "dropout", "branch_ratio", "kernel_size", "neighbors"]
    {
        assert!(vgg.contains(&format!("{key} = ")), "{key}: {vgg}");
    }
    for key in ["padding", "similarity", "compare", "values", "candidates", "shuffle", "shuffle_scale"] {
        assert!(vgg.contains(&format!("{key} = ")), "{key}: {vgg}");
    }
    let vit = written("vit_tiny");
    for key in ["patch", "dim", "mlp", "layers", "heads", "kernel", "modulation", "positions", "candidates", "dropout"]
    {
        assert!(vit.contains(&format!("{key} = ")), "{key}: {vit}");
    }
}

#[test]
fn a_table_may_name_only_what_it_changes() {
    let text = "[model]\narchitecture = 'vgg'\nfeatures = [8, 'M']\n[layer]\nkind = 'branching_2d'\nbranch_ratio = 1\n\
                compare = { blend = 0.25 }\ncandidates = { spatial = { n = 8 } }\n";
    let config: ModelConfig = toml::from_str(text).unwrap();
    config.check().unwrap();
    assert_eq!((config.classes(), config.image_size(), config.layer_kind()), (10, 32, "branching_2d"));
}

#[test]
fn unknown_words_are_named() {
    let message = |model, layer| parse(model, layer).unwrap_err().to_string();
    let layer = json!({ "kind": "conv2d" });
    assert!(message(vgg("clases", json!(10)), layer.clone()).contains("unknown field `clases`"));
    assert!(message(json!({ "architecture": "resnet" }), layer).contains("unknown variant `resnet`"));
    let wrong = message(vgg("classes", json!(10)), json!({ "kind": "conv2d", "kernel": 3 }));
    assert!(wrong.contains("[layer]: unknown field `kernel`"), "{wrong}");
    let wrong = message(vgg("classes", json!(10)), json!({ "kind": "kvt_attention" }));
    assert!(wrong.contains("unknown variant `kvt_attention`, expected one of `conv2d`"), "{wrong}");
    let wrong = message(vgg("features", json!([64, "N"])), json!({ "kind": "conv2d" }));
    assert!(wrong.contains("a number of channels, or \"M\""), "{wrong}");
}

#[test]
fn layers_can_be_exchanged_by_kind() {
    let mut config = (preset("vgg11_compact").unwrap().config)();
    for &kind in config.layer_kinds() {
        config.set_layer_kind(kind).unwrap();
        assert_eq!(config.layer_kind(), kind);
        config.check().unwrap();
    }
    let error = config.set_layer_kind("kvt_attention").unwrap_err().to_string();
    assert!(error.starts_with("`layer.kind` is `kvt_attention`; expected one of conv2d, "), "{error}");
    let mut config = (preset("vit_compact").unwrap().config)();
    for &kind in config.layer_kinds() {
        config.set_layer_kind(kind).unwrap();
        assert_eq!(config.layer_kind(), kind);
    }
}

#[test]
fn values_out_of_range_are_named() {
    let conv = || json!({ "kind": "conv2d" });
    assert_eq!(line(vgg("classes", json!(0)), conv()), "`model.classes` is 0; expected at least 1");
    assert_eq!(line(vgg("image", json!(0)), conv()), "`model.image` is 0; expected at least 1");
    assert_eq!(line(vgg("hidden", json!(0)), conv()), "`model.hidden` is 0; expected at least 1");
    assert_eq!(
        line(vgg("dropout", json!(1.0)), conv()),
        "`model.dropout` is 1; expected a probability from 0 to below 1"
    );
    assert_eq!(
        line(vgg("features", json!(["M"])), conv()),
        "`model.features` is without a layer; expected at least one number of channels"
    );
    assert_eq!(line(vgg("features", json!([4, 0])), conv()), "`model.features` is 0; expected at least 1");
    assert_eq!(line(vgg("head_gain", json!(0.0)), conv()), "`model.head_gain` is 0; expected a number above 0");
    let small = line(vgg("image", json!(16)), conv());
    assert!(small.starts_with("`model.image` is 16; expected a larger side: the map at features.28 is 1×1"), "{small}");
    let layer =
        |key: &str, value: Value| line(vgg("classes", json!(10)), json!({ "kind": "branching_2d", key: value }));
    assert_eq!(layer("branch_ratio", json!(1.5)), "`layer.branch_ratio` is 1.5; expected a number from 0 to 1");
    assert_eq!(
        layer("branch_ratio", json!(0.01)),
        "`layer.branch_ratio` is 0.01; expected 0, or at least 0.015625: features.0 has 64 channels"
    );
    assert_eq!(layer("kernel_size", json!(0)), "`layer.kernel_size` is 0; expected at least 1");
    assert_eq!(layer("neighbors", json!(0)), "`layer.neighbors` is 0; expected at least 1");
    assert_eq!(layer("shuffle_scale", json!(0)), "`layer.shuffle_scale` is 0; expected at least 1");
    assert_eq!(
        layer("compare", json!({ "blend": -0.5 })),
        "`layer.compare.blend` is -0.5; expected a number from 0 to 1"
    );
    assert_eq!(
        layer("candidates", json!({ "random": { "n": 0 } })),
        "`layer.candidates.random.n` is 0; expected at least 1"
    );
    assert!(layer("shuffle", json!("after")).starts_with("`layer.shuffle` is after; expected `none` or `both`"));
    let attention = json!({ "kind": "conv_nn_2d_attention", "compare": "position" });
    let wrong = line(vgg("classes", json!(10)), attention);
    assert_eq!(wrong, "`layer.compare` is position; expected `features`: the layer has projections");
    let shuffle = json!({ "kind": "conv_nn_2d", "shuffle": "both", "shuffle_scale": 3 });
    let wrong = line(vgg("classes", json!(10)), shuffle);
    assert!(wrong.starts_with("`layer.shuffle_scale` is 3; expected a divisor of both sides"), "{wrong}");
    let margin = json!({ "kind": "conv_nn_2d", "neighbors": 2, "candidates": { "spatial": { "n": 4, "margin": 1 } } });
    let wrong = line(vgg("classes", json!(10)), margin);
    assert_eq!(
        wrong,
        "`layer.candidates.spatial.margin` is 1; expected less than half of 2, the side of the map at features.22"
    );
}

#[test]
fn vit_values_out_of_range_are_named() {
    let mixer = || json!({ "kind": "multi_head_attention" });
    assert_eq!(line(vit("patch", json!(0)), mixer()), "`model.patch` is 0; expected at least 1");
    assert_eq!(
        line(vit("patch", json!(15)), mixer()),
        "`model.patch` is 15; expected a divisor of the image's side, 224"
    );
    assert_eq!(line(vit("dim", json!(7)), mixer()), "`model.dim` is 7; expected an even number of at least 2");
    assert_eq!(line(vit("layers", json!(0)), mixer()), "`model.layers` is 0; expected at least 1");
    assert_eq!(line(vit("mlp", json!(0)), mixer()), "`model.mlp` is 0; expected at least 1");
    let layer =
        |kind: &str, key: &str, value: Value| line(vit("classes", json!(10)), json!({ "kind": kind, key: value }));
    for kind in ["multi_head_attention", "conv_nn_attention", "kvt_attention", "sparse_attention"] {
        let wrong = layer(kind, "heads", json!(5));
        assert_eq!(wrong, "`layer.heads` is 5; expected a divisor of the width, 192");
        let wrong = layer(kind, "dropout", json!(-0.1));
        assert_eq!(wrong, "`layer.dropout` is -0.1; expected a probability from 0 to below 1");
    }
    assert_eq!(layer("sparse_attention", "window", json!(0)), "`layer.window` is 0; expected at least 1");
    assert_eq!(layer("local_attention", "window", json!(0)), "`layer.window` is 0; expected at least 1");
    assert!(
        layer("local_attention", "dim_head", json!(3)).starts_with("`layer.dim_head` is 3; expected an even number")
    );
    assert!(
        layer("conv_nn_attention", "positions", json!(true))
            .starts_with("`layer.kernel` is depthwise; expected `standard` or `depthwise_separable`")
    );
    assert_eq!(
        layer("branching_tokens", "heads", json!(5)),
        "`layer.heads` is 5; expected a divisor of the features of the ConvNN branch, 96"
    );
    assert!(
        layer("branching_tokens", "branch_ratio", json!(0.001))
            .starts_with("`layer.branch_ratio` is 0.001; expected 0, or")
    );
    assert_eq!(
        layer("conv_nn_attention", "candidates", json!({ "spatial": { "n": 9, "margin": 99 } })),
        "`layer.candidates.spatial.margin` is 99; expected less than half of 197, the side of the token sequence"
    );
}

#[test]
fn more_neighbors_than_candidates_name_layer_and_numbers() {
    let wrong = line(vgg("classes", json!(10)), json!({ "kind": "branching_2d", "neighbors": 17 }));
    assert!(wrong.starts_with("`layer.neighbors` is 17, but features.22 has only 16 candidates;"), "{wrong}");
    let sampled = json!({ "kind": "conv_nn_2d", "candidates": { "random": { "n": 8 } } });
    let wrong = line(vgg("classes", json!(10)), sampled);
    assert!(wrong.starts_with("`layer.neighbors` is 9, but features.0 has only 8 candidates;"), "{wrong}");
    let spatial = json!({ "kind": "conv_nn_2d", "candidates": { "spatial": { "n": 2, "margin": 0 } } });
    let wrong = line(vgg("classes", json!(10)), spatial);
    assert!(wrong.starts_with("`layer.neighbors` is 9, but features.0 has only 4 candidates;"), "{wrong}");
    // On a 2×2 map three of four rows of the lattice are one and the same.
    let spatial = json!({ "kind": "conv_nn_2d", "candidates": { "spatial": { "n": 4, "margin": 0 } } });
    let wrong = line(vgg("classes", json!(10)), spatial);
    assert!(wrong.starts_with("`layer.neighbors` is 9, but features.22 has only 8 candidates;"), "{wrong}");
    for kind in ["conv_nn_attention", "kvt_attention", "branching_tokens"] {
        let wrong = line(vit("classes", json!(10)), json!({ "kind": kind, "neighbors": 198 }));
        let start = "`layer.neighbors` is 198, but transformer_encoder.0.attention has only 197 candidates;";
        assert!(wrong.starts_with(start), "{wrong}");
    }
}

#[test]
fn the_branch_alone_has_no_smallest_share() -> Result<()> {
    for ratio in [0.0, 1.0] {
        let layer = json!({ "kind": "branching_2d", "branch_ratio": ratio });
        let config = parse(vgg("classes", json!(10)), layer).unwrap();
        config.check()?;
        let branches = ["branch1", "branch2"].map(|b| config.shapes().unwrap().keys().any(|name| name.contains(b)));
        assert_eq!(branches, [ratio == 1.0, ratio == 0.0]);
    }
    Ok(())
}
