//! How a run trains: schedules, accumulated batches, averages of weights, early stopping, and batch norm on little data.

use crate::command::{convnn, finish, metrics, result, succeed, tiny_vgg, tiny_vit};
use crate::learning::{few, resolve, train};
use candle_core::{Device, Tensor};
use convnn_data::Dataset;
use convnn_train::Error;
use convnn_train::schedule::plateau_drops;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

#[test]
fn schedules_are_pytorchs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schedules/schedules.json");
    let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let close = |found: f64, expected: &Value, what: &str| {
        let expected = expected.as_f64().unwrap();
        assert!((found - expected).abs() <= 1e-13, "{what}: {found}, expected {expected}");
    };
    let cases = all["cases"].as_array().unwrap();
    assert!(cases.len() >= 11);
    for case in cases {
        let sets: Vec<_> = case["sets"].as_array().unwrap().iter().map(|set| set.as_str().unwrap()).collect();
        let config = resolve("vgg11_compact", &[&["epochs=10", "learning_rate=0.1"], &sets[..]].concat());
        let schedule = config.learning_rate(4);
        for (step, expected) in case["rates"].as_array().unwrap().iter().enumerate() {
            close(schedule.at(step as u64), expected, &format!("{sets:?}, step {step}"));
        }
    }
    let plateau = &all["plateau"];
    let accuracies: Vec<_> = plateau["accuracies"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    let sets = ["schedule=plateau", "plateau_factor=0.5", "learning_rate=0.1", "holdout=1"];
    let mut schedule = resolve("vgg11_compact", &sets).learning_rate(4);
    for (epoch, expected) in plateau["rates"].as_array().unwrap().iter().enumerate() {
        schedule.plateau_drops = plateau_drops(accuracies[..=epoch].iter().copied(), 2);
        close(schedule.at(4 * epoch as u64), expected, &format!("plateau, epoch {epoch}"));
    }
}

/// A ViT without anything random.
const PLAIN_VIT: [&str; 8] = [
    "model.patch=8",
    "model.dim=16",
    "model.mlp=32",
    "model.layers=2",
    "model.dropout=0",
    "layer.dropout=0",
    "schedule=constant",
    "optimizer=sgd",
];

fn weights(run: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(run.join("weights/model.safetensors"), &Device::Cpu).unwrap()
}

#[test]
fn accumulated_batches_equal_a_large_one() {
    // 50 images: the last group has fewer batches, and the last batch has fewer images.
    for (large, small, accumulate) in [("batch_size=16", "batch_size=4", 4), ("batch_size=32", "batch_size=8", 4)] {
        let run = |sets: &[&str]| {
            let folder = tempfile::tempdir().unwrap();
            let config = resolve("vit_compact_attention", &[&PLAIN_VIT[..], &["epochs=2"], sets].concat());
            train(folder.path(), &config, &few(50)).unwrap();
            (weights(folder.path()), metrics(folder.path()))
        };
        let recipe = "learning_rate=0.1";
        let (expected, lines) = run(&[recipe, large]);
        let (found, accumulated) = run(&[recipe, small, &format!("accumulate={accumulate}")]);
        let (other, _) = run(&[recipe, small]);
        let distance = |a: &HashMap<String, Tensor>| {
            let of = |(name, tensor): (&String, &Tensor)| {
                (tensor - &expected[name]).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap()
            };
            a.iter().map(of).fold(0.0, f32::max)
        };
        assert!(distance(&found) < 2e-6, "{small}: {}", distance(&found));
        assert!(distance(&other) > 1e-4, "{small}: without accumulation it is another run");
        for (line, expected) in accumulated.iter().zip(&lines) {
            let difference = line["train_loss"].as_f64().unwrap() - expected["train_loss"].as_f64().unwrap();
            assert!(difference.abs() < 1e-6, "{difference}");
        }
    }
}

#[test]
fn a_plateau_lowers_the_rate_and_then_stops_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let images = few(48);
    let data = Dataset { validation: Some(Arc::clone(&images.test)), ..images };
    // At this rate no prediction changes, so that the first epoch stays the best.
    let sets = ["epochs=20", "learning_rate=1e-20", "batch_size=16", "holdout=48", "early_stopping=5"];
    let plateau = ["schedule=plateau", "plateau_patience=1", "plateau_factor=0.5"];
    let config = resolve("vit_compact_attention", &[&PLAIN_VIT[..], &sets, &plateau].concat());
    let result = train(folder.path(), &config, &data).unwrap();
    let lines = metrics(folder.path());
    let rates: Vec<_> = lines.iter().map(|line| line["learning_rate"].as_f64().unwrap() / 1e-20).collect();
    for (found, expected) in rates.iter().zip([1.0, 1.0, 1.0, 0.5, 0.5, 0.25]) {
        assert!((found - expected).abs() < 1e-12, "{rates:?}");
    }
    assert_eq!((rates.len(), result.last.epoch, result.best.epoch), (6, 6, 1));
    assert!(lines.iter().all(|line| line["validation_top1"] == line["test_top1"]));
}

