//! The reference of configuration keys, and the configuration that a run prints.

use crate::command::{convnn, finish, succeed};
use convnn_train::config::{Assignment, Sources, reference, schema};
use convnn_train::exit;
use std::path::Path;

#[track_caller]
fn is_current(file: &str, text: &str, format: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(file);
    let found = std::fs::read_to_string(path).unwrap_or_default();
    let command = format!("cargo run -p convnn-train -- info --keys --format {format} > docs/{file}");
    assert!(found.trim_end() == text.trim_end(), "docs/{file} is not current; write it with\n{command}");
}

#[test]
fn the_reference_is_current() {
    is_current("configuration.md", &reference::markdown(), "markdown");
    is_current("configuration.schema.json", &format!("{:#}", schema::document()), "schema");
}

#[test]
fn the_exit_codes_are_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/exit-codes.md");
    assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), exit::markdown());
    for arguments in [&["--help"][..], &["train", "--help"]] {
        let help = succeed(convnn().args(arguments)).stdout;
        assert!(help.contains(&exit::text()), "{help}");
    }
}

#[test]
fn info_lists_keys() {
    let info = |arguments: &[&str]| succeed(convnn().arg("info").args(arguments)).stdout;
    let all = info(&["--keys"]);
    for key in ["epochs", "layer.neighbors  (K)", "layer.compare  (λ)", "layer.kernel_size  (κ)", "model.dim"] {
        assert!(all.lines().any(|line| line == key || line.starts_with(&format!("{key}  "))), "{key}:\n{all}");
    }
    let lr = info(&["--keys", "lr"]);
    let expected =
        "learning_rate\n    The full learning rate.\n    A number above 0, at most 1e30 [default: by preset: ";
    assert!(lr.starts_with(expected), "{lr}");
    let none = finish(convnn().args(["info", "--keys", "xyzzy"]));
    assert_eq!(none.code, Some(2));
    assert!(none.stderr.contains("`--keys` is xyzzy") && none.stderr.lines().count() == 1, "{}", none.stderr);
}

#[test]
fn the_printed_configuration_reproduces_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("my run.toml");
    let sets = ["--set", "candidates=random:12", "--set", "lr=1e-4", "--seed", "3"];
    let printed = succeed(convnn().args(["train", "--preset", "vgg11_compact", "--print-config"]).args(sets));
    assert!(printed.stderr.contains("--set lr=1e-4: learning_rate = 0.0001"), "{}", printed.stderr);
    std::fs::write(&path, &printed.stdout).unwrap();
    let again = succeed(convnn().args(["train", "--print-config", "--config"]).arg(&path));
    assert_eq!(again.stdout, printed.stdout);
    let overrides = ["layer.candidates={random={n=12}}", "learning_rate=0.0001", "seed=3"];
    let overrides = overrides.iter().map(|text| Assignment::parse(text).unwrap()).collect();
    let expected = Sources { preset: Some("vgg11_compact"), file: None, overrides }.resolve().unwrap();
    assert_eq!(Sources { preset: None, file: Some(&path), overrides: Vec::new() }.resolve().unwrap(), expected);
    assert!(!folder.path().join("runs").exists());
}
