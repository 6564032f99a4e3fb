//! `cargo xtask reproduce`: what is planned, trained, skipped, resumed and reported. Most tests use a stand-in trainer.
#![cfg(unix)]

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
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

    /// `reproduce` with the stand-in trainer.
    fn command(&self, arguments: &[&str]) -> Command {
        let trainer = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/xtask/stand_in_trainer.sh");
        let mut command = self.real(arguments);
        command.args(["--trainer", trainer]).env("CALLS", self.folder.path().join("calls"));
        command
    }

    /// `reproduce` with the trainer of this workspace.
    fn real(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.arg("reproduce").args(arguments).arg("--out").arg(self.out());
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

    /// The folder of the only run whose configuration contains `setting`.
    fn folder_of(&self, setting: &str) -> PathBuf {
        let folders = fs::read_dir(self.out().join("runs")).unwrap().map(|entry| entry.unwrap().path());
        let has = |path: &PathBuf| {
            let config = fs::read_to_string(path.join("config.toml")).unwrap_or_default();
            config.contains(setting)
        };
        let found: Vec<_> = folders.filter(has).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

#[track_caller]
fn assert_succeeds(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
}

#[test]
fn every_run_is_trained_once_and_reported() {
    let runs = Runs::new();
    let first = runs.run(&[]);
    assert_succeeds(&first);
    let calls = runs.calls();
    assert_eq!(calls.len(), 6);
    assert!(calls.iter().all(|call| !call.contains("--resume") && call.contains("--data sample")), "{calls:#?}");
    assert_says(
        &stdout(&first),
        &["off by (f64)", "shipped model", "ConvNN, random candidates", "12.50", "81.27", "report:", "next:", "here"],
    );
    assert_says(
        &stdout(&first),
        &["cannot be compared with the published ones", "* Published: full-size VGG-11, 150 epochs"],
    );
    assert_says(&stderr(&first), &["[6/6] vit_baselines mixer=convnn_random seed 1: done in"]);

    let second = runs.run(&[]);
    assert_succeeds(&second);
    assert_says(&stderr(&second), &["6 of 6 runs are already done"]);
    assert!(runs.calls().is_empty());
    assert_eq!(runs.read("results.csv").lines().count(), 1 + 6);
}

#[test]
fn several_runs_at_a_time_share_the_cores() {
    let runs = Runs::new();
    let mut command = runs.command(&["--jobs", "3", "--seeds", "2"]);
    assert_succeeds(&command.env("RAYON_NUM_THREADS", "6").output().unwrap());
    let calls = runs.calls();
    assert_eq!(calls.len(), 12);
    assert!(
        calls.iter().all(|call| call.split(' ').skip_while(|word| *word != "--threads").nth(1) == Some("2")),
        "{calls:#?}"
    );
}

#[test]
fn the_reports_mark_whose_numbers_they_show() {
    let runs = Runs::new();
    assert_succeeds(&runs.run(&["--seeds", "2"]));
    let markdown = runs.read("report.md");
    assert_says(&markdown, &["| 0.5 | 12.50 ± 0.00 |", "*81.27*", "In every row: 2 of 2 runs, 123,456 parameters"]);
    assert_says(&markdown, &["Published: full-size ViT-Tiny, 150 epochs", "convnn train --preset vit_compact_random"]);
    assert_says(&markdown, &["12 of 12 runs are finished (2026-09-21, commit 0123456).", "too little training"]);
    let page = runs.read("report.html");
    assert_says(
        &page,
        &["<td class=\"published\">81.27</td>", "prefers-color-scheme: dark", "Every part of ConvNN works"],
    );
    for outside in ["src=\"http", "href=\"http", "url(", "@import", "<link"] {
        assert!(!page.contains(outside), "the page is not self-contained: {outside}");
    }
    let csv = runs.read("results.csv");
    assert_eq!(csv.lines().count(), 1 + 2 * 6);
    let half =
        "vgg_branch_ratio,\"dataset=cifar10,similarity=cosine,content=features,ratio=0.5\",vgg11_compact-cifar10-";
    let row = csv.lines().find(|line| line.starts_with(half)).unwrap();
    assert_says(row, &[",123456,0.125,1.5,81.2695,81.6758,82.793,", ",150,BR_test_cos---/"]);
}

#[test]
fn a_failed_run_is_reported_and_the_others_run() {
    let runs = Runs::new();
    let output = runs.command(&[]).env("FAIL_ON", "layer.branch_ratio=0.5").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let end =
        "1 of 6 runs failed; repeat the command to retry them:\n  vgg_branch_ratio ratio=0.5 seed 1\n    training";
    assert_says(
        &stderr(&output),
        &["[2/6] vgg_branch_ratio ratio=0.5 seed 1: failed", end, "    error: the loss is not finite"],
    );
    assert_says(&runs.read("report.md"), &["| 0.5 | 0 of 1 | – |", "runs are missing"]);
    assert_eq!(runs.calls().len(), 6);

    let again = runs.run(&[]);
    assert_succeeds(&again);
    let resumed: Vec<_> = runs.calls().into_iter().filter(|call| call.ends_with("--resume")).collect();
    assert_eq!(resumed.len(), 1);
    assert!(resumed[0].contains("layer.branch_ratio=0.5"), "{resumed:?}");
}

const VGG: [&str; 2] = ["--only", "vgg_branch_ratio"];

/// Interrupts the second of three runs with `signal`; `group` is whether the trainer gets it directly, as from a terminal.
/// Returns the exit code.
fn interrupt(runs: &Runs, signal: &str, group: bool) -> Option<i32> {
    let mut command = runs.command(&VGG);
    command.env("WAIT_ON", "branch_ratio=0.5").stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn().unwrap();
    let waiting = || {
        let folders = fs::read_dir(runs.out().join("runs")).into_iter().flatten();
        folders.flatten().any(|folder| folder.path().join("waiting").exists())
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while !waiting() {
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
        let folder = runs.folder_of("\"layer.branch_ratio\" = \"0.5\"");
        assert_eq!(fs::read_to_string(folder.join("saved")).unwrap().trim(), signal);
        runs.calls();
        assert_succeeds(&runs.run(&VGG));
        let resumed: Vec<bool> = runs.calls().iter().map(|call| call.ends_with("--resume")).collect();
        assert_eq!(resumed, [true, false], "interrupted, new; the first is done");
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
    assert_rejected(&["huge"], &["error: no budget `huge`; available budgets:", "\n  quick: "]);
    assert_rejected(&["--only", "resnet"], &["no family `resnet`; available families:", "\n  vgg_branch_ratio"]);
    assert_rejected(&["--only", "vgg_random"], &["budget `smoke` does not train this family; its budgets are paper"]);
    assert_rejected(&["--where", "ratio=3"], &["--where ratio=3: no row of budget `smoke` matches; axes are content"]);
    assert_rejected(&["--where", "ratio"], &["--where ratio: expected KEY=VALUE"]);
    assert_rejected(
        &["--data", "cifar"],
        &["trains on the embedded sample", "cargo xtask reproduce quick --data cifar"],
    );
    assert_rejected(&["quick", "--data", "no/such/folder"], &["--data no/such/folder: no such folder"]);
    assert_rejected(&["--report-only"], &["no finished run of `smoke`"]);
    assert_rejected(&["--no-submit"], &["--no-submit needs --launcher slurm"]);
    assert_rejected(&["--throttle", "2"], &["--throttle needs --launcher slurm"]);
    assert_rejected(&["--seeds", "0"], &["0 is not in 1..=1000"]);
    assert_rejected(&["--jobs", "0"], &["0 is not in 1..=1024"]);
    assert_rejected(&["--new", "my family"], &["--new my family: expected a name of letters, digits and `_`"]);
    assert_rejected(&["--new", "vgg_k"], &["vgg_k.toml already exists"]);

    let runs = Runs::new();
    let output = runs.command(&["quick"]).env("NO_DATA", "1").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_says(&stderr(&output), &["error: CIFAR-10 was not found"]);
    assert!(!runs.out().exists());
}

#[test]
fn a_folder_of_something_else_is_left_alone() {
    let runs = Runs::new();
    let assert_refused = |budget: &str, part: &str| {
        let output = runs.run(&[budget]);
        assert_eq!(output.status.code(), Some(2));
        assert_says(&stderr(&output), &[part]);
        assert!(runs.calls().is_empty());
    };
    fs::create_dir(runs.out()).unwrap();
    fs::write(runs.out().join("thesis.tex"), "").unwrap();
    assert_refused("smoke", "the folder is not empty and holds no runs of this version");
    fs::write(runs.out().join("plan.json"), r#"{"format": 0, "budget": "smoke"}"#).unwrap();
    assert_refused("smoke", "its runs are of format 0; expected 1");
    fs::write(runs.out().join("plan.json"), r#"{"format": 1, "budget": "paper"}"#).unwrap();
    assert_refused("smoke", "its runs are of budget `paper`, not `smoke`");
}

#[test]
fn a_dry_run_shows_what_is_needed_and_writes_nothing() {
    let runs = Runs::new();
    let output = runs.run(&["quick", "--dry-run", "--only", "vit_baselines", "--where", "mixer=attention"]);
    assert_succeeds(&output);
    assert_says(&stdout(&output), &["vit_baselines", "5 MB", "2 MB", "6 min", "from a measured step"]);
    assert_says(&stderr(&output), &["measuring a step of vit_compact_attention"]);
    let output = runs.command(&["quick", "--dry-run"]).env("NO_DATA", "1").output().unwrap();
    assert_succeeds(&output);
    assert_says(&stdout(&output), &["Missing data: cifar10: CIFAR-10 was not found"]);
    assert!(!runs.out().exists() && runs.calls().is_empty());
}

#[test]
fn damaged_results_and_those_of_another_configuration_are_not_reported() {
    let runs = Runs::new();
    runs.run(&[]);
    let folder = runs.folder_of("\"layer.branch_ratio\" = \"1.0\"");
    let config = fs::read_to_string(folder.join("config.toml")).unwrap();
    fs::write(folder.join("config.toml"), config.replace("\"1.0\"", "\"0.25\"")).unwrap();
    let result = runs.folder_of("preset = \"vit_compact\"").join("result.json");
    let text = fs::read_to_string(&result).unwrap();
    fs::write(&result, &text[..text.len() / 2]).unwrap();
    runs.calls();

    let output = runs.run(&[]);
    assert_eq!(output.status.code(), Some(1));
    let reason = "the folder holds another run: layer.branch_ratio is \"0.25\"; expected \"1.0\"";
    assert_says(
        &stderr(&output),
        &["2 of 6 runs failed", reason, "result.json: EOF while parsing", "to train it again"],
    );
    assert_says(&runs.read("report.md"), &["| 1 | 0 of 1 | – |", "| ConvNN, all tokens | 0 of 1 |"]);
    assert!(runs.calls().is_empty(), "nothing is trained over what is there");
}

/// A folder for families, which takes the budgets of the workspace.
fn experiments(folder: &Path) -> PathBuf {
    let experiments = folder.join("experiments");
    fs::create_dir(&experiments).unwrap();
    experiments
}

#[test]
fn a_family_from_the_template_needs_no_code() {
    let runs = Runs::new();
    let experiments = experiments(runs.folder.path());
    let folder = experiments.to_str().unwrap();
    let made = runs.run(&["--new", "mine", "--experiments", folder]);
    assert_succeeds(&made);
    let next = format!("cargo xtask reproduce quick --experiments {folder} --only mine --dry-run");
    assert_says(&stdout(&made), &["mine.toml", &next]);
    let output = runs.run(&["quick", "--experiments", folder, "--only", "mine"]);
    assert_succeeds(&output);
    assert_eq!(runs.calls().len(), 6);
    let markdown = runs.read("report.md");
    assert_says(&markdown, &["## VGG: my experiment", "| 0.5 | 12.50 ± 0.00 |", "Half and half is more accurate"]);
    assert!(!markdown.contains("*published"), "{markdown}");
    // All rows are equal, and so is every seed: the difference is 0 ± 0.
    assert_says(&markdown, &["**not decidable** | +0.00 ± 0.00 and +0.00 ± 0.00 points, 2 seeds"]);
}

#[test]
fn wrong_experiments_are_refused() {
    for (from, to, reason) in [
        ("title =", "titel =", "unknown field `titel`"),
        ("key = \"layer.branch_ratio\"", "", "the value `0` needs the axis to have a `key`"),
        ("values = [0.0, 0.5, 1.0]", "values = [0.0, 0.5, 0.5]", "axis `ratio` has the value `0.5` twice"),
        (
            "better = { ratio = 0.5 }",
            "better = { ratio = 0.25 }",
            "a claim: axis `ratio` has no value `0.25`; expected 0, 0.5, 1",
        ),
        (
            "better = { ratio = 0.5 }",
            "better = { depth = 1 }",
            "`depth` is not an axis of mine; expected dataset, ratio",
        ),
        ("recipe = \"cnn\"", "recipe = \"rnn\"", "recipe `rnn` of budget `quick` is not in budgets.toml"),
        ("[budgets.quick]", "[budgets.huge]", "budget `huge` is not in budgets.toml; expected paper, quick, smoke"),
        ("epochs = 6", "epochs = 0", "budget `quick`: epochs is 0"),
        ("datasets = [\"cifar10\"]", "datasets = []", "`datasets` is empty"),
        ("[[axes]]", "[published]\nmodel = \"\"\nsource = \"\"\nwhere = { fold = 1 }\n[[axes]]", "no column `fold`"),
        ("[[axes]]", "[published]\nmodel = \"\"\nsource = \"\"\nwhere = { k = 9 }\n[[axes]]", "more than one run with"),
    ] {
        let runs = Runs::new();
        let experiments = experiments(runs.folder.path());
        let folder = experiments.to_str().unwrap();
        assert_succeeds(&runs.run(&["--new", "mine", "--experiments", folder]));
        let path = experiments.join("mine.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let output = runs.run(&["quick", "--experiments", folder, "--only", "mine"]);
        assert_eq!(output.status.code(), Some(2), "{to}: {}", stderr(&output));
        assert_says(&stderr(&output), &["mine.toml", reason]);
        assert!(!runs.out().exists());
    }
}

#[test]
fn the_published_protocol_is_ours_in_every_field() {
    let runs = Runs::new();
    let output = runs.real(&["paper", "--dry-run"]).env("CONVNN_DATA", "/nowhere").output().unwrap();
    assert_succeeds(&output);
    assert_says(&stdout(&output), &["Published protocol: 586 of 586 published rows agree in every field."]);

    // A row that is trained otherwise is named.
    let experiments = experiments(runs.folder.path());
    let family =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/experiments/vgg_pixel_shuffle.toml")).unwrap();
    fs::write(experiments.join("shuffle.toml"), family.replace("batch_size = 256", "batch_size = 128")).unwrap();
    let folder = experiments.to_str().unwrap();
    let output =
        runs.real(&["paper", "--dry-run", "--experiments", folder]).env("CONVNN_DATA", "/nowhere").output().unwrap();
    assert_says(&stdout(&output), &["0 of 8 published rows", "batch_size is 128; published 256"]);
}

const TINY: &str = r#"
title = "Tiny"
about = "Two rows that take a second each."
[[axes]]
name = "ratio"
key = "layer.branch_ratio"
values = [0.0, 0.5]
[budgets.quick]
preset = "vgg11_compact"
sample = true
epochs = 4
seeds = 2
set = { "model.features" = ["M", 4, "M", 8, "M"], batch_size = 32 }
"#;

#[test]
fn killed_at_random_moments_the_same_command_ends_with_the_same_table() {
    let tables = [false, true].map(|killed| {
        let runs = Runs::new();
        let experiments = experiments(runs.folder.path());
        fs::write(experiments.join("tiny.toml"), TINY).unwrap();
        let arguments = ["quick", "--jobs", "2", "--experiments", experiments.to_str().unwrap()];
        let mut command = runs.real(&arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        // The parent and its children form a group, and SIGKILL takes them all.
        for delay in [700, 1100, 1600].into_iter().filter(|_| killed) {
            let mut child = command.process_group(0).spawn().unwrap();
            thread::sleep(Duration::from_millis(delay));
            let group = format!("-{}", child.id());
            Command::new("kill").args(["-s", "KILL", "--", &group]).status().unwrap();
            child.wait().unwrap();
        }
        assert_succeeds(&runs.real(&arguments).output().unwrap());
        let csv = runs.read("results.csv");
        // Seconds differ from run to run.
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        let place = reader.headers().unwrap().iter().position(|name| name == "seconds_per_epoch").unwrap();
        let rows = reader.records().map(|row| row.unwrap());
        let without = |row: csv::StringRecord| {
            row.iter().enumerate().filter(|(i, _)| *i != place).map(|(_, cell)| cell.to_owned()).collect()
        };
        let rows: Vec<Vec<String>> = rows.map(without).collect();
        assert_eq!(rows.len(), 4);
        rows
    });
    assert_eq!(tables[0], tables[1]);
}

#[test]
fn the_trainer_gets_the_signal_and_saves() {
    let runs = Runs::new();
    let experiments = experiments(runs.folder.path());
    fs::write(experiments.join("tiny.toml"), TINY.replace("epochs = 4", "epochs = 10000")).unwrap();
    let mut command = runs.real(&["quick", "--jobs", "2", "--experiments", experiments.to_str().unwrap()]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn().unwrap();
    let folders = || fs::read_dir(runs.out().join("runs")).into_iter().flatten().flatten().map(|entry| entry.path());
    let started =
        || folders().filter(|folder| folder.join("metrics.jsonl").metadata().is_ok_and(|file| file.len() > 0)).count();
    // The trainer may have to be built first.
    let deadline = Instant::now() + Duration::from_secs(1200);
    while started() < 2 {
        assert!(Instant::now() < deadline, "the runs did not start");
        thread::sleep(Duration::from_millis(20));
    }
    Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let logs: Vec<String> = fs::read_dir(runs.out().join("logs"))
        .unwrap()
        .map(|log| fs::read_to_string(log.unwrap().path()).unwrap())
        .collect();
    assert_eq!(logs.len(), 2);
    assert!(logs.iter().all(|log| log.contains("everything is saved")), "{logs:?}");
}

/// A stand-in for sbatch that runs every task of an array in turn, as SLURM does, and one for scontrol that notes what is put back
/// into the queue.
fn stand_in_slurm(folder: &Path) {
    let write = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    write(
        "sbatch",
        "#!/bin/bash\n[ \"$1\" = --version ] && exit 0\n\
         tasks=$(sed -n 's/^#SBATCH --array=1-\\([0-9]*\\)%.*/\\1/p' \"$1\")\n\
         for task in $(seq \"$tasks\"); do SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$task bash \"$1\"; done\n\
         echo 'Submitted batch job 7'\n",
    );
    write("scontrol", "#!/bin/bash\necho \"$*\" >>\"$(dirname \"$0\")/requeued\"\n");
}

#[test]
fn slurm_gets_an_array_of_the_same_runs() {
    let runs = Runs::new();
    let bin = tempfile::tempdir().unwrap();
    stand_in_slurm(bin.path());
    let path = format!("{}:{}", bin.path().display(), std::env::var("PATH").unwrap());
    let slurm = ["--launcher", "slurm", "--threads", "2", "--throttle", "3", "--sbatch=--partition=cpu"];

    // The second of three is stopped by its time limit.
    let mut command = runs.command(&[&VGG[..], &slurm].concat());
    command.env("PATH", &path).env("WAIT_ON", "branch_ratio=0.5");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let shell = || {
        // Where the signal of SLURM goes: the shell of the array's task.
        let out =
            Command::new("pgrep").args(["-f", runs.out().join("slurm/array.sh").to_str().unwrap()]).output().unwrap();
        let all = stdout(&out);
        all.split_whitespace().last().map(str::to_owned)
    };
    let waiting = || {
        let folders = fs::read_dir(runs.out().join("runs")).into_iter().flatten();
        folders.flatten().any(|folder| folder.path().join("waiting").exists())
    };
    while !waiting() {
        assert!(Instant::now() < deadline, "the second task did not start");
        thread::sleep(Duration::from_millis(10));
    }
    Command::new("kill").args(["-s", "USR1", &shell().unwrap()]).status().unwrap();
    let submitted = child.wait_with_output().unwrap();
    assert_succeeds(&submitted);
    assert_says(&stdout(&submitted), &["Submitted batch job 7"]);
    assert_eq!(fs::read_to_string(bin.path().join("requeued")).unwrap(), "requeue 7_2\n");
    let script = runs.read("slurm/array.sh");
    let lines = [
        "--array=1-3%3",
        "--time=04:00:00",
        "--signal=B:USR1@120",
        "--requeue",
        "--partition=cpu",
        "--cpus-per-task=2",
    ];
    assert_says(&script, &lines.map(|line| format!("#SBATCH {line}")).each_ref().map(String::as_str));
    assert_eq!(runs.read("slurm/manifest.jsonl").lines().count(), 3);

    // Put back into the queue, it resumes; the others have nothing to do.
    runs.calls();
    let again = Command::new(bin.path().join("sbatch"))
        .arg(runs.out().join("slurm/array.sh"))
        .env("PATH", &path)
        .env("CALLS", runs.folder.path().join("calls"))
        .output();
    assert_succeeds(&again.unwrap());
    let calls = runs.calls();
    assert!(calls.len() == 1 && calls[0].ends_with("--resume"), "{calls:?}");
    let options = ["--collect", "--throttle", "2"];
    let collected = runs.run(&[&VGG[..], &options].concat());
    assert_succeeds(&collected);
    assert_eq!(runs.read("results.csv").lines().count(), 1 + 3);

    let done = runs.command(&[&VGG[..], &slurm].concat()).env("PATH", &path).output().unwrap();
    assert_says(&stderr(&done), &["all runs are done"]);
}

#[test]
fn without_slurm_nothing_is_written_unless_asked_for() {
    if Command::new("sbatch").arg("--version").output().is_ok() {
        eprintln!("skipped: SLURM is installed here");
        return;
    }
    let runs = Runs::new();
    let output = runs.command(&["--launcher", "slurm"]).env("PATH", "/usr/bin:/bin").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_says(&stderr(&output), &["--launcher slurm: `sbatch` is not on the PATH"]);
    assert!(!runs.out().exists());
    let written = runs.run(&["--launcher", "slurm", "--no-submit"]);
    assert_succeeds(&written);
    assert_says(&stdout(&written), &["sbatch ", "slurm/array.sh"]);
    assert!(runs.calls().is_empty());
}