#[test]
fn the_best_epoch_is_that_of_the_validation_images() {
    let folder = tempfile::tempdir().unwrap();
    let images = few(64);
    // The test images are the training images with every label wrong by one.
    let wrong = images.test.labels(convnn_data::Labels::Fine).unwrap().iter().map(|label| (label + 1) % 10).collect();
    let wrong = convnn_data::Split::new(images.test.images().to_vec(), wrong, None).unwrap();
    let data = Dataset { validation: Some(Arc::clone(&images.test)), test: Arc::new(wrong), ..images };
    let sets =
        ["epochs=8", "batch_size=16", "learning_rate=3e-3", "holdout=64", "model.features=[8, \"M\", 16, \"M\"]"];
    let result = train(folder.path(), &resolve("vgg11_compact", &sets), &data).unwrap();
    let lines = metrics(folder.path());
    let best = |key: &str| {
        let top1 = lines.iter().map(|line| line[key].as_f64().unwrap()).enumerate();
        1 + top1.reduce(|best, next| if next.1 > best.1 { next } else { best }).unwrap().0
    };
    assert_ne!(best("validation_top1"), best("test_top1"), "this data tells the two apart");
    assert_eq!(result.best.epoch, best("validation_top1"));
    assert!(folder.path().join(format!("checkpoints/epoch-{:04}", result.best.epoch)).exists());
}

#[test]
fn the_test_images_never_choose() {
    for set in ["early_stopping=3", "schedule=plateau"] {
        let folder = tempfile::tempdir().unwrap();
        let refused = finish(tiny_vit(folder.path(), 2).args(["--set", set]));
        assert_eq!(refused.code, Some(2), "{refused:?}");
        let line = refused.stderr.lines().last().unwrap();
        assert!(line.contains("holdout") && line.contains("test images must not be used for tuning"), "{line}");
        assert!(!folder.path().join("config.toml").exists(), "nothing is written");
    }
}

#[test]
fn the_average_of_the_weights_is_evaluated_and_exported() {
    for tiny in [tiny_vit, tiny_vgg] {
        let folder = tempfile::tempdir().unwrap();
        let (plain, averaged) = (folder.path().join("plain"), folder.path().join("averaged"));
        succeed(&mut tiny(&plain, 2));
        succeed(tiny(&averaged, 2).args(["--set", "ema_decay=0.9"]));
        // Training is the same, and so is what it saves; the evaluation is not.
        let (of_plain, of_averaged) = (result(&plain), result(&averaged));
        assert_eq!(of_plain["checkpoint_sha256"], of_averaged["checkpoint_sha256"]);
        assert_ne!(of_plain["final"]["loss"], of_averaged["final"]["loss"]);
        let expected = of_averaged["final"]["loss"].as_f64().unwrap();
        for path in [averaged.clone(), averaged.join("weights"), averaged.join("checkpoints/epoch-0002")] {
            let finished = succeed(convnn().args(["eval", "--json", "--data", "sample"]).arg(&path));
            let found: Value = serde_json::from_str(&finished.stdout).unwrap();
            let difference = found["loss"].as_f64().unwrap() - expected;
            assert!(difference.abs() < 1e-6, "{}: {difference}", path.display());
        }
    }
}

/// The first command that `train --help` shows, and the same with batches so large that an epoch has four steps.
#[test]
fn batch_norm_evaluates_well_after_a_few_steps() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, epochs: &str, sets: &[&str]| {
        let out = folder.path().join(name);
        let mut command = convnn();
        command.args(["train", "--preset", "vgg11_compact", "--data", "sample", "--epochs", epochs, "--out"]).arg(&out);
        let finished = succeed(command.args(sets.iter().flat_map(|set| ["--set", set])));
        (result(&out)["final"]["top1"].as_f64().unwrap(), finished.stderr)
    };
    let (top1, log) = run("default", "2", &[]);
    assert!(top1 > 18.0, "{top1} % after two epochs");
    assert!(log.contains("running statistics of batch norm do not fit"), "{log}");
    let (top1, log) = run("large", "4", &["batch_size=128"]);
    assert!(top1 > 18.0, "{top1} % after 16 steps");
    assert!(log.contains("after 4 steps") && log.contains("`batch_size` smaller than 128"), "{log}");
    assert_eq!(log.matches("running statistics").count(), 1, "one warning is enough: {log}");
}

#[test]
fn divergence_in_a_later_epoch_keeps_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let sets = ["epochs=5", "batch_size=16", "learning_rate=0.9", "clip_grad_norm=none"];
    let drops = ["schedule=step", "step_epochs=1", "step_factor=999"];
    let config = resolve("vit_compact_attention", &[&PLAIN_VIT[..], &sets, &drops].concat());
    let error = train(folder.path(), &config, &few(48)).unwrap_err();
    let Error::Diverged { epoch, .. } = &error else { panic!("{error}") };
    assert!(*epoch > 1, "{error}");
    let message = error.to_string();
    let kept = format!("the checkpoint epoch-{:04} is kept", epoch - 1);
    for part in [&kept, "learning_rate", "clip_grad_norm"] {
        assert!(message.contains(part), "{part:?} in {message:?}");
    }
    let checkpoint = folder.path().join(format!("checkpoints/epoch-{:04}/model.safetensors", epoch - 1));
    for (name, tensor) in candle_core::safetensors::load(checkpoint, &Device::Cpu).unwrap() {
        let sum = tensor.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(sum.is_finite(), "{name}");
    }
}
