//! `cargo xtask bench` with a stand-in for both sides: they take turns, and the best round counts.
#![cfg(unix)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const STAND_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/xtask/stand_in_bench.sh");

fn bench(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["bench", "--trainer", STAND_IN, "--peer", STAND_IN, "--threads", "2", "--out"]).arg(folder);
    command.args(arguments).env("CALLS", folder.join("calls")).output().unwrap()
}

#[test]
fn both_sides_take_turns_and_the_best_round_counts() {
    let folder = tempfile::tempdir().unwrap();
    let output = bench(folder.path(), &["--cases", "hybrid_step", "--rounds", "2", "--name", "test"]);
    assert!(output.status.success(), "{output:?}");
    let calls = fs::read_to_string(folder.path().join("calls")).unwrap();
    let peer = "--cases vgg11_hybrid_step --repeats 3 --threads 2";
    let ours = format!("bench {peer} --json");
    assert_eq!(calls.lines().collect::<Vec<_>>(), [&ours, peer, &ours, peer]);
    // The stand-in reports as many seconds as there have been calls: ours 1 and 3, the peer's 2 and 4.
    let table = String::from_utf8(output.stdout).unwrap();
    let row: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row, ["vgg11_hybrid_step", "2.0000", "1.0000", "2.00", "3", "✗", "77", "77"]);
    assert!(table.contains("peak memory of vgg11_hybrid_step: 77 MiB, at most 2662 ✓"), "{table}");
    let results = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir());
    let results = results.unwrap();
    assert!(results.to_string_lossy().ends_with("-test"), "{}", results.display());
    let csv = fs::read_to_string(results.join("measurements.csv")).unwrap();
    assert_eq!(csv.lines().last(), Some("2,peer,vgg11_hybrid_step,4.0,3,77"));
    let page = fs::read_to_string(results.join("README.md")).unwrap();
    let command =
        "cargo xtask bench --peer \"stand_in_bench.sh\" --cases hybrid_step --repeats 3 --rounds 2 --threads 2";
    assert!(page.contains(command) && page.contains("| vgg11_hybrid_step | 2.0000 | 1.0000 |"), "{page}");
}

#[test]
fn invalid_input_gets_one_line_and_creates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, expected) in [
        (["--cases", "vgg12"], "--cases vgg12"),
        (["--name", "../elsewhere"], "--name ../elsewhere"),
        (["--trainer", "/no/such/program"], "cannot start /no/such/program"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(["bench", "--peer", "false", "--out"]).arg(folder.path());
        if arguments[0] != "--trainer" {
            command.args(["--trainer", STAND_IN]);
        }
        let output = command.args(arguments).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), text.lines().count()), (Some(2), 1), "{text}");
        assert!(text.contains(expected), "{text}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
