//! Names and shapes of every parameter of every preset, as text beside the tests.
//!
//! `CONVNN_UPDATE_SNAPSHOTS=1 cargo test -p convnn-models snapshots` writes them anew; the difference is then for review.

use crate::path;
use convnn_models::presets;
use std::collections::BTreeSet;

#[test]
fn names_and_shapes_are_those_on_record() {
    let update = std::env::var_os("CONVNN_UPDATE_SNAPSHOTS").is_some();
    for preset in presets() {
        let shapes = preset.config().shapes().unwrap();
        let text: String = shapes.iter().map(|(name, shape)| format!("{name} {shape:?}\n")).collect();
        let path = path("snapshots").join(format!("{}.txt", preset.name));
        if update {
            std::fs::write(&path, &text).unwrap();
        }
        let recorded = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, recorded, "{}", preset.name);
    }
}

#[test]
fn there_is_a_record_of_each_preset_and_of_nothing_else() {
    let recorded: BTreeSet<String> = std::fs::read_dir(path("snapshots"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let names: BTreeSet<String> = presets().iter().map(|preset| preset.name.to_owned()).collect();
    assert_eq!(names.len(), presets().len(), "two presets share a name");
    assert_eq!(recorded, names);
}
