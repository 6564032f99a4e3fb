//! Running the binary.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The result of a command.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// The binary under test, without variables that the environment of the tests may set.
pub fn convnn() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convnn"));
    for name in ["CONVNN_DATA", "CONVNN_LOG", "RAYON_NUM_THREADS"] {
        command.env_remove(name);
    }
    command
}

/// Runs `command` to the end.
pub fn finish(command: &mut Command) -> Finished {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Starts `command` without waiting for it.
pub fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A small ViT with everything random: dropout, candidates, augmentation.
pub fn tiny_vit(out: &Path, epochs: usize) -> Command {
    let mut command = tiny(out, epochs, "vit_compact_random");
    for set in ["model.patch=8", "model.dim=16", "model.mlp=32", "model.layers=2", "augmentation=crop_flip"] {
        command.args(["--set", set]);
    }
    command
}

/// A small VGG with running statistics, trained with SGD.
pub fn tiny_vgg(out: &Path, epochs: usize) -> Command {
    let mut command = tiny(out, epochs, "vgg11_compact");
    for set in ["model.features=[\"M\", \"M\", 4, \"M\", 8, \"M\"]", "optimizer=sgd", "learning_rate=0.05"] {
        command.args(["--set", set]);
    }
    command
}

fn tiny(out: &Path, epochs: usize, preset: &str) -> Command {
    let mut command = convnn();
    command.args(["train", "--preset", preset, "--data", "sample", "--set", "seed=7", "--set", "batch_size=32"]);
    command.args(["--set", "schedule=constant", "--epochs", &epochs.to_string(), "--out"]).arg(out);
    command
}

/// Runs `command`, which must succeed.
#[track_caller]
pub fn succeed(command: &mut Command) -> Finished {
    let finished = finish(command);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    finished
}

/// `result.json` of a finished run.
#[track_caller]
pub fn result(run: &Path) -> Value {
    assert!(run.join("DONE").exists(), "{} is not done", run.display());
    serde_json::from_slice(&std::fs::read(run.join("result.json")).unwrap()).unwrap()
}

/// What equal runs have in common: the weights, and every metric that is not a time.
#[track_caller]
pub fn fingerprint(run: &Path) -> (String, Vec<Value>) {
    let mut lines = metrics(run);
    for line in &mut lines {
        let line = line.as_object_mut().unwrap();
        line.remove("seconds").unwrap();
        line.remove("images_per_second").unwrap();
    }
    (result(run)["weights_sha256"].as_str().unwrap().to_owned(), lines)
}

/// The complete lines of `metrics.jsonl`.
pub fn metrics(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Copies a folder and everything in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Every file below `folder`, with its contents.
pub fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(contents(&path)),
            false => files.push((path.clone(), std::fs::read(&path).unwrap())),
        }
    }
    files.sort();
    files
}
