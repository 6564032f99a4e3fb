//! Unusable input: exit code 2, one line on standard error that names it, and nothing is written.

use crate::command::{Finished, contents, convnn, finish, start, succeed, tiny_vgg};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Runs `command` and expects one error line with all of `parts`, or three with a command that downloads data.
#[track_caller]
pub fn refused(command: &mut Command, parts: &[&str]) {
    let Finished { code, stdout, stderr } = finish(command);
    assert_eq!(code, Some(2), "{stderr}");
    assert_eq!(stdout, "");
    let lines = if parts.contains(&"curl") { 3 } else { 1 };
    assert_eq!(stderr.lines().count(), lines, "{stderr}");
    assert!(stderr.starts_with("error: "), "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{part:?} in {stderr:?}");
    }
}

/// `convnn train` in a folder with `files`, into a folder that must not be created.
struct Attempt {
    folder: TempDir,
}

impl Attempt {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Self { folder }
    }

    #[track_caller]
    fn refuses(&self, arguments: &[&str], parts: &[&str]) {
        let before = contents(self.folder.path());
        let mut command = convnn();
        refused(command.current_dir(&self.folder).arg("train").args(arguments), parts);
        assert_eq!(contents(self.folder.path()), before, "something was written");
        assert!(!self.folder.path().join("runs").exists());
    }
}

const SAMPLE: [&str; 6] = ["--preset", "vgg11_compact", "--data", "sample", "--epochs", "1"];

#[track_caller]
fn refuses_set(sets: &[&str], parts: &[&str]) {
    let sets: Vec<_> = sets.iter().flat_map(|set| ["--set", set]).collect();
    Attempt::new(&[]).refuses(&[&SAMPLE[..], &sets].concat(), parts);
}

#[test]
fn keys() {
    let nearest = |key: &str, known: &str| {
        refuses_set(&[&format!("{key}=3")], &[&format!("--set {key}=3"), key, "nearest", &format!("`{known}`")]);
    };
    nearest("layer.neighbours", "layer.neighbors");
    nearest("neighbours", "layer.neighbors");
    nearest("batch_siz", "batch_size");
    refuses_set(&["layer.candidates.randm.n=3"], &["--set layer.candidates.randm.n=3", "randm", "`random:N`"]);
    refuses_set(&["epochs"], &["--set epochs", "key=value"]);
    refuses_set(&["=3"], &["--set =3", "key=value"]);

    let file = "epochs = 1\n\n[layer]\n# how many\nneighbors = 9\nbranch_ration = 0.5\n";
    let attempt = Attempt::new(&[("my.toml", file)]);
    let arguments = ["--preset", "vgg11_compact", "--data", "sample", "--config", "my.toml"];
    attempt.refuses(&arguments, &["my.toml:6:1: ", "`layer.branch_ration`", "`layer.branch_ratio`"]);
}

#[test]
fn values() {
    refuses_set(&["epochs=ten"], &["--set epochs=ten", "`epochs`", "\"ten\""]);
    refuses_set(&["batch_size=-1"], &["--set batch_size=-1", "-1"]);
    refuses_set(&["batch_size=1.5"], &["1.5"]);
    refuses_set(&["batch_size=0"], &["--set batch_size=0", "`batch_size` is 0", "from 1 to 65536"]);
    refuses_set(&["layer.branch_ratio=1.5"], &["--set layer.branch_ratio=1.5", "1.5", "0 to 1"]);
    refuses_set(&["layer.branch_ratio=-0.1"], &["-0.1", "0 to 1"]);
    refuses_set(&["layer.branch_ratio=nan"], &["nan", "finite"]);
    refuses_set(&["layer.neighbors=17"], &["--set layer.neighbors=17", "17", "16 candidates"]);
    refuses_set(&["layer.similarity=cosin"], &["`layer.similarity`", "cosin", "`cosine`"]);
    refuses_set(&["layer.kind=conv3d"], &["conv3d", "`conv2d`"]);
    refuses_set(&["learning_rate=0"], &["--set learning_rate=0", "above 0"]);
    refuses_set(&["learning_rate=inf"], &["inf", "finite"]);
    refuses_set(&["schedule=cosinus"], &["`schedule`", "cosinus", "`cosine`"]);
    refuses_set(&["clip_grad_norm=no"], &["`clip_grad_norm`", "none"]);
    refuses_set(&["warmup_epochs=2"], &["`warmup_epochs` is 2", "`epochs`, which is 1"]);
    refuses_set(&["model.classes=7"], &["`model.classes` is 7", "10"]);
    let vit = ["--preset", "vit_compact", "--data", "sample", "--set", "model.patch=5"];
    Attempt::new(&[]).refuses(&vit, &["--set model.patch=5", "32", "5"]);
    let vit = ["--preset", "vit_compact", "--data", "sample", "--set", "model.image=33"];
    Attempt::new(&[]).refuses(&vit, &["33", "4"]);
}

