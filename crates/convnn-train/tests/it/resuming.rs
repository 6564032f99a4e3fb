//! What a run may continue from, and what it must not touch.

use crate::bad_input::refused;
use crate::command::{contents, convnn, copy, fingerprint, finish, metrics, result, succeed, tiny_vgg, tiny_vit};
use crate::failures::newest;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A run of two epochs.
fn base() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    succeed(&mut tiny_vgg(&run, 2));
    (folder, run)
}

fn sha256(text: &str) -> Value {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

/// Changes the state of every checkpoint, with a digest that fits.
fn change_states(run: &Path, change: impl Fn(&mut serde_json::Map<String, Value>)) {
    for entry in std::fs::read_dir(run.join("checkpoints")).unwrap() {
        let path = entry.unwrap().path().join("state.json");
        let mut value: serde_json::Map<String, Value> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        value.shift_remove("sha256");
        change(&mut value);
        let covered = match value.contains_key("format") {
            true => Value::Object(value.clone()),
            false => Value::Array(value.values().cloned().collect()),
        };
        value.insert("sha256".to_owned(), sha256(&covered.to_string()));
        std::fs::write(&path, serde_json::to_vec(&value).unwrap()).unwrap();
    }
}

/// Resuming is refused with all of `parts`, and nothing changes.
#[track_caller]
fn refuses_untouched(run: &Path, arguments: &[&str], parts: &[&str]) {
    let before = contents(run);
    let finished = finish(tiny_vgg(run, 3).arg("--resume").args(arguments));
    assert_eq!(finished.code, Some(2), "{finished:?}");
    let line = finished.stderr.lines().last().unwrap();
    for part in parts {
        assert!(line.contains(part), "{part:?} in {line:?}");
    }
    assert_eq!(contents(run), before, "something was written");
}

#[test]
fn damaged_checkpoints_are_not_replaced() {
    let (_folder, run) = base();
    for name in ["epoch-0001", "epoch-0002"] {
        std::fs::write(run.join("checkpoints").join(name).join("model.safetensors"), "x").unwrap();
    }
    refuses_untouched(&run, &[], &["no checkpoint in", "epoch-0002/model.safetensors", "nothing was changed"]);
    refuses_untouched(&run, &["--force"], &["no checkpoint in"]);
    // If none was ever completed, the run starts.
    std::fs::remove_dir_all(run.join("checkpoints")).unwrap();
    std::fs::create_dir_all(run.join("checkpoints/.saving-epoch-0001")).unwrap();
    succeed(tiny_vgg(&run, 3).arg("--resume"));
    assert_eq!(metrics(&run).len(), 3);
}

#[test]
fn checkpoints_of_other_versions() {
    let (folder, run) = base();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    copy(&run, &old);
    copy(&run, &new);
    // The first format had no version, and knew images by their labels.
    change_states(&old, |value| {
        let mut files = value.remove("files").unwrap();
        let mut state = value.remove("state").unwrap();
        state["images"].as_object_mut().unwrap().remove("sha256").unwrap();
        state.as_object_mut().unwrap().remove("instruction_set").unwrap();
        value.clear();
        value.insert("state".to_owned(), state);
        value.insert("model_sha256".to_owned(), files["model.safetensors"].take());
        value.insert("optimizer_sha256".to_owned(), files["optimizer.safetensors"].take());
    });
    change_states(&new, |value| drop(value.insert("format".to_owned(), 3.into())));
    refuses_untouched(&new, &[], &["another version of convnn", "its format is 3", "reads 1 to 2", "--force"]);
    // What it adds may matter, and stops even --force.
    let unknown = folder.path().join("unknown");
    copy(&run, &unknown);
    change_states(&unknown, |value| drop(value["state"].as_object_mut().unwrap().insert("tempo".to_owned(), 1.into())));
    refuses_untouched(&unknown, &["--force"], &["another version", "`tempo`"]);
    for (run, force) in [(&run, &[][..]), (&old, &[]), (&new, &["--force"])] {
        succeed(tiny_vgg(run, 3).arg("--resume").args(force));
    }
    assert_eq!(fingerprint(&old), fingerprint(&run));
    assert_eq!(fingerprint(&new), fingerprint(&run));
}

#[test]
fn other_images_and_instruction_sets_are_refused() {
    let (_folder, run) = base();
    let copied = run.with_file_name("copied");
    copy(&run, &copied);
    change_states(&copied, |value| {
        value["state"]["images"]["sha256"] = sha256("other images");
        value["state"]["images"]["origin"] = "folder /other".into();
    });
    refuses_untouched(&copied, &[], &["another set of images", "folder /other there", "--force"]);
    change_states(&copied, |value| {
        value["state"]["images"] = newest_images(&run);
        value["state"]["instruction_set"] = "x86_64 mmx".into();
    });
    refuses_untouched(&copied, &[], &["another instruction set", "x86_64 mmx there", "--force"]);
    let forced = succeed(tiny_vgg(&copied, 3).args(["--resume", "--force"]));
    assert!(forced.stderr.contains("x86_64 mmx there"), "{forced:?}");
    succeed(tiny_vgg(&run, 3).arg("--resume"));
    assert_eq!(fingerprint(&copied), fingerprint(&run));
}

fn newest_images(run: &Path) -> Value {
    serde_json::to_value(newest(run).state.images).unwrap()
}

#[test]
fn the_learning_rate_may_change() {
    let (folder, run) = base();
    let kept = folder.path().join("kept");
    copy(&run, &kept);
    refuses_untouched(&run, &["--set", "learning_rate=0.01"], &["`learning_rate` is 0.05 there", "--override"]);
    refuses_untouched(&run, &["--override", "--set", "seed=8"], &["`seed` is 7 there and 8 here"]);
    let set = ["--override", "--set", "learning_rate=0.01", "--set", "schedule=cosine"];
    succeed(tiny_vgg(&run, 3).arg("--resume").args(set));
    let rates: Vec<_> = metrics(&run).iter().map(|line| line["learning_rate"].as_f64().unwrap()).collect();
    assert!(rates[..2] == [0.05, 0.05] && rates[2] < 0.01 && rates[2] > 0.0, "{rates:?}");
    assert!(std::fs::read_to_string(run.join("config.toml")).unwrap().contains("learning_rate = 0.01"));
    succeed(tiny_vgg(&kept, 3).arg("--resume"));
    assert_ne!(fingerprint(&kept).0, fingerprint(&run).0);
    // The rates of a longer run are the same so far if the rate is constant.
    assert_eq!(newest(&kept).state.changes, [""; 0]);
    let changes = newest(&run).state.changes;
    assert_eq!(changes[0], "`epochs` was 2 up to step 32, then 3");
    assert_eq!(changes[1], "`learning_rate` was 0.05 up to step 32, then 0.01");
    assert_eq!(changes[2], "`schedule` was \"constant\" up to step 32, then \"cosine\"");
    let card = |run: &Path| {
        let out = folder.path().join("exported");
        succeed(convnn().arg("export").arg(run).arg(&out));
        std::fs::read_to_string(out.join("README.md")).unwrap()
    };
    assert!(
        card(&run).contains("`learning_rate` was 0.05 up to step 32, then 0.01") && !card(&run).contains("same bits")
    );
    assert!(card(&kept).contains("same bits"));
    // No step is left that another rate could change.
    refuses_untouched(
        &kept,
        &["--override", "--set", "learning_rate=0.01"],
        &["`learning_rate` is 0.05 there", "a larger --epochs"],
    );
}

#[test]
fn a_changed_plateau_schedule_starts_over() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let tiny = |epochs: usize, more: &[&str]| {
        let mut command = tiny_vit(&run, epochs);
        // At this rate no prediction changes, so that the first epoch stays the best.
        for set in ["learning_rate=1e-20", "schedule=plateau", "plateau_patience=1", "holdout=64"] {
            command.args(["--set", set]);
        }
        command.args(more);
        succeed(&mut command);
    };
    tiny(4, &["--set", "plateau_factor=0.5"]);
    tiny(8, &["--resume", "--override", "--set", "plateau_factor=0.25"]);
    let rates: Vec<_> = metrics(&run).iter().map(|line| line["learning_rate"].as_f64().unwrap() * 1e20).collect();
    for (found, expected) in rates.iter().zip([1.0, 1.0, 1.0, 0.5, 1.0, 1.0, 1.0, 0.25]) {
        assert!((found - expected).abs() < 1e-12, "{rates:?}");
    }
    assert_eq!(rates.len(), 8);
}

