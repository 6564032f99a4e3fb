//! The engine: every compact preset learns, and divergence stops a run.

use convnn_data::Dataset;
use convnn_train::config::{Assignment, RunConfig, Sources};
use convnn_train::engine::Run;
use convnn_train::progress::Progress;
use convnn_train::results::{EpochMetrics, RunResult};
use convnn_train::run_folder::{Allowed, RunFolder};
use convnn_train::session::Session;
use convnn_train::stop::StopRequest;
use convnn_train::{Error, Result};
use std::path::Path;
use std::sync::Arc;

/// The first `n` training images, for training and for testing.
pub fn few(n: usize) -> Dataset {
    let images = Arc::new(Dataset::sample().train.first(n));
    Dataset { train: Arc::clone(&images), test: images, ..Dataset::sample() }
}

pub fn resolve(preset: &str, sets: &[&str]) -> RunConfig {
    let overrides = sets.iter().map(|text| Assignment::parse(text).unwrap()).collect();
    Sources { preset: Some(preset), overrides, ..Sources::default() }.resolve().unwrap()
}

pub fn train(out: &Path, config: &RunConfig, data: &Dataset) -> Result<RunResult> {
    let session = Session::new(&config.model, config.seed)?;
    let folder = RunFolder::create(out, config)?;
    let (stop, progress) = (StopRequest::default(), Progress::hidden());
    let allowed = Allowed::default();
    let command = Vec::new();
    Run { config, data, folder: &folder, allowed, stop: &stop, progress: &progress, command }.train(&session)
}

/// Trains `preset` on 32 images until it classifies all of them.
fn overfits(preset: &str, epochs: usize, sets: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let epochs = format!("epochs={epochs}");
    let recipe = [epochs.as_str(), "batch_size=8", "schedule=cosine", "optimizer=muon", "learning_rate=3e-3"];
    let result = train(folder.path(), &resolve(preset, &[&recipe, sets].concat()), &few(32)).unwrap();
    assert_eq!(result.best.top1, 100.0, "{preset}: {result:?}");
    let first = &metrics(folder.path())[0];
    assert!(first.train_top1 < 50.0, "{preset} knew too much at first: {first:?}");
}

fn metrics(run: &Path) -> Vec<EpochMetrics> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The compact presets of an architecture.
fn compact(architecture: &str) -> Vec<&'static str> {
    let name = format!("{architecture}_compact");
    convnn_models::presets().iter().map(|preset| preset.name).filter(|preset| preset.starts_with(&name)).collect()
}

#[test]
fn every_compact_vgg_overfits_32_images() {
    assert!(compact("vgg11").len() >= 3);
    for preset in compact("vgg11") {
        overfits(preset, 32, &[]);
    }
}

#[test]
fn every_compact_vit_overfits_32_images() {
    assert!(compact("vit").len() >= 5);
    for preset in compact("vit") {
        // Dropout is off, but candidates that change with every step act like it.
        let epochs = if preset.ends_with("random") { 48 } else { 24 };
        overfits(preset, epochs, &["model.dropout=0", "layer.dropout=0"]);
    }
}

#[test]
fn the_first_loss_is_that_of_guessing() {
    for preset in [compact("vgg11"), compact("vit")].concat() {
        let folder = tempfile::tempdir().unwrap();
        train(folder.path(), &resolve(preset, &["epochs=1", "batch_size=64"]), &few(64)).unwrap();
        let (found, guess) = (metrics(folder.path())[0].train_loss, 10f64.ln());
        assert!((found / guess - 1.0).abs() < 0.05, "{preset}: the first loss is {found}, expected {guess} ± 5 %");
    }
}

#[test]
fn divergence_stops_the_run_and_keeps_the_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let sets = ["epochs=5", "batch_size=16", "optimizer=sgd", "learning_rate=1e30", "clip_grad_norm=none"];
    let config = resolve("vit_compact_attention", &[&sets[..], &["warmup_epochs=0", "schedule=constant"]].concat());
    let error = train(folder.path(), &config, &few(64)).unwrap_err();
    assert_eq!(error.exit_code(), 3);
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
