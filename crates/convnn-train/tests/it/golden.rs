//! Run folders of earlier versions, which load and continue in this one.
//!
//! `tests/golden_runs/VERSION-NAME` is a run folder as that version left it; they are only ever added to. A new one is
//! made with the commands in `tests/golden_runs/README.md`.

use crate::command::{contents, convnn, copy, fingerprint, finish, metrics, result, succeed};
use std::path::{Path, PathBuf};

fn runs() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden_runs");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let runs: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    assert!(!runs.is_empty());
    runs
}

#[test]
fn golden_runs_are_evaluated_as_they_were() {
    for run in runs() {
        let before = contents(&run);
        let evaluate = |path: &Path| {
            let finished = succeed(convnn().args(["eval", "--json", "--data", "sample"]).arg(path));
            let json: serde_json::Value = serde_json::from_str(&finished.stdout).unwrap();
            json["loss"].as_f64().unwrap()
        };
        let last = metrics(&run).last().unwrap()["test_loss"].as_f64().unwrap();
        let epoch = metrics(&run).len();
        let mut paths = vec![run.join(format!("checkpoints/epoch-{epoch:04}"))];
        if run.join("DONE").exists() {
            paths.extend([run.clone(), run.join("weights")]);
        }
        for path in paths {
            let loss = evaluate(&path);
            assert!((loss - last).abs() < 1e-4, "{}: {loss}, {last}", path.display());
        }
        assert_eq!(contents(&run), before);
    }
}

#[test]
fn golden_runs_continue() {
    let folder = tempfile::tempdir().unwrap();
    for golden in runs() {
        let run = folder.path().join(golden.file_name().unwrap());
        copy(&golden, &run);
        let before = metrics(&run);
        let epochs = before.len() + 2;
        let mut command = convnn();
        command.args(["train", "--resume", "--epochs", &epochs.to_string(), "--out"]).arg(&run);
        let mut finished = finish(&mut command);
        if finished.stderr.contains("another instruction set") {
            finished = finish(command.arg("--force"));
        }
        assert_eq!(finished.code, Some(0), "{finished:?}");
        assert!(finished.stderr.contains("resumed from"), "{finished:?}");
        assert_eq!(metrics(&run)[..before.len()], before[..]);
        assert_eq!(result(&run)["epochs"], epochs);
    }
}

/// A checkpoint within an epoch has the sums of the epoch, what the optimizer and the average remember, and the place in
/// every random stream.
#[test]
fn golden_runs_stopped_within_an_epoch_end_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let stopped: Vec<_> = runs().into_iter().filter(|run| !run.join("DONE").exists()).collect();
    assert!(!stopped.is_empty());
    for golden in stopped {
        let name = golden.file_name().unwrap().to_str().unwrap();
        let (whole, run) = (folder.path().join(format!("{name}-whole")), folder.path().join(name));
        copy(&golden, &run);
        let mut command = convnn();
        succeed(command.args(["train", "--config"]).arg(golden.join("config.toml")).arg("--out").arg(&whole));
        let (weights, lines) = fingerprint(&whole);
        let mut resume = convnn();
        resume.args(["train", "--resume", "--out"]).arg(&run);
        let finished = finish(&mut resume);
        let same_processor = !finished.stderr.contains("another instruction set");
        if !same_processor {
            succeed(resume.arg("--force"));
        } else {
            assert_eq!(finished.code, Some(0), "{finished:?}");
            assert!(finished.stderr.contains("-batch-"), "not from within an epoch: {finished:?}");
        }
        let (found, found_lines) = fingerprint(&run);
        assert_eq!(found_lines.len(), lines.len());
        if same_processor && lines[0] == found_lines[0] {
            assert_eq!((found, found_lines), (weights, lines), "{name}");
        } else {
            println!("{name}: only resumed, as the first epoch has other bits on this processor or in this version");
        }
    }
}
