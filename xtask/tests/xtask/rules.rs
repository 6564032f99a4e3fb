//! The rules that hold the workspace together.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

/// Which crates of this workspace each crate builds on, besides what these build on.
const LAYERS: [(&str, &[&str]); 5] = [
    ("convnn-core", &[]),
    ("convnn-data", &[]),
    ("convnn-models", &["convnn-core"]),
    ("convnn-train", &["convnn-core", "convnn-data", "convnn-models"]),
    ("xtask", &[]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn metadata() -> Metadata {
    let mut command = MetadataCommand::new();
    command.manifest_path(root().join("Cargo.toml")).other_options(["--offline".to_string()]);
    command.exec().unwrap()
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
    let metadata = metadata();
    let members = metadata.workspace_packages();
    let names: BTreeSet<&str> = members.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(names, LAYERS.iter().map(|layer| layer.0).collect(), "the layers of a new crate belong into this test");
    for package in members {
        let allowed = LAYERS.iter().find(|layer| layer.0 == package.name.as_str()).unwrap().1;
        let used = package.dependencies.iter().filter(|used| used.kind != DependencyKind::Development);
        let used: BTreeSet<&str> = used.map(|used| used.name.as_str()).filter(|name| names.contains(name)).collect();
        assert!(used.iter().all(|name| allowed.contains(name)), "{} builds on {used:?}", package.name);
    }
}

#[test]
fn xtask_links_no_candle() {
    let metadata = metadata();
    let resolve = metadata.resolve.as_ref().unwrap();
    let nodes: BTreeMap<&PackageId, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let xtask = metadata.workspace_packages().into_iter().find(|package| package.name.as_str() == "xtask").unwrap();
    let mut reached = BTreeSet::new();
    let mut open = vec![&xtask.id];
    while let Some(id) = open.pop() {
        if reached.insert(id) {
            open.extend(nodes[id].deps.iter().map(|dependency| &dependency.pkg));
        }
    }
    assert!(reached.len() > 20, "the graph was not walked");
    let candle: Vec<_> = reached.iter().filter(|id| metadata[id].name.contains("candle")).collect();
    assert!(candle.is_empty(), "{candle:?}");
}

#[test]
fn every_crate_inherits_lints_and_versions() {
    for package in metadata().workspace_packages() {
        let text = fs::read_to_string(&package.manifest_path).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "{}", package.name);
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let dependencies = manifest.get(table).and_then(toml::Value::as_table);
            for (name, dependency) in dependencies.into_iter().flatten() {
                let inherited = dependency.get("workspace").and_then(toml::Value::as_bool);
                assert_eq!(inherited, Some(true), "{}: {name} is not shared", package.name);
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
