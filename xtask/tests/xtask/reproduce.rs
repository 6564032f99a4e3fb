//! `cargo xtask reproduce` with a stand-in trainer: what is trained, skipped, resumed and reported.
#![cfg(unix)]

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A temporary folder for the runs of one test.
struct Runs {
    folder: TempDir,
}

impl Runs {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("runs")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let trainer = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/xtask/stand_in_trainer.sh");
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.arg("reproduce").args(arguments).args(["--trainer", trainer, "--out"]).arg(self.out());
        command.env("CALLS", self.folder.path().join("calls"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The trainer's command lines since this was last asked.
    fn calls(&self) -> Vec<String> {
        let path = self.folder.path().join("calls");
        let text = fs::read_to_string(&path).unwrap_or_default();
        fs::write(path, "").unwrap();
        text.lines().map(str::to_string).collect()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.out().join(name)).unwrap()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

#[test]
fn every_run_is_trained_once_and_reported() {
    let runs = Runs::new();
    let first = runs.run(&[]);
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    let calls = runs.calls();
    assert_eq!(calls.len(), 6);
    assert!(calls.iter().all(|call| !call.contains("--resume") && call.contains("--data sample")), "{calls:#?}");
    let table = String::from_utf8(first.stdout).unwrap();
    assert_says(
        &table,
        &[
            "ConvNN alone (ratio 1)",
            "12.50",
            "123,456",
            "81.27",
            "* Published: full-size VGG-11, 150 epochs",
            "report:",
        ],
    );
    assert_says(&table, &["cannot be compared with the published ones"]);

    let second = runs.run(&[]);
    assert_eq!(second.status.code(), Some(0));
    assert_eq!(stderr(&second).matches(": already done, test top-1 12.50 %").count(), 6, "{}", stderr(&second));
    assert!(runs.calls().iter().all(|call| !call.contains("--resume")));
}

#[test]
fn the_reports_mark_whose_numbers_they_show() {
    let runs = Runs::new();
    assert_eq!(runs.run(&["--seeds", "2"]).status.code(), Some(0));
    let markdown = runs.read("report.md");
    assert_says(&markdown, &["| half and half (ratio 0.5) | 2 of 2 | 12.50 ± 0.00 | *81.27* |"]);
    assert_says(&markdown, &["Published: full-size ViT-Tiny, 150 epochs", "convnn train --preset vit_compact_random"]);
    let page = runs.read("report.html");
    assert_eq!(page.matches("<svg role=\"img\"").count(), 4, "two charts per family");
    assert_says(&page, &["<td class=\"published\">81.27</td>", "prefers-color-scheme: dark"]);
    for outside in ["src=", "href=", "url(", "<script", "@import"] {
        assert!(!page.contains(outside), "the page is not self-contained: {outside}");
    }
    let csv = runs.read("results.csv");
    assert_eq!(csv.lines().count(), 1 + 2 * 6);
    let half = "vgg_branch_ratio/ratio_0.5/seed_2,vgg_branch_ratio,ratio_0.5,vgg11_compact,cifar10,2,2,12.5,55.0,2.25,";
    let row = csv.lines().find(|line| line.starts_with(half)).unwrap();
    assert_says(row, &[",123456,0.125,1.5,81.2695,81.6758,82.793,150,vgg_branch_ratio.csv: "]);
}

#[test]
fn a_failed_run_is_reported_and_the_others_run() {
    let runs = Runs::new();
    let output = runs.command(&[]).env("FAIL_ON", "ratio_0.5").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let end = "1 of 6 runs failed; repeat the command to retry them:\n  vgg_branch_ratio/ratio_0.5/seed_1\n    ";
    assert_says(
        &stderr(&output),
        &["[2/6] vgg_branch_ratio/ratio_0.5/seed_1: failed", end, "    error: the loss is not finite"],
    );
    assert_says(&runs.read("vgg_branch_ratio/ratio_0.5/seed_1/log.txt"), &["training vgg11_compact", "not finite"]);
    assert_says(&runs.read("report.md"), &["| half and half (ratio 0.5) | 0 of 1 | – |", "a run is missing"]);
    assert_eq!(runs.calls().len(), 6);

    let again = runs.run(&[]);
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    let resumed: Vec<_> = runs.calls().into_iter().filter(|call| call.ends_with("--resume")).collect();
    assert_eq!(resumed.len(), 1);
    assert!(resumed[0].contains("layer.branch_ratio=0.5"), "{resumed:?}");
}

/// Interrupts the second of three runs with `signal`; `group` is whether the trainer gets it directly, as from a terminal.
/// Returns the exit code.
fn interrupt(runs: &Runs, signal: &str, group: bool) -> Option<i32> {
    let mut command = runs.command(&["--only", "ratio"]);
    command.env("WAIT_ON", "ratio_0.5").stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn().unwrap();
    let waiting = runs.out().join("vgg_branch_ratio/ratio_0.5/seed_1/waiting");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !waiting.exists() {
        assert!(Instant::now() < deadline, "the second run did not start");
        thread::sleep(Duration::from_millis(10));
    }
    let target = format!("{}{}", if group { "-" } else { "" }, child.id());
    let kill = Command::new("kill").args(["-s", signal, "--", &target]).status().unwrap();
    assert!(kill.success());
    child.wait().unwrap().code()
}

#[test]
fn an_interrupted_run_saves_and_resumes_later() {
    for (signal, group) in [("INT", true), ("TERM", false), ("HUP", false)] {
        let runs = Runs::new();
        assert_eq!(interrupt(&runs, signal, group), Some(130), "{signal}");
        // The trainer got the signal and saved before it ended.
        let saved = runs.read("vgg_branch_ratio/ratio_0.5/seed_1/saved");
        assert_eq!(saved.trim(), signal);
        runs.calls();
        assert_eq!(runs.run(&["--only", "ratio"]).status.code(), Some(0));
        let resumed: Vec<bool> = runs.calls().iter().map(|call| call.ends_with("--resume")).collect();
        assert_eq!(resumed, [false, true, false], "done, interrupted, new");
    }
}

#[test]
fn invalid_input_is_rejected_before_anything_is_written() {
    let assert_rejected = |arguments: &[&str], parts: &[&str]| {
        let runs = Runs::new();
        let output = runs.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert_says(&stderr(&output), parts);
        assert!(!runs.out().exists());
    };
    assert_rejected(&["huge"], &["error: no preset `huge`; available presets:", "\n  quick: "]);
    assert_rejected(&["--only", "resnet"], &["no run of `smoke` has `resnet` in its id"]);
    assert_rejected(
        &["--data", "cifar"],
        &["trains on the embedded sample", "cargo xtask reproduce quick --data cifar"],
    );
    assert_rejected(&["quick", "--data", "no/such/folder"], &["--data no/such/folder: no such folder"]);
    assert_rejected(&["--report-only"], &["no finished run of `smoke`"]);
    assert_rejected(&["--seeds", "0"], &["0 is not in 1..=1000"]);

    let runs = Runs::new();
    let output = runs.command(&["quick"]).env("BAD_INPUT", "1").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_says(&stderr(&output), &["6 of 6 runs failed", "    error: no data\n    exit status: 2\n"]);
    assert!(!runs.out().exists());
}

#[test]
fn a_dry_run_does_nothing() {
    let runs = Runs::new();
    let output = runs.run(&["quick", "--dry-run", "--only", "attention/seed_1"]);
    assert_eq!(output.status.code(), Some(0));
    assert_says(&stderr(&output), &["runs in ", "vit_attention/attention/seed_1"]);
    assert_says(
        &stderr(&output),
        &["convnn train --preset vit_compact_attention --dataset cifar10 --epochs 5 --seed 1"],
    );
    assert!(!runs.out().exists() && runs.calls().is_empty());
}

#[test]
fn damaged_results_and_those_of_another_configuration_are_not_reported() {
    let runs = Runs::new();
    runs.run(&[]);
    let folder = runs.out().join("vgg_branch_ratio/ratio_1/seed_1");
    let config = fs::read_to_string(folder.join("config.toml")).unwrap();
    fs::write(folder.join("config.toml"), config.replace("branch_ratio = 1.0", "branch_ratio = 0.25")).unwrap();
    let result = runs.out().join("vit_attention/convnn_all/seed_1/result.json");
    let text = fs::read_to_string(&result).unwrap();
    fs::write(&result, &text[..text.len() / 2]).unwrap();

    let output = runs.run(&[]);
    assert_eq!(output.status.code(), Some(1));
    let reason = "the folder holds a run with layer.branch_ratio = 0.25; expected 1.0";
    assert_says(&stderr(&output), &["2 of 6 runs failed", reason, "result.json: EOF while parsing"]);
    assert_says(
        &runs.read("report.md"),
        &["| ConvNN alone (ratio 1) | 0 of 1 | – |", "| ConvNN, all tokens | 0 of 1 |"],
    );
}
