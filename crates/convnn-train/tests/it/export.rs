//! `convnn export`: a weights folder to publish.

use crate::bad_input::refused;
use crate::command::{contents, convnn, copy, fingerprint, succeed, tiny_vgg};
use convnn_models::digests::{Digests, sha256};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

fn export(run: &Path, out: &Path, options: &[&str]) -> Command {
    let mut command = convnn();
    command.arg("export").arg(run).arg(out).args(options);
    command
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The folder holds what it says, and `convnn eval` measures the accuracy that it states.
#[test]
fn an_exported_folder_stands_on_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (run, out) = (folder.path().join("run"), folder.path().join("deep/out"));
    let mut command = tiny_vgg(&run, 3);
    succeed(command.args(["--set", "ema_decay=0.9"]));
    let printed = succeed(&mut export(&run, &out, &["--half", "--flips", "--license", "apache-2.0"])).stdout;
    let names: Vec<_> = contents(&out).into_iter().map(|(path, _)| path.file_name().unwrap().to_owned()).collect();
    let expected =
        ["README.md", "SHA256SUMS", "config.json", "config.toml", "curves.svg", "evaluation.json", "metrics.jsonl"];
    assert_eq!(names[..7], expected);
    assert_eq!(names[7..], ["model.safetensors"]);
    let sums = Digests::read(&out).unwrap().unwrap();
    for name in names.iter().filter(|name| *name != "SHA256SUMS") {
        let found = sha256(&fs::read(out.join(name)).unwrap());
        assert_eq!(sums.get(name.to_str().unwrap()), Some(&*found), "{name:?}");
    }
    let size = |path: &Path| fs::metadata(path).unwrap().len() as f64;
    assert!(size(&out.join("model.safetensors")) < 0.75 * size(&run.join("weights/model.safetensors")));

    let stated = json(&out.join("evaluation.json"));
    // Neither run nor checkpoint is needed any more.
    fs::rename(&run, folder.path().join("elsewhere")).unwrap();
    for (key, options) in [("top1", &[][..]), ("top1_flips", &["--flips"][..])] {
        let mut command = convnn();
        command.arg("eval").arg(&out).args(["--data", "sample", "--json"]).args(options);
        let measured: Value = serde_json::from_str(&succeed(&mut command).stdout).unwrap();
        assert_eq!(stated[key], measured["top1"]);
        assert_eq!((&stated["images"], &stated["dataset"]), (&measured["images"], &measured["dataset"]));
        if key == "top1" {
            assert_eq!(stated["interval"], measured["top1_interval"]);
        }
    }
    let card = fs::read_to_string(out.join("README.md")).unwrap();
    let top1 = format!("{:.2} %", stated["top1"].as_f64().unwrap());
    assert!(printed.contains(&top1) && card.contains(&format!("**{top1}**")), "{printed}{card}");
    for part in ["license: apache-2.0", "](curves.svg)", "## Limits", "moving average", "--set ema_decay=0.9", "f16"] {
        assert!(card.contains(part), "{part}: {card}");
    }
}

/// The command on the card trains the same weights.
#[test]
fn the_command_on_the_card_repeats_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let (run, out, again) = ["run", "out", "again"].map(|name| folder.path().join(name)).into();
    succeed(&mut tiny_vgg(&run, 2));
    succeed(&mut export(&run, &out, &[]));
    let card = fs::read_to_string(out.join("README.md")).unwrap();
    let line = card.lines().find_map(|line| line.strip_prefix("$ convnn train ")).unwrap();
    let program = env!("CARGO_BIN_EXE_convnn");
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("'{program}' train {line} --out '{}'", again.display()));
    succeed(&mut shell);
    assert_eq!(fingerprint(&run), fingerprint(&again), "{line}");
}

#[test]
fn the_best_epoch_is_that_of_the_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let (run, out) = (folder.path().join("run"), folder.path().join("out"));
    // A rate that forgets what it learned.
    succeed(tiny_vgg(&run, 4).args(["--set", "learning_rate=1.0"]));
    let lines = crate::command::metrics(&run);
    let top1 = |line: &Value| line["test_top1"].as_f64().unwrap();
    let best = lines.iter().map(top1).fold(f64::NEG_INFINITY, f64::max);
    for (weights, expected) in [("best", best), ("final", top1(lines.last().unwrap()))] {
        succeed(&mut export(&run, &out, &["--weights", weights]));
        assert_eq!(json(&out.join("evaluation.json"))["top1"].as_f64().unwrap(), expected, "{weights}");
        let card = fs::read_to_string(out.join("README.md")).unwrap();
        assert_eq!(card.contains("The test images chose the epoch"), weights == "best");
    }
}

#[test]
fn what_cannot_be_exported_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let [run, unfinished, foreign, out] = ["run", "unfinished", "foreign", "out"].map(|name| folder.path().join(name));
    succeed(&mut tiny_vgg(&run, 1));
    copy(&run, &unfinished);
    fs::remove_file(unfinished.join("DONE")).unwrap();
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("letter.txt"), "dear").unwrap();
    refused(&mut export(&unfinished, &out, &[]), &["holds an unfinished run", "--resume"]);
    refused(&mut export(&foreign, &out, &[]), &["holds no run"]);
    refused(&mut export(&run, &foreign, &[]), &["holds `letter.txt` but no weights", "a new one"]);
    refused(&mut export(&run, &run, &[]), &["but no weights"]);
    refused(&mut export(&folder.path().join("none"), &out, &[]), &["is not a folder"]);
    refused(&mut export(&run, &out, &["--data", "/none"]), &["/none", "curl"]);
    assert!(!out.exists());
    assert_eq!(contents(&foreign).len(), 1);
    // A weights folder is replaced, and what others put there stays.
    succeed(&mut export(&run, &out, &[]));
    fs::write(out.join("note.txt"), "mine").unwrap();
    succeed(&mut export(&run, &out, &["--half"]));
    assert_eq!(fs::read(out.join("note.txt")).unwrap(), b"mine");
    assert!(Digests::read(&out).unwrap().unwrap().get("note.txt").is_none());
}
