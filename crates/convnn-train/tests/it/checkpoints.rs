//! Checkpoints: which ones are kept, and damage at every position.

use candle_core::{Device, Tensor};
use convnn_data::Dataset;
use convnn_train::checkpoint::{Checkpoint, Checkpoints, Formats, MODEL, OPTIMIZER, STATE, TrainState, TrainingImages};
use convnn_train::config::RunConfig;
use convnn_train::metrics::Tally;
use convnn_train::results::EpochMetrics;
use std::collections::BTreeSet;
use std::path::Path;

fn state(epoch: usize, batch: usize, top1: &[f64]) -> TrainState {
    let metrics = |(i, &test_top1): (usize, &f64)| EpochMetrics {
        epoch: i + 1,
        train_loss: 0.1 + 0.2,
        train_top1: 1.0 / 3.0,
        test_loss: 2.0f64.sqrt(),
        test_top1,
        test_top5: 90.0,
        validation_loss: None,
        validation_top1: None,
        learning_rate: 1e-3,
        seconds: 1.5,
        images_per_second: 100.0,
    };
    TrainState {
        epoch,
        batch,
        step: (epoch * 8 + batch) as u64,
        tally: Tally { images: 64, top1: 6, top5: 32, loss: 0.1 + 0.7 },
        seconds: 0.25,
        history: top1.iter().enumerate().map(metrics).collect(),
        plateau_from: 0,
        config: RunConfig::from_preset("vgg11_compact").unwrap(),
        changes: vec!["`learning_rate` was 0.1 up to step 8, then 0.01".to_owned()],
        classes: Some(vec!["cat".to_owned(), "dog".to_owned()]),
        images: TrainingImages::of(&Dataset::sample()),
        instruction_set: Some("x86_64 avx2".to_owned()),
    }
}

fn tensors(value: f32) -> Vec<(String, Tensor)> {
    let tensor = Tensor::from_slice(&[value, -value, 0.5, 1e-30], (2, 2), &Device::Cpu).unwrap();
    vec![("a.weight".to_owned(), tensor)]
}

fn names(folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn the_newest_two_and_the_best_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(folder.path());
    let top1 = [20.0, 40.0, 30.0, 35.0, 10.0];
    for epoch in 1..=5 {
        checkpoints.save(&state(epoch, 0, &top1[..epoch]), &tensors(1.0), &tensors(2.0)).unwrap();
    }
    let expected = ["epoch-0002", "epoch-0004", "epoch-0005"].map(str::to_owned);
    assert_eq!(names(folder.path()), BTreeSet::from(expected));
    // A checkpoint within an epoch counts as newest, and is removed like the others.
    checkpoints.save(&state(5, 3, &top1), &tensors(1.0), &tensors(2.0)).unwrap();
    let (newest, refused) = checkpoints.newest(Formats::Known).unwrap();
    assert_eq!((newest.unwrap().state, refused.len()), (state(5, 3, &top1), 0));
    let expected = ["epoch-0002", "epoch-0005", "epoch-0005-batch-00003"].map(str::to_owned);
    assert_eq!(names(folder.path()), BTreeSet::from(expected));
}

#[test]
fn a_state_is_read_back_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(folder.path());
    let sha256 = checkpoints.save(&state(1, 5, &[20.0]), &tensors(1.0), &tensors(2.0)).unwrap();
    let (newest, _) = checkpoints.newest(Formats::Known).unwrap();
    let newest = newest.unwrap();
    assert_eq!(newest.state, state(1, 5, &[20.0]));
    assert_eq!(newest.model_sha256, sha256);
    assert_eq!(newest.optimizer["a.weight"].to_vec2::<f32>().unwrap(), [[2.0, -2.0], [0.5, 1e-30]]);
}

#[test]
fn damage_at_any_position_is_refused_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(folder.path());
    checkpoints.save(&state(1, 0, &[20.0]), &tensors(1.0), &tensors(2.0)).unwrap();
    let checkpoint = folder.path().join("epoch-0001");
    let whole = |read: &Checkpoint| {
        let values = |tensor: &Tensor| tensor.to_vec2::<f32>().unwrap();
        (read.state.clone(), values(&read.model["a.weight"]), values(&read.optimizer["a.weight"]))
    };
    let expected = whole(&Checkpoint::read(&checkpoint, Formats::Known).unwrap());
    for name in [MODEL, OPTIMIZER, STATE] {
        let path = checkpoint.join(name);
        let bytes = std::fs::read(&path).unwrap();
        let mut refused = 0;
        let mut check = |damaged: &[u8], what: &str| {
            std::fs::write(&path, damaged).unwrap();
            match Checkpoint::read(&checkpoint, Formats::Known) {
                Err(_) => refused += 1,
                // White space, for example, may change.
                Ok(read) => assert_eq!(whole(&read), expected, "{name}, {what}"),
            }
        };
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1 << (position % 8);
            check(&damaged, &format!("bit flipped in byte {position}"));
            check(&bytes[..position], &format!("truncated to {position}"));
        }
        assert!(refused > bytes.len(), "{name}: {refused} of {} refused", 2 * bytes.len());
        std::fs::write(&path, &bytes).unwrap();
    }
    std::fs::rename(&checkpoint, folder.path().join("epoch-0002")).unwrap();
    let error = checkpoints.newest(Formats::Known).unwrap_err().to_string();
    assert!(error.contains("it belongs to epoch-0001"), "{error}");
}

#[test]
fn only_checkpoints_that_verify_count() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(folder.path());
    let top1 = [20.0, 50.0, 40.0, 30.0, 10.0, 10.0];
    let save = |epoch: usize| drop(checkpoints.save(&state(epoch, 0, &top1[..epoch]), &tensors(1.0), &tensors(2.0)));
    (1..=4).for_each(save);
    let kept = |epochs: &[usize]| {
        let expected = epochs.iter().map(|epoch| format!("epoch-{epoch:04}")).collect();
        assert_eq!(names(folder.path()), expected);
    };
    kept(&[2, 3, 4]);
    // The best is damaged, and so is the newest: the best of the others and the newest two of the others stay.
    for name in ["epoch-0002", "epoch-0004"] {
        std::fs::write(folder.path().join(name).join(OPTIMIZER), "x").unwrap();
    }
    save(5);
    kept(&[3, 5]);
    save(6);
    kept(&[3, 5, 6]);
}

#[test]
fn a_checkpoint_that_is_being_replaced_still_loads() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(folder.path());
    checkpoints.save(&state(1, 3, &[20.0]), &tensors(1.0), &tensors(2.0)).unwrap();
    let name = "epoch-0001-batch-00003";
    std::fs::rename(folder.path().join(name), folder.path().join(format!(".old-{name}"))).unwrap();
    assert_eq!(checkpoints.newest(Formats::Known).unwrap().0.unwrap().state, state(1, 3, &[20.0]));
    checkpoints.save(&state(1, 3, &[20.0]), &tensors(1.0), &tensors(2.0)).unwrap();
    assert_eq!(names(folder.path()), BTreeSet::from([name.to_owned()]));
}
