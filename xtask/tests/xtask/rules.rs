//! The rules that hold the workspace together.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Which crates of this workspace each crate builds on, besides what these build on.
const LAYERS: [(&str, &[&str]); 5] = [
    ("convnn-core", &[]),
    ("convnn-data", &[]),
    ("convnn-models", &["convnn-core"]),
    ("convnn-train", &["convnn-core", "convnn-data", "convnn-models"]),
    ("xtask", &[]),
];

/// The workspace's root folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn cargo(arguments: &[&str]) -> String {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    let output = command.args(arguments).arg("--offline").current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The packages of this workspace, as `cargo metadata` describes them. (The crate `cargo_metadata` would read that too, but
/// it gives serde_json a feature that the trainer's own build does not have, and much would be built twice.)
fn members() -> Vec<Value> {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"])).unwrap();
    list(&metadata["packages"]).to_vec()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// The `.rs` files of the workspace's members, as (path from the root, text).
fn sources() -> Vec<(String, String)> {
    let mut folders = vec![root().join("crates"), root().join("xtask")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
                files.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort();
    assert!(files.len() > 20, "only {} files found", files.len());
    files
}

#[test]
fn dependencies_point_one_way() {
    let members = members();
    let names: BTreeSet<&str> = members.iter().map(|package| text(&package["name"])).collect();
    assert_eq!(names, LAYERS.iter().map(|layer| layer.0).collect(), "the layers of a new crate belong into this test");
    for package in &members {
        let name = text(&package["name"]);
        let allowed = LAYERS.iter().find(|layer| layer.0 == name).unwrap().1;
        let used = list(&package["dependencies"]).iter().filter(|used| used["kind"] != "dev");
        let used: BTreeSet<&str> = used.map(|used| text(&used["name"])).filter(|name| names.contains(name)).collect();
        assert!(used.iter().all(|name| allowed.contains(name)), "{name} builds on {used:?}");
    }
}

#[test]
fn xtask_links_no_candle() {
    let tree = cargo(&["tree", "--package", "xtask", "--edges", "normal,build,dev", "--prefix", "none"]);
    assert!(tree.lines().count() > 20, "the tree is not there:\n{tree}");
    let candle: Vec<_> = tree.lines().filter(|line| line.starts_with("candle")).collect();
    assert!(candle.is_empty(), "{candle:?}");
}

#[test]
fn every_crate_inherits_lints_and_versions() {
    for package in members() {
        let path = text(&package["manifest_path"]);
        let manifest: toml::Table = fs::read_to_string(path).unwrap().parse().unwrap();
        assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "{path}");
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let dependencies = manifest.get(table).and_then(toml::Value::as_table);
            for (name, dependency) in dependencies.into_iter().flatten() {
                let inherited = dependency.get("workspace").and_then(toml::Value::as_bool);
                assert_eq!(inherited, Some(true), "{path}: {name} is not shared");
            }
        }
    }
}

#[test]
fn files_are_short() {
    for (name, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= 600, "{name} has {lines} lines; a file has one job and at most 600");
    }
}

#[test]
fn unsafe_code_is_in_the_kernels_alone() {
    // The lint `unsafe_code` refuses it; this finds where the lint is lifted.
    for (name, text) in sources() {
        let lifted =
            text.contains(concat!("allow(", "unsafe_code")) || text.contains(concat!("expect(", "unsafe_code"));
        assert!(!lifted || name.starts_with("crates/convnn-core/src/ops"), "{name} lifts the lint `unsafe_code`");
    }
}

/// An op without a gradient would cut the gradient off without a word. So it is applied to a detached tensor, or in a
/// function whose name says it: those for inference, and the selection of neighbors, which has no gradient by definition.
#[test]
fn ops_without_a_gradient_are_never_on_a_training_path() {
    let mut applied = 0;
    for (name, text) in sources().iter().filter(|(name, _)| name.contains("/src/")) {
        let mut function = "";
        for line in text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().lines() {
            let code = line.trim_start();
            if let Some((_, rest)) = code.split_once("fn ").filter(|_| !code.starts_with("//")) {
                function = rest.split(['(', '<']).next().unwrap_or_default();
            }
            if code.contains("_no_bwd(") && !code.starts_with("//") {
                applied += 1;
                let named = function.ends_with("_inference") || function.contains("select");
                assert!(named || code.contains(".detach()"), "{name}: `{function}` applies an op without a gradient");
            }
        }
    }
    assert!(applied > 0, "no op without a gradient was found: does this test still look for the right name?");
}
