//! Tables, defaults, and one line for each error.

use crate::path;
use convnn_models::{LayerConfig, MixerConfig, ModelConfig, Result, preset, presets};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn parse(model: Value, layer: Value) -> std::result::Result<ModelConfig, serde_json::Error> {
    serde_json::from_value(json!({ "model": model, "layer": layer }))
}

/// The error of a configuration.
#[track_caller]
fn line(model: Value, layer: Value) -> String {
    let config = parse(model, layer).unwrap();
    let line = config.check().unwrap_err().to_string();
    // What is counted from the configuration fails in the same way, where it could otherwise divide by zero.
    let counted = [config.flops().map(drop), config.layers().map(drop), config.memory().map(drop)];
    counted.into_iter().for_each(|counted| assert_eq!(counted.unwrap_err().to_string(), line));
    line
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
        let config = preset.config();
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
    let written = |name: &str| toml::to_string(&preset(name).unwrap().config()).unwrap();
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
fn unknown_keys_and_values_are_named() {
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
fn every_kind_has_a_default() {
    for (architecture, kinds) in [("vgg", LayerConfig::KINDS), ("vit", MixerConfig::KINDS)] {
        for kind in kinds {
            let config = parse(json!({ "architecture": architecture }), json!({ "kind": kind })).unwrap();
            config.check().unwrap();
            assert_eq!(config.layer_kind(), *kind);
        }
    }
    assert_eq!(ModelConfig::ARCHITECTURES, ["vgg", "vit"]);
}

/// The presets as the first version wrote them to `config.json`.
#[test]
fn configurations_of_earlier_versions_load() {
    let text = std::fs::read_to_string(path("fixtures/configs_0.1.json")).unwrap();
    let configs: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap();
    assert!(configs.len() >= 26);
    for (name, tables) in configs {
        let config: ModelConfig = serde_json::from_value(tables).unwrap();
        let mut expected = preset(&name).unwrap().config();
        // Earlier versions had the standard definition alone.
        if let ModelConfig::Vit { layer: MixerConfig::LocalAttention(layer), .. } = &mut expected {
            layer.published = false;
        }
        assert_eq!(config, expected, "{name}");
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
        "`model.features` is a list without layers; expected at least one number of channels"
    );
    assert_eq!(
        line(vgg("features", json!([4, 0])), conv()),
        "`model.features` is a list with 0; expected numbers of channels from 1 to 8192, and \"M\""
    );
    assert_eq!(
        line(vgg("features", json!([])), conv()),
        "`model.features` is a list of 0; expected a list of 1 to 1024 entries"
    );
    assert_eq!(
        line(vgg("head_gain", json!(0.0)), conv()),
        "`model.head_gain` is 0; expected a number above 0, at most 1000"
    );
    let small = line(vgg("image", json!(16)), conv());
    assert!(
        small.starts_with("`model.image` is 16; expected a larger image: the map at features.28 is 1×1"),
        "{small}"
    );
    let all = |kind: &str, options: Value| {
        let mut layer = json!({ "kind": kind });
        layer.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        line(vgg("classes", json!(10)), layer)
    };
    let layer = |key: &str, value: Value| all("branching_2d", json!({ key: value }));
    assert_eq!(layer("branch_ratio", json!(1.5)), "features.0: `branch_ratio` is 1.5; expected a number from 0 to 1");
    assert_eq!(
        layer("branch_ratio", json!(0.01)),
        "features.0: `branch_ratio` is 0.01; expected 0, or at least 0.015625 for 64 channels"
    );
    assert_eq!(layer("kernel_size", json!(0)), "features.0: `kernel_size` is 0; expected at least 1");
    assert_eq!(layer("neighbors", json!(0)), "features.0.branch1: `neighbors` is 0; expected at least 1");
    assert_eq!(layer("shuffle_scale", json!(0)), "features.0.branch1: `shuffle_scale` is 0; expected at least 1");
    assert_eq!(
        layer("compare", json!({ "blend": -0.5 })),
        "features.0.branch1: `compare.blend` is -0.5; expected a number from 0 to 1"
    );
    let none = layer("candidates", json!({ "random": { "n": 0 } }));
    assert!(none.starts_with("features.0.branch1: `neighbors` is 9, but there are only 1 candidates"), "{none}");
    let none = layer("candidates", json!({ "spatial": { "n": 0 } }));
    let expected =
        "`candidates` is spatial with n = 0, margin = 0 on a side of 32; expected n of at least 1 and a margin";
    assert!(none.starts_with(&format!("features.0.branch1: {expected}")), "{none}");
    assert!(layer("shuffle", json!("after")).starts_with("features.0: `shuffle` is after; expected none or both"));
    assert_eq!(all("conv2d", json!({ "kernel_size": 0 })), "features.0: `kernel_size` is 0; expected at least 1");
    assert_eq!(
        all("conv_nn_2d", json!({ "shuffle": "both", "shuffle_scale": 3 })),
        "features.0: `shuffle_scale` is 3 for a map of 32x32; expected a divisor of both sides"
    );
    let margin = all("conv_nn_2d", json!({ "candidates": { "spatial": { "n": 1, "margin": 1 } }, "neighbors": 1 }));
    assert_eq!(
        margin,
        "features.22: `candidates` is spatial with n = 1, margin = 1 on a side of 2; \
         expected n of at least 1 and a margin that leaves positions"
    );
}

#[test]
fn vit_values_out_of_range_are_named() {
    let mixer = || json!({ "kind": "multi_head_attention" });
    assert_eq!(line(vit("patch", json!(0)), mixer()), "`model.patch` is 0; expected at least 1");
    assert_eq!(
        line(vit("patch", json!(15)), mixer()),
        "`model.patch` is 15; expected a divisor of 224, the side of the images"
    );
    assert_eq!(line(vit("dim", json!(7)), mixer()), "`model.dim` is 7; expected an even number of at least 2");
    assert_eq!(line(vit("layers", json!(0)), mixer()), "`model.layers` is 0; expected at least 1");
    assert_eq!(line(vit("mlp", json!(0)), mixer()), "`model.mlp` is 0; expected at least 1");
    // The part of the line after the path of the first mixer.
    let layer = |kind: &str, key: &str, value: Value| {
        let line = line(vit("classes", json!(10)), json!({ "kind": kind, key: value }));
        line.strip_prefix("transformer_encoder.0.attention").unwrap().to_owned()
    };
    for kind in ["multi_head_attention", "conv_nn_attention", "kvt_attention", "sparse_attention"] {
        assert_eq!(layer(kind, "heads", json!(5)), ": `heads` is 5; expected a divisor of the width, 192");
        let wrong = layer(kind, "dropout", json!(-0.1));
        assert_eq!(wrong, ": `dropout` is -0.1; expected a number from 0 to below 1");
    }
    for kind in ["conv_nn_attention", "kvt_attention"] {
        assert_eq!(layer(kind, "neighbors", json!(0)), ": `neighbors` is 0; expected at least 1");
    }
    for kind in ["sparse_attention", "local_attention"] {
        assert_eq!(layer(kind, "window", json!(0)), ": `window` is 0; expected at least 1");
    }
    assert!(layer("local_attention", "dim_head", json!(3)).starts_with(": `dim_head` is 3; expected an even number"));
    assert_eq!(
        layer("conv_nn_attention", "positions", json!(true)),
        ": `kernel` is depthwise; expected standard or depthwise_separable with `positions`, which change the width"
    );
    let branching = |key: &str, value: Value| layer("branching_tokens", key, value);
    assert_eq!(branching("heads", json!(5)), ".convnn: `heads` is 5; expected a divisor of the width, 96");
    assert_eq!(branching("kernel_size", json!(0)), ": `kernel_size` is 0; expected at least 1");
    assert_eq!(branching("branch_ratio", json!(-0.5)), ": `branch_ratio` is -0.5; expected a number from 0 to 1");
    let wrong = branching("branch_ratio", json!(0.001));
    assert!(wrong.starts_with(": `branch_ratio` is 0.001; expected 0, or at least 0.0052"), "{wrong}");
    assert_eq!(
        layer("conv_nn_attention", "candidates", json!({ "spatial": { "n": 9, "margin": 99 } })),
        ": `candidates` is spatial with n = 9, margin = 99 on a side of 197; \
         expected n of at least 1 and a margin that leaves positions"
    );
}

#[test]
fn more_neighbors_than_candidates_name_layer_and_numbers() {
    let vgg = |layer| line(vgg("classes", json!(10)), layer);
    let wrong = vgg(json!({ "kind": "branching_2d", "neighbors": 17 }));
    assert!(wrong.starts_with("features.22.branch1: `neighbors` is 17, but there are only 16 candidates;"), "{wrong}");
    let wrong = vgg(json!({ "kind": "conv_nn_2d", "neighbors": 10, "candidates": { "random": { "n": 8 } } }));
    assert!(wrong.starts_with("features.0: `neighbors` is 10, but there are only 9 candidates;"), "{wrong}");
    let wrong = vgg(json!({ "kind": "conv_nn_2d", "candidates": { "spatial": { "n": 2 } } }));
    assert!(wrong.starts_with("features.0: `neighbors` is 9, but there are only 5 candidates;"), "{wrong}");
    for kind in ["conv_nn_attention", "kvt_attention", "branching_tokens"] {
        let wrong = line(vit("classes", json!(10)), json!({ "kind": kind, "neighbors": 198 }));
        let path = "transformer_encoder.0.attention";
        let path = if kind == "branching_tokens" { format!("{path}.convnn") } else { path.to_owned() };
        let start = format!("{path}: `neighbors` is 198, but there are only 197 candidates;");
        assert!(wrong.starts_with(&start), "{wrong}");
    }
}

#[test]
fn errors_name_the_key() {
    let key = |layer| parse(json!({ "architecture": "vgg" }), layer).unwrap().check().unwrap_err().key();
    assert_eq!(key(json!({ "kind": "branching_2d", "branch_ratio": 2 })).as_deref(), Some("layer.branch_ratio"));
    assert_eq!(key(json!({ "kind": "branching_2d", "neighbors": 17 })).as_deref(), Some("layer.neighbors"));
    let config = parse(vgg("hidden", json!(0)), json!({ "kind": "conv2d" })).unwrap();
    assert_eq!(config.check().unwrap_err().key().as_deref(), Some("model.hidden"));
}

/// The published runs use n = 4 and K = 9 down to maps of 2×2, where the lattice is finer than the map.
#[test]
fn a_lattice_finer_than_the_map_is_every_token() {
    let layer = json!({ "kind": "conv_nn_2d", "candidates": { "spatial": { "n": 4 } } });
    parse(json!({ "architecture": "vgg" }), layer).unwrap().check().unwrap();
}

/// The token itself comes first, so K − 1 others are enough.
#[test]
fn one_random_candidate_less_than_neighbors_is_enough() {
    for (architecture, kind) in [("vgg", "conv_nn_2d"), ("vgg", "conv_nn_2d_attention"), ("vit", "conv_nn_attention")] {
        let check = |n: usize| {
            let layer = json!({ "kind": kind, "neighbors": 9, "candidates": { "random": { "n": n } } });
            parse(json!({ "architecture": architecture }), layer).unwrap().check()
        };
        check(8).unwrap();
        check(7).unwrap_err();
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
