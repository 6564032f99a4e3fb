//! The same configuration gives the same bits.

use crate::command::{convnn, fingerprint, finish, metrics, result, start, succeed, tiny_vgg, tiny_vit};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

#[test]
fn same_seed_same_bits_for_one_and_two_threads() {
    for tiny in [tiny_vit, tiny_vgg] {
        let folder = tempfile::tempdir().unwrap();
        let run = |name: &str, arguments: &[&str]| {
            let out = folder.path().join(name);
            succeed(tiny(&out, 2).args(arguments));
            fingerprint(&out)
        };
        let first = run("first", &[]);
        assert_eq!(first, run("again", &[]));
        assert_eq!(first, run("one", &["--threads", "1"]));
        assert_eq!(first, run("two", &["--threads", "2"]));
        assert_eq!(first, run("three", &["--threads", "3"]));
        assert_ne!(first.0, run("other", &["--set", "seed=8"]).0);
    }
}

/// Everything that a run carries from step to step, on at once.
#[test]
fn same_bits_with_everything_on_and_after_stops_at_random_steps() {
    let folder = tempfile::tempdir().unwrap();
    let whole = |out: &Path| {
        let mut command = tiny_vgg(out, 6);
        for set in ["ema_decay=0.9", "accumulate=3", "label_smoothing=0.1", "clip_grad_value=0.1", "optimizer=muon"] {
            command.args(["--set", set]);
        }
        for set in ["schedule=one_cycle", "augmentation=crop_flip", "decay_norms_and_biases=false", "mixup=0.4"] {
            command.args(["--set", set]);
        }
        // Two epochs without a better validation accuracy may end it early, the same for all.
        for set in ["holdout=64", "early_stopping=2"] {
            command.args(["--set", set]);
        }
        command
    };
    let run = |name: &str, threads: &str| {
        let out = folder.path().join(name);
        succeed(whole(&out).args(["--threads", threads]));
        (fingerprint(&out), std::fs::read(out.join("weights/model.safetensors")).unwrap())
    };
    let expected = run("one", "1");
    assert!(expected == run("two", "2"), "two threads");
    assert!(expected == run("four", "4"), "four threads");

    let out = folder.path().join("stopped");
    let mut stops = 0;
    for attempt in 0u64.. {
        let mut child = start(whole(&out).arg("--resume"));
        let nanos = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
        std::thread::sleep(Duration::from_millis(100 + 20 * attempt + u64::from(nanos) % 300));
        let mut kill = Command::new("kill");
        finish(kill.args(["-s", "TERM", &child.id().to_string()]));
        match child.wait().unwrap().code() {
            Some(0) => break,
            Some(143) => stops += 1,
            code => panic!("attempt {attempt} ended with {code:?}"),
        }
    }
    assert!(stops > 0, "it was never stopped");
    let found = (fingerprint(&out), std::fs::read(out.join("weights/model.safetensors")).unwrap());
    assert!(found == expected, "after {stops} stops");
}

#[test]
fn files_of_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let finished = succeed(&mut tiny_vgg(&out, 3));
    let result = result(&out);
    let lines = metrics(&out);
    assert_eq!(lines.len(), 3);
    let last = lines.last().unwrap();
    assert_eq!(result["final"]["top1"], last["test_top1"]);
    assert_eq!(result["final"]["epoch"], 3);
    for key in ["last5", "best"] {
        for value in ["top1", "top5", "loss", "epoch"] {
            assert!(result[key][value].is_number(), "{key} {value}");
        }
    }
    for key in ["params", "gflops", "seconds_per_epoch", "preset", "dataset", "seed", "epochs"] {
        assert!(!result[key].is_null(), "{key}");
    }
    let shown = format!("last epoch         3    {:.2} ", result["final"]["top1"].as_f64().unwrap());
    assert!(finished.stdout.contains(&shown), "{}", finished.stdout);
    let mut names: Vec<_> =
        std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let expected = [
        "DONE",
        "checkpoints",
        "config.toml",
        "curves.svg",
        "environment.json",
        "metrics.jsonl",
        "result.json",
        "tensorboard",
        "weights",
    ];
    assert_eq!(names, expected);

    // Repeating the command changes nothing, and resuming without a preset uses the configuration of the run.
    let before = std::fs::read(out.join("result.json")).unwrap();
    for command in [&mut tiny_vgg(&out, 3), convnn().args(["train", "--resume", "--out"]).arg(&out)] {
        let again = succeed(command);
        assert!(again.stderr.contains("already finished"), "{again:?}");
        assert_eq!(again.stdout, finished.stdout);
    }
    assert_eq!(std::fs::read(out.join("result.json")).unwrap(), before);
}

#[test]
fn evaluation_reproduces_the_numbers_of_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    succeed(&mut tiny_vgg(&out, 2));
    let expected = result(&out)["final"].clone();
    for path in [out.clone(), out.join("weights"), out.join("checkpoints/epoch-0002")] {
        let finished = succeed(convnn().args(["eval", "--json", "--data", "sample"]).arg(&path));
        let found: serde_json::Value = serde_json::from_str(&finished.stdout).unwrap();
        assert_eq!((&found["top1"], &found["top5"]), (&expected["top1"], &expected["top5"]));
        let difference = found["loss"].as_f64().unwrap() - expected["loss"].as_f64().unwrap();
        assert!(difference.abs() < 1e-6, "{difference}");
        assert_eq!(found["images"], 256);
    }
    // A run knows where its images come from.
    succeed(convnn().args(["eval", "--batch-size", "7"]).arg(&out));
}

#[test]
fn a_longer_run_continues_a_shorter_one() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, longer) = (folder.path().join("whole"), folder.path().join("longer"));
    succeed(&mut tiny_vit(&whole, 3));
    succeed(&mut tiny_vit(&longer, 1));
    assert_eq!(finish(&mut tiny_vit(&longer, 3)).code, Some(2), "only resuming may extend a run");
    succeed(tiny_vit(&longer, 3).arg("--resume"));
    assert_eq!(fingerprint(&longer), fingerprint(&whole));
}

#[test]
fn a_closed_standard_output_is_not_an_error() {
    let mut child =
        convnn().arg("info").stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}
