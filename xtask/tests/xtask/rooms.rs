//! The direction of imports between the rooms of a crate, that is, between the modules at its root.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{Names, Source, module, sources};

/// The rooms that each room builds on, besides those that these build on.
type Rooms = &'static [(&'static str, &'static [&'static str])];

/// `layers ─▶ operator ─▶ nn ─▶ kernel ─▶ random, grid ─▶ error` and `optim ─▶ kernel`. Nothing imports `reference` or
/// `testing`.
const CORE: Rooms = &[
    ("error", &[]),
    ("grid", &["error"]),
    ("random", &["error"]),
    ("kernel", &["random", "grid"]),
    ("nn", &["kernel"]),
    ("operator", &["nn"]),
    ("layers", &["operator"]),
    ("optim", &["kernel"]),
    ("reference", &["layers", "optim"]),
    ("testing", &["layers", "optim", "reference"]),
];

/// `model, presets, weights, card, … ─▶ vgg, vit ─▶ layer, mixer`. Neither the architectures nor `layer` and `mixer`
/// import each other. Rooms that are not listed are common ground: any room may import them, and they import only each
/// other.
const MODELS: Rooms = &[
    ("layer", &[]),
    ("mixer", &[]),
    ("observed", &["layer", "mixer"]),
    ("network", &["observed"]),
    ("vgg", &["layer", "mixer", "network"]),
    ("vit", &["layer", "mixer", "network"]),
    ("model", TOP_OF_MODELS),
    ("presets", TOP_OF_MODELS),
    ("weights", TOP_OF_MODELS),
    ("described", TOP_OF_MODELS),
    ("card", TOP_OF_MODELS),
    ("golden", TOP_OF_MODELS),
    ("loaded", TOP_OF_MODELS),
    ("exact", TOP_OF_MODELS),
];

/// What the rooms above the architectures may import: these, and each other.
const TOP_OF_MODELS: &[&str] =
    &["vgg", "vit", "model", "presets", "weights", "described", "card", "golden", "loaded", "exact"];

/// The rooms that `room` may import.
fn allowed(room: &str, rooms: Rooms) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    let mut open = vec![room];
    while let Some(next) = open.pop() {
        for below in rooms.iter().filter(|(name, _)| *name == next).flat_map(|(_, below)| *below) {
            if found.insert(*below) {
                open.push(below);
            }
        }
    }
    found
}

/// The imports that point the wrong way: one line per file and room. With `closed`, every room must be listed.
fn violations(sources: &[Source], rooms: Rooms, closed: bool) -> Vec<String> {
    let files: Vec<_> = sources.iter().map(|source| (source, module(&source.path))).collect();
    let files: Vec<_> =
        files.iter().map(|(source, module)| (source, module, Names::of(&source.text, module))).collect();
    let modules: BTreeSet<&str> =
        files.iter().filter_map(|(_, module, _)| module.first()).map(String::as_str).collect();
    let test_modules: Vec<_> = files.iter().flat_map(|(_, _, names)| &names.test_modules).collect();
    // What the crate's root re-exports, with the room that it comes from.
    let root = files.iter().filter(|(_, module, _)| module.is_empty()).flat_map(|(_, _, names)| &names.uses);
    let root = root.filter_map(|(name, path)| {
        let path = if path[0] == "crate" || path[0] == "self" { &path[1..] } else { path };
        Some((name.as_str(), path.first()?.as_str()))
    });
    let root: BTreeMap<&str, &str> = root.collect();

    let mut violations = Vec::new();
    for (source, module, names) in &files {
        let test_only = test_modules.iter().any(|test| module.starts_with(test));
        let Some(room) = module.first().filter(|_| !test_only) else { continue };
        let listed = |room: &str| rooms.iter().any(|(name, _)| *name == room);
        if closed && !listed(room) {
            violations.push(format!("{}: the room `{room}` has no place in the order of imports", source.path));
        }
        let allowed = allowed(room, rooms);
        let mut wrong = BTreeMap::new();
        for path in &names.paths {
            let Some(first) = path.first().map(String::as_str) else { continue };
            let target = if modules.contains(first) { first } else { root.get(first).copied().unwrap_or(first) };
            let is_common = !closed && !listed(target);
            if target != room && modules.contains(target) && !allowed.contains(target) && !is_common {
                wrong.entry(target).or_insert(path);
            }
        }
        let allowed: Vec<_> = allowed.into_iter().collect();
        violations.extend(wrong.into_iter().map(|(target, path)| {
            let (file, path, allowed) = (&source.path, path.join("::"), allowed.join(", "));
            format!("{file}: `{room}` imports `{target}` (crate::{path}); it may import: {allowed}")
        }));
    }
    violations
}

