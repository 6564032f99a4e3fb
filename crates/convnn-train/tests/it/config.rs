//! Resolving a configuration.

use convnn_train::config::{Assignment, RunConfig, Sources, first_difference};
use proptest::prelude::*;
use std::path::Path;

fn resolve(preset: Option<&str>, file: Option<&Path>, sets: &[&str]) -> RunConfig {
    let overrides = sets.iter().map(|text| Assignment::parse(text).unwrap()).collect();
    Sources { preset, file, overrides }.resolve().unwrap()
}

/// Resolves the text of a configuration file.
fn resolve_text(text: &str, sets: &[&str]) -> RunConfig {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    resolve(None, Some(&path), sets)
}

#[test]
fn every_preset_is_its_own_file() {
    for preset in convnn_models::presets() {
        let config = resolve(Some(preset.name), None, &[]);
        assert_eq!(config, RunConfig::from_preset(preset.name).unwrap());
        assert_eq!(resolve_text(&config.to_toml().unwrap(), &[]), config, "{}", preset.name);
    }
}

#[test]
fn overrides_take_precedence_over_the_file_and_the_file_over_the_preset() {
    let text = "preset = 'vgg11_compact'\nepochs = 3\nseed = 4\n[layer]\nneighbors = 5\n";
    let config = resolve_text(text, &["seed=6", "layer.branch_ratio=1", "seed=7"]);
    let expected = ["epochs=3", "seed=7", "layer.neighbors=5", "layer.branch_ratio=1.0"];
    assert_eq!(config, resolve(Some("vgg11_compact"), None, &expected));
    assert_ne!(config, resolve(Some("vgg11_compact"), None, &expected[1..]));
}

#[test]
fn another_kind_starts_from_its_own_defaults() {
    let sets = ["layer.kernel_size=5", "layer.kind=conv2d"];
    let toml = resolve(Some("vgg11_compact"), None, &sets).to_toml().unwrap();
    assert!(toml.contains("kind = \"conv2d\"\nkernel_size = 5\n"), "{toml}");
    assert!(!toml.contains("neighbors"), "{toml}");
    // The kind that it already has changes nothing.
    let sets = ["layer.neighbors=4", "layer.kind=branching_2d"];
    let same = resolve(Some("vgg11_compact"), None, &sets);
    assert_eq!(same, resolve(Some("vgg11_compact"), None, &sets[..1]));
}

#[test]
fn choices_with_values() {
    let config = |set: &str| resolve(Some("vgg11_compact"), None, &[set]);
    for set in ["layer.candidates.random.n=12", "layer.candidates={random={n=12}}"] {
        let text = config(set).to_toml().unwrap();
        assert!(text.contains("n = 12"), "{text}");
        assert_eq!(resolve_text(&text, &[]), config(set));
        assert_eq!(resolve_text(&text, &["layer.candidates=all"]), config("seed=0"));
    }
    let blend = config("layer.compare.blend=0.25");
    assert_eq!(blend, config("layer.compare={blend=0.25}"));
    assert_ne!(blend, config("seed=0"));
}

#[test]
fn classes_follow_the_data_set() {
    let config = resolve(Some("vgg11_compact"), None, &["dataset=cifar100"]);
    assert_eq!(config.model.classes(), 100);
    assert_eq!(resolve_text(&config.to_toml().unwrap(), &[]), config);
}

#[test]
fn the_first_difference_is_named() {
    let config = |sets: &[&str]| resolve(Some("vgg11_compact"), None, sets);
    let base = config(&[]);
    assert_eq!(first_difference(&base, &base, &[]).unwrap(), None);
    let difference =
        first_difference(&base, &config(&["epochs=99", "layer.kernel_size=5"]), &["epochs"]).unwrap().unwrap();
    assert_eq!(
        (difference.key.as_str(), difference.first.as_str(), difference.second.as_str()),
        ("layer.kernel_size", "3", "5")
    );
    let difference = first_difference(&base, &config(&["layer.kind=conv2d"]), &["layer.kind"]).unwrap().unwrap();
    assert_eq!(difference.second, "absent", "{difference:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_configuration_is_read_back_from_its_text(
        (epochs, batch_size, seed) in (1usize..1000, 1usize..5000, 0i64..),
        rate in 1e-12f64..10.0,
        decay in prop_oneof![Just(0.0), 1e-9f64..1.0],
        clip in prop_oneof![Just(None), (1e-6f64..1e6).prop_map(Some)],
        ratio in prop_oneof![Just(0.0), 0.1f64..0.9, Just(1.0)],
        neighbors in 1usize..=16,
        schedule in prop_oneof![Just("constant"), Just("cosine"), Just("step")],
        optimizer in prop_oneof![Just("adamw"), Just("sgd")],
        data in "[a-zA-Z0-9 ./'\"\\\\\n#=é-]{1,20}",
    ) {
        let mut config = resolve(Some("vgg11_compact"), None, &[
            &format!("epochs={epochs}"),
            &format!("batch_size={batch_size}"),
            &format!("seed={seed}"),
            &format!("learning_rate={rate}"),
            &format!("weight_decay={decay:e}"),
            &format!("clip_grad_norm={}", clip.map_or("none".to_owned(), |clip: f64| clip.to_string())),
            &format!("layer.branch_ratio={ratio}"),
            &format!("layer.neighbors={neighbors}"),
            &format!("schedule={schedule}"),
            &format!("optimizer={optimizer}"),
        ]);
        prop_assert_eq!((config.epochs, config.batch_size, config.seed), (epochs, batch_size, seed as u64));
        prop_assert_eq!((config.learning_rate, config.weight_decay, config.clip_grad_norm), (rate, decay, clip));
        config.data = data;
        prop_assert_eq!(resolve_text(&config.to_toml().unwrap(), &[]), config);
    }
}
