//! The engine in this process: every compact preset learns, and divergence is caught.

use convnn_data::Dataset;
use convnn_train::config::{Assignment, RunConfig, Sources};
use convnn_train::engine::Run;
use convnn_train::progress::Progress;
use convnn_train::results::{EpochMetrics, RunResult};
use convnn_train::run_folder::RunFolder;
use convnn_train::session::Session;
use convnn_train::stop::StopRequest;
use convnn_train::{Error, Result};
use std::path::Path;
use std::sync::Arc;

/// The first `n` training images, for training and for testing.
fn few(n: usize) -> Dataset {
    let images = Arc::new(Dataset::sample().train.first(n));
    Dataset { train: Arc::clone(&images), test: images, ..Dataset::sample() }
}

fn resolve(preset: &str, sets: &[&str]) -> RunConfig {
    let overrides = sets.iter().map(|text| Assignment::parse(text).unwrap()).collect();
    Sources { preset: Some(preset), overrides, ..Sources::default() }.resolve().unwrap()
}

fn train(out: &Path, config: &RunConfig, data: &Dataset) -> Result<RunResult> {
    let session = Session::new(&config.model, config.seed)?;
    let folder = RunFolder::create(out, config)?;
    let (stop, progress) = (StopRequest::default(), Progress::hidden());
    Run { config, data, folder: &folder, stop: &stop, progress: &progress, command: Vec::new() }.train(&session)
}

#[test]
fn every_compact_preset_overfits_64_images() {
    let presets = convnn_models::presets().iter().filter(|preset| preset.name.contains("compact"));
    for preset in presets {
        let folder = tempfile::tempdir().unwrap();
        let config = resolve(preset.name, &["epochs=60", "batch_size=64", "learning_rate=2e-3"]);
        let result = train(folder.path(), &config, &few(64)).unwrap();
        let text = std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
        let first: EpochMetrics = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        let uniform = 10f64.ln();
        let off = (first.train_loss / uniform - 1.0).abs();
        assert!(off < 0.05, "{}: the first loss is {}, expected {uniform} ± 5 %", preset.name, first.train_loss);
        assert_eq!(result.last.top1, 100.0, "{}: {result:?}", preset.name);
    }
}

#[test]
fn divergence_stops_the_run_and_keeps_the_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let sets = ["epochs=5", "batch_size=16", "optimizer=sgd", "learning_rate=1e30", "clip_grad_norm=none"];
    let config = resolve("vit_compact_attention", &[&sets[..], &["warmup_epochs=0"]].concat());
    let error = train(folder.path(), &config, &few(64)).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(matches!(error, Error::Diverged { epoch: 1, .. }), "{error}");
    let message = error.to_string();
    for part in ["at step", "epoch 1", "learning rate 1e30", "no checkpoint yet"] {
        assert!(message.contains(part), "{part:?} in {message:?}");
    }
    assert!(!folder.path().join("DONE").exists());
}

#[test]
fn an_untrained_projection_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let sets = ["epochs=1", "batch_size=8", "layer.modulation=none"];
    let error = train(&folder.path().join("strict"), &resolve("vit_compact", &sets), &few(8)).unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, Error::Audit(_)), "{message}");
    assert!(message.contains("attention.W_q.weight` (no gradient)"), "{message}");
    let config = resolve("vit_compact", &[&sets[..], &["audit=report"]].concat());
    train(&folder.path().join("report"), &config, &few(8)).unwrap();
}
