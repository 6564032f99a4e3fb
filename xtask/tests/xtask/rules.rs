//! The rules that hold the workspace together.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::source::{Names, Source, contains_word, module, root, sources, tokens};

/// The crates of this workspace that each crate may depend on.
const LAYERS: [(&str, &[&str]); 8] = [
    ("convnn-chart", &[]),
    ("convnn-core", &[]),
    ("convnn-data", &["convnn-hub", "convnn-image"]),
    ("convnn-hub", &[]),
    ("convnn-image", &[]),
    ("convnn-models", &["convnn-core", "convnn-hub", "convnn-image"]),
    ("convnn-train", &["convnn-chart", "convnn-core", "convnn-data", "convnn-hub", "convnn-image", "convnn-models"]),
    ("xtask", &["convnn-chart"]),
];

fn cargo(arguments: &[&str]) -> String {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    let output = command.args(arguments).arg("--offline").current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The packages of this workspace, as described by `cargo metadata`. (The crate `cargo_metadata` would parse that too,
/// but it enables a feature of serde_json that the trainer's own build does not use, so that much would be built
/// twice.)
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

/// All sources of the workspace's members.
fn all_sources() -> Vec<Source> {
    let mut all = sources("crates");
    all.extend(sources("xtask"));
    assert!(all.len() > 20, "only {} files found", all.len());
    all
}

#[test]
fn dependencies_point_one_way() {
    let members = members();
    let names: BTreeSet<&str> = members.iter().map(|package| text(&package["name"])).collect();
    assert_eq!(names, LAYERS.iter().map(|layer| layer.0).collect(), "LAYERS must list every crate");
    for package in &members {
        let name = text(&package["name"]);
        let allowed = LAYERS.iter().find(|layer| layer.0 == name).unwrap().1;
        let used = list(&package["dependencies"]).iter().filter(|used| used["kind"] != "dev");
        let used: BTreeSet<&str> = used.map(|used| text(&used["name"])).filter(|name| names.contains(name)).collect();
        assert!(used.iter().all(|name| allowed.contains(name)), "{name} depends on {used:?}; allowed: {allowed:?}");
    }
}

#[test]
fn xtask_links_no_candle() {
    let tree = cargo(&["tree", "--package", "xtask", "--edges", "normal,build,dev", "--prefix", "none"]);
    assert!(tree.lines().count() > 20, "no tree:\n{tree}");
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
                assert_eq!(inherited, Some(true), "{path}: {name} must inherit its version from the workspace");
            }
        }
    }
}

#[test]
fn files_and_folders_are_small() {
    for Source { path, text } in all_sources() {
        let lines = text.lines().count();
        assert!(lines <= 600, "{path} has {lines} lines; a file covers one concept, in at most 600 lines");
    }
    let mut folders: BTreeMap<String, usize> = BTreeMap::new();
    for Source { path, .. } in sources("crates/convnn-core/src") {
        let (folder, _) = path.rsplit_once('/').unwrap();
        *folders.entry(folder.to_string()).or_default() += 1;
    }
    for (folder, files) in folders {
        assert!(files <= 16, "{folder} has {files} files; a room is a folder of at most 16");
    }
}

/// The rooms of the core whose operations have kernels beside them.
const ROOMS_WITH_KERNELS: [&str; 3] = ["nn", "operator", "optim"];

/// Whether `unsafe` is allowed in a file: in the room `kernel`, and in kernel files, which are those files of the rooms
/// with kernels that import from `kernel`.
fn may_be_unsafe(source: &Source) -> bool {
    let Some(path) = source.path.strip_prefix("crates/convnn-core/src/") else { return false };
    let Some((room, _)) = path.split_once('/') else { return false };
    let names = || Names::of(&source.text, &module(path));
    let uses_kernels = || names().paths.iter().any(|path| path.first().is_some_and(|first| first == "kernel"));
    room == "kernel" || ROOMS_WITH_KERNELS.contains(&room) && uses_kernels()
}

/// Whether a file may lift the lint `unsafe_code`: one that may be unsafe, or the root of a room with kernels.
fn may_lift_the_lint(source: &Source) -> bool {
    let is_root = |room| source.path == format!("crates/convnn-core/src/{room}/mod.rs");
    may_be_unsafe(source) || ROOMS_WITH_KERNELS.into_iter().any(is_root)
}

#[test]
fn unsafe_code_is_in_kernels_only() {
    let mut found = 0;
    for source in all_sources() {
        let tokens = tokens(&source.text);
        if contains_word(&tokens, "unsafe") {
            found += 1;
            assert!(may_be_unsafe(&source), "{} is not a kernel file, but contains unsafe code", source.path);
        }
        if contains_word(&tokens, "unsafe_code") {
            assert!(may_lift_the_lint(&source), "{} lifts the lint `unsafe_code`", source.path);
        }
    }
    assert!(found > 0, "no unsafe code was found: does this test still look for it?");
}

#[test]
fn kernel_files_are_those_that_import_from_kernel() {
    let imports = "use crate::{Result, kernel::simd};";
    for (path, text, expected) in [
        ("crates/convnn-core/src/kernel/simd.rs", "", true),
        ("crates/convnn-core/src/operator/select.rs", imports, true),
        ("crates/convnn-core/src/nn/gelu.rs", imports, true),
        ("crates/convnn-core/src/nn/gelu.rs", "use crate::Result;", false),
        ("crates/convnn-core/src/layers/conv_nn_2d.rs", imports, false),
        ("crates/convnn-core/src/lib.rs", imports, false),
        ("crates/convnn-models/src/nn/gelu.rs", imports, false),
    ] {
        let source = Source { path: path.into(), text: text.into() };
        assert_eq!(may_be_unsafe(&source), expected, "{path}: {text}");
    }
}

/// Candle's `apply_op*_no_bwd` cuts the gradient off silently. Operations enter the graph through `kernel::op`, where one
/// without a gradient fails in the backward pass.
#[test]
fn no_operation_cuts_the_gradient_off() {
    let cuts = |text: &str| text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains("_no_bwd("));
    assert!(cuts("    let y = x.apply_op1_no_bwd(&op)?;") && !cuts("// as `apply_op1_no_bwd(&op)`"));
    for Source { path, text } in all_sources().iter().filter(|source| source.path.contains("/src/")) {
        assert!(!cuts(text), "{path} applies an operation without a gradient; use `kernel::op::apply1` and the like");
    }
}
