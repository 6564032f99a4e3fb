//! `cargo xtask reproduce` with a stand-in for the trainer: what runs, what is skipped, resumed and reported.
#![cfg(unix)]

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A folder for the runs of one test.
struct Bench {
    folder: TempDir,
}

impl Bench {
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

    /// The calls of the trainer since the last question.
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
fn every_run_is_carried_out_once_and_reported() {
    let bench = Bench::new();
    let first = bench.run(&[]);
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    let calls = bench.calls();
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

    let second = bench.run(&[]);
    assert_eq!(second.status.code(), Some(0));
    assert_eq!(stderr(&second).matches(": already done, test top-1 12.50 %").count(), 6, "{}", stderr(&second));
    assert!(bench.calls().iter().all(|call| !call.contains("--resume")));
}

#[test]
fn the_reports_mark_whose_numbers_they_show() {
    let bench = Bench::new();
    assert_eq!(bench.run(&["--seeds", "2"]).status.code(), Some(0));
    let markdown = bench.read("report.md");
    assert_says(&markdown, &["| half and half (ratio 0.5) | 2 of 2 | 12.50 ± 0.00 | *81.27* |"]);
    assert_says(&markdown, &["Published: full-size ViT-Tiny, 150 epochs", "convnn train --preset vit_compact_random"]);
    let page = bench.read("report.html");
    assert_eq!(page.matches("<svg role=\"img\"").count(), 4, "two charts a family");
    assert_says(&page, &["<td class=\"published\">81.27</td>", "prefers-color-scheme: dark"]);
    for outside in ["src=", "href=", "url(", "<script", "@import"] {
        assert!(!page.contains(outside), "the page is not self-contained: {outside}");
    }
    let csv = bench.read("results.csv");
    let columns: Vec<usize> = csv.lines().map(|line| line.split(',').count()).collect();
    assert_eq!(columns.len(), 1 + 2 * 6);
    assert!(columns.iter().all(|count| *count == columns[0]), "{csv}");
}

#[test]
fn a_failed_run_is_reported_and_the_rest_goes_on() {
    let bench = Bench::new();
    let output = bench.command(&[]).env("FAIL_ON", "ratio_0.5").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let end = "1 of 6 runs failed; the same command tries them again:\n  vgg_branch_ratio/ratio_0.5/seed_1\n    ";
    assert_says(
        &stderr(&output),
        &["[2/6] vgg_branch_ratio/ratio_0.5/seed_1: failed", end, "    error: the loss is not finite"],
    );
    assert_says(&bench.read("vgg_branch_ratio/ratio_0.5/seed_1/log.txt"), &["training vgg11_compact", "not finite"]);
    assert_says(&bench.read("report.md"), &["| half and half (ratio 0.5) | 0 of 1 | – |", "a run is missing"]);
    assert_eq!(bench.calls().len(), 6);

    let again = bench.run(&[]);
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    let resumed: Vec<_> = bench.calls().into_iter().filter(|call| call.ends_with("--resume")).collect();
    assert_eq!(resumed.len(), 1);
    assert!(resumed[0].contains("layer.branch_ratio=0.5"), "{resumed:?}");
}

#[test]
fn ctrl_c_leaves_a_run_that_goes_on_later() {
    let bench = Bench::new();
    let mut command = bench.command(&["--only", "ratio"]);
    command.env("WAIT_ON", "ratio_0.5").stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn().unwrap();
    let waiting = bench.out().join("vgg_branch_ratio/ratio_0.5/seed_1/config.toml");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !waiting.exists() {
        assert!(Instant::now() < deadline, "the second run did not start");
        thread::sleep(Duration::from_millis(10));
    }
    // As a terminal does, to the whole group.
    let kill = Command::new("kill").args(["-INT", "--", &format!("-{}", child.id())]).status().unwrap();
    assert!(kill.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));

    bench.calls();
    assert_eq!(bench.run(&["--only", "ratio"]).status.code(), Some(0));
    let resumed: Vec<bool> = bench.calls().iter().map(|call| call.ends_with("--resume")).collect();
    assert_eq!(resumed, [false, true, false], "done, interrupted, new");
}

#[test]
fn bad_input_is_refused_before_anything_is_written() {
    let refused = |arguments: &[&str], parts: &[&str]| {
        let bench = Bench::new();
        let output = bench.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert_says(&stderr(&output), parts);
        assert!(!bench.out().exists());
    };
    refused(&["huge"], &["error: no preset `huge`; there are:", "\n  quick: "]);
    refused(&["--only", "resnet"], &["no run of `smoke` has `resnet` in its id"]);
    refused(&["--data", "cifar"], &["trains on the embedded sample", "cargo xtask reproduce quick --data cifar"]);
    refused(&["quick", "--data", "no/such/folder"], &["--data no/such/folder: no such folder"]);
    refused(&["--report-only"], &["no finished run of `smoke`"]);
    refused(&["--seeds", "0"], &["0 is not in 1..=1000"]);

    let bench = Bench::new();
    let output = bench.command(&["quick"]).env("BAD_INPUT", "1").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_says(&stderr(&output), &["6 of 6 runs failed", "    error: no data\n    exit status: 2\n"]);
    assert!(!bench.out().exists());
}

#[test]
fn a_dry_run_does_nothing() {
    let bench = Bench::new();
    let output = bench.run(&["quick", "--dry-run", "--only", "attention/seed_1"]);
    assert_eq!(output.status.code(), Some(0));
    assert_says(&stderr(&output), &["runs in ", "vit_attention/attention/seed_1"]);
    assert_says(
        &stderr(&output),
        &["convnn train --preset vit_compact_attention --dataset cifar10 --epochs 5 --seed 1"],
    );
    assert!(!bench.out().exists() && bench.calls().is_empty());
}

#[test]
fn results_of_another_configuration_or_damaged_ones_are_not_reported() {
    let bench = Bench::new();
    bench.run(&[]);
    let folder = bench.out().join("vgg_branch_ratio/ratio_1/seed_1");
    let config = fs::read_to_string(folder.join("config.toml")).unwrap();
    fs::write(folder.join("config.toml"), config.replace("branch_ratio = 1.0", "branch_ratio = 0.25")).unwrap();
    let result = bench.out().join("vit_attention/convnn_all/seed_1/result.json");
    let text = fs::read_to_string(&result).unwrap();
    fs::write(&result, &text[..text.len() / 2]).unwrap();

    let output = bench.run(&[]);
    assert_eq!(output.status.code(), Some(1));
    let reason = "the folder holds a run with layer.branch_ratio = 0.25, but 1.0 is planned";
    assert_says(&stderr(&output), &["2 of 6 runs failed", reason, "result.json: EOF while parsing"]);
    assert_says(
        &bench.read("report.md"),
        &["| ConvNN alone (ratio 1) | 0 of 1 | – |", "| ConvNN, all tokens | 0 of 1 |"],
    );
}