#[test]
fn arguments() {
    let attempt = Attempt::new(&[]);
    attempt.refuses(&["--preset", "vgg11_compct"], &["--preset vgg11_compct", "vgg11_compact", "convnn info"]);
    attempt.refuses(&["--data", "sample"], &["--preset"]);
    attempt.refuses(&[&SAMPLE[..4], &["--epochs", "x"]].concat(), &["--epochs", "'x'"]);
    attempt.refuses(&[&SAMPLE[..4], &["--epochs", "0"]].concat(), &["--epochs 0", "from 1 to 1000000"]);
    attempt.refuses(&[&SAMPLE[..], &["--threads", "0"]].concat(), &["--threads", "0", "1 to 1024"]);
    attempt.refuses(&[&SAMPLE[..], &["--seed", "-1"]].concat(), &["-1"]);
    attempt.refuses(&[&SAMPLE[..], &["--dataset", "cifar"]].concat(), &["--dataset cifar", "cifar10"]);
    attempt.refuses(&[&SAMPLE[..], &["--dataset", "cifar100"]].concat(), &["sample", "CIFAR-10"]);
    attempt.refuses(&["--presets", "vgg11"], &["--presets"]);
    attempt.refuses(&["--resume"], &["--resume", "--out"]);
    attempt.refuses(&["--resume", "--out", "nothing"], &["nothing", "no run"]);
    attempt.refuses(&[&SAMPLE[..], &["--config", "none.toml"]].concat(), &["none.toml"]);
}

#[test]
fn files() {
    let attempt = Attempt::new(&[("bad.toml", "epochs = 1\nseed = = 2\n"), ("a_file", "")]);
    attempt.refuses(&[&SAMPLE[..], &["--config", "bad.toml"]].concat(), &["bad.toml:2", "TOML"]);
    attempt.refuses(&[&SAMPLE[..], &["--out", "a_file"]].concat(), &["a_file", "not a folder"]);
    attempt.refuses(&[&SAMPLE[..], &["--out", "."]].concat(), &["holds `", "no run"]);
    attempt.refuses(&[&SAMPLE[..2], &["--data", "missing"]].concat(), &["missing", "not found", "curl"]);
    attempt.refuses(&[&SAMPLE[..2], &["--data", "."]].concat(), &["data_batch_1.bin", "curl"]);
    refused(convnn().arg("eval").arg(attempt.folder.path()), &["holds no weights"]);
    refused(convnn().args(["eval", "/nonexistent"]), &["/nonexistent", "not a folder"]);
    refused(convnn().args(["info", "vgg"]), &["vgg"]);
}

/// A finished run.
fn finished_run() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    succeed(&mut tiny_vgg(&out, 1));
    (folder, out)
}

#[test]
fn a_folder_with_another_configuration() {
    let (_folder, out) = finished_run();
    let unlocked =
        |path: &Path| contents(path).into_iter().filter(|file| !file.0.ends_with(".lock")).collect::<Vec<_>>();
    let before = unlocked(&out);
    let name = out.to_str().unwrap();
    for resume in [&[][..], &["--resume"]] {
        let check = |arguments: &[&str], parts: &[&str]| {
            refused(tiny_vgg(&out, 1).args(arguments).args(resume), &[parts, &[name, "--out"]].concat());
        };
        check(&["--set", "seed=8"], &["`seed` is 7 there and 8 here"]);
        check(&["--set", "layer.neighbors=4"], &["`layer.neighbors` is 9 there and 4 here"]);
        check(&["--set", "layer.kind=conv2d"], &["`layer.kind`", "branching_2d", "conv2d"]);
    }
    assert_eq!(unlocked(&out), before);

    let (_folder, longer) = finished_run();
    refused(&mut tiny_vgg(&longer, 2), &["`epochs` is 1 there and 2 here"]);
}

#[test]
fn a_folder_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let mut first = start(&mut tiny_vgg(&out, 1000));
    while !out.join("config.toml").exists() {
        assert!(first.try_wait().unwrap().is_none());
    }
    for resume in [&[][..], &["--resume"]] {
        let process = format!("in use by process {}", first.id());
        refused(tiny_vgg(&out, 1000).args(resume), &[out.to_str().unwrap(), &process]);
    }
    first.kill().unwrap();
    first.wait().unwrap();
    // The lock ends with its process.
    refused(&mut tiny_vgg(&out, 1000), &["--resume"]);
}

#[test]
fn damaged_weights() {
    let (_folder, out) = finished_run();
    let model = out.join("weights/model.safetensors");
    let bytes = std::fs::read(&model).unwrap();
    std::fs::write(&model, &bytes[..bytes.len() / 2]).unwrap();
    refused(convnn().args(["eval", "--data", "sample"]).arg(out.join("weights")), &["weights/model.safetensors"]);
    std::fs::remove_dir_all(out.join("checkpoints")).unwrap();
    refused(convnn().args(["eval"]).arg(&out), &["no valid checkpoint"]);
    let wrong = ["eval", "--dataset", "cifar100"];
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    std::fs::write(&model, &flipped).unwrap();
    let says = ["weights/model.safetensors", "has changed since it was written"];
    refused(convnn().args(["eval", "--data", "sample"]).arg(out.join("weights")), &says);
    std::fs::write(&model, &bytes).unwrap();
    refused(convnn().args(wrong).arg(out.join("weights")), &["--dataset", "cifar100", "10 classes"]);
}