#[track_caller]
fn assert_in_order(folder: &str, rooms: Rooms, closed: bool) {
    let sources = sources(folder);
    let found = violations(&sources, rooms, closed);
    assert!(found.is_empty(), "{} imports point the wrong way:\n{}", found.len(), found.join("\n"));
}

#[test]
fn imports_of_the_core_point_one_way() {
    assert_in_order("crates/convnn-core/src", CORE, true);
}

#[test]
fn imports_of_the_models_point_one_way() {
    assert_in_order("crates/convnn-models/src", MODELS, false);
}

/// The violations of a crate with a root, the room `layers`, and `text` as a file of the room `nn`.
fn found_in(text: &str) -> Vec<String> {
    let root = "mod error; mod kernel; mod layers; mod nn; mod testing;\n\
                pub use error::{Error, Result}; pub use layers::conv::{Conv, Config as ConvConfig}; pub use testing as check;";
    let files = [
        ("src/lib.rs", root),
        ("src/layers/mod.rs", ""),
        ("src/kernel.rs", ""),
        ("src/error.rs", ""),
        ("src/testing.rs", ""),
        ("src/nn/linear.rs", text),
    ];
    let files = files.map(|(path, text)| Source { path: path.into(), text: text.into() });
    violations(&files, CORE, true)
}

#[test]
fn imports_against_the_order_are_found() {
    for text in [
        "use crate::layers::conv;",
        "use crate::{Error, kernel::{simd, float}, layers::{self, conv::Conv}};",
        "use crate::ConvConfig;",
        "use super::super::layers::conv as other;",
        "pub use crate::layers::*;",
        "fn f(x: &crate::layers::Conv) {}",
        "fn f() -> usize { vec![crate::layers::conv::SIZE].len() }",
        "mod inner { use super::super::super::layers::conv; }",
        "#[cfg(not(test))] use crate::layers::conv;",
        "#[cfg(test)] use crate::kernel::{a, b}; use crate::layers::conv;",
        "#[cfg(test)] mod tests { fn f() {} } use crate::check::close;",
        "macro_rules! m { () => { $crate::layers::conv() } }",
    ] {
        assert_eq!(found_in(text).len(), 1, "{text}: {:#?}", found_in(text));
    }
    let stray = [Source { path: "src/stray.rs".into(), text: String::new() }];
    assert!(violations(&stray, CORE, true)[0].contains("`stray` has no place"));
}

#[test]
fn tests_comments_and_imports_in_order_are_not() {
    for text in [
        "use crate::kernel::simd; use super::relu::relu; use crate::{Error, Result}; use std::fmt;",
        "//! [`Conv`](crate::layers::Conv)\n// use crate::layers::conv;\n/* crate::layers::conv */",
        "const TEXT: &str = \"use crate::layers::conv;\";",
        "#[cfg(test)]\nmod tests { use crate::layers::conv; use super::*; use crate::check; }",
        "#[cfg(test)] #[allow(unused)] use crate::{layers::conv, check};",
        "#[cfg(all(test, unix))] pub(crate) fn f() -> [u8; 3] { crate::layers::conv() }",
        "pub(crate) fn f<T: super::Float>(self: &T) -> crate::Result<T> { self::g::<T>() }",
    ] {
        assert!(found_in(text).is_empty(), "{text}: {:#?}", found_in(text));
    }
}

#[test]
fn files_of_test_modules_may_import_anything() {
    let files = [
        ("src/nn/mod.rs", "#[cfg(test)] mod tests;"),
        ("src/nn/tests.rs", "use crate::layers::conv;"),
        ("src/layers.rs", ""),
    ];
    let files = files.map(|(path, text)| Source { path: path.into(), text: text.into() });
    assert!(violations(&files, CORE, true).is_empty());
}