#[test]
fn resuming_needs_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = convnn();
    command.args(["train", "--preset", "vgg11_compact", "--data", "sample", "--resume"]).current_dir(&folder);
    refused(&mut command, &["`--resume` is given without a folder", "--out DIR"]);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
}

#[test]
fn a_finished_run_without_a_result_is_finished_again() {
    let (_folder, run) = base();
    let before = fingerprint(&run);
    std::fs::remove_file(run.join("result.json")).unwrap();
    refused(&mut tiny_vgg(&run, 2), &["unfinished", "--resume"]);
    succeed(tiny_vgg(&run, 2).arg("--resume"));
    assert_eq!(fingerprint(&run), before);
    std::fs::write(run.join("result.json"), "{").unwrap();
    succeed(tiny_vgg(&run, 2).arg("--resume"));
    assert_eq!(fingerprint(&run), before);
}

/// The result of the shorter run stays until that of the longer one stands.
#[test]
fn nothing_is_removed_before_the_new_one_stands() {
    let (_folder, run) = base();
    let before = result(&run);
    let mut child = crate::command::start(tiny_vgg(&run, 1000).arg("--resume"));
    while metrics(&run).len() < 3 {
        assert!(child.try_wait().unwrap().is_none());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(result(&run), before);
    refused(&mut tiny_vgg(&run, 1000), &["unfinished", "--resume"]);
    let weights = convnn_models::weights::load(&run.join("weights")).unwrap();
    assert_eq!(weights.config, newest(&run).state.config.model);
}

#[test]
fn both_digests_of_a_result_are_true() {
    let (_folder, run) = base();
    let result = result(&run);
    let digest = |path: &str| -> Value {
        let bytes = std::fs::read(run.join(path)).unwrap();
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
    };
    assert_eq!(result["weights_sha256"], digest("weights/model.safetensors"));
    assert_eq!(result["checkpoint_sha256"], digest("checkpoints/epoch-0002/model.safetensors"));
}

#[test]
fn a_run_that_cannot_start_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // The first step does not train the projections.
    let arguments = ["train", "--preset", "vit_compact", "--data", "sample", "--set", "layer.modulation=none"];
    for out in ["deep/run", "run"] {
        let finished = finish(convnn().args(arguments).arg("--out").arg(out).current_dir(&folder));
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(finished.stderr.contains("the first step does not train"), "{finished:?}");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    }
}

/// Needs a user who may mount.
#[test]
fn a_finished_run_on_a_read_only_disk() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    let Some(_mounted) = crate::failures::mount(&disk, 8) else { return };
    let run = disk.join("run");
    succeed(&mut tiny_vit(&run, 1));
    succeed(std::process::Command::new("mount").args(["-o", "remount,ro"]).arg(&disk));
    succeed(convnn().arg("eval").arg(&run));
    let again = succeed(&mut tiny_vit(&run, 1));
    assert!(again.stderr.contains("already finished"), "{again:?}");
}
