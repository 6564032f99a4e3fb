//! What the fuzz targets do with their input; the tests of `convnn-train` do the same with the corpus.

use std::io::Cursor;
use std::path::Path;

/// An official file of CIFAR-10 or CIFAR-100: the first byte tells which.
pub fn cifar(bytes: &[u8]) {
    let Some((kind, records)) = bytes.split_first() else { return };
    let name = if kind % 2 == 0 { convnn_data::DatasetName::Cifar10 } else { convnn_data::DatasetName::Cifar100 };
    let _ = convnn_data::parse_records(name, Path::new("input.bin"), records);
}

/// Overrides, one a line, and after an empty line a configuration file.
pub fn configuration(bytes: &[u8]) {
    use convnn_train::config::{Assignment, Sources};
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (overrides, file) = text.split_once("\n\n").unwrap_or(("", text));
    let path = std::env::temp_dir().join(format!("convnn-configuration-{}.toml", std::process::id()));
    if std::fs::write(&path, file).is_err() {
        return;
    }
    let overrides = overrides.lines().filter_map(|line| Assignment::parse(line).ok()).collect();
    let sources = Sources { preset: None, file: Some(&path), overrides };
    if let Ok(config) = sources.resolve() {
        // What was accepted can be written and read back.
        let text = config.to_toml();
        assert!(text.is_ok(), "{config:?}");
        assert!(std::fs::write(&path, text.unwrap_or_default()).is_ok());
        let again = Sources { preset: None, file: Some(&path), overrides: Vec::new() }.resolve();
        assert_eq!(again.ok(), Some(config));
    }
}

/// A golden file.
pub fn fixture(bytes: &[u8]) {
    let Ok(case) = convnn_core::testing::golden::Case::parse(bytes) else { return };
    let _ = (case.candidates(), case.number("k"), case.size("dim"), case.values("input"), case.metadata());
}

/// `config.json` and `model.safetensors` of a weights folder, after the length of the first in four bytes.
pub fn weights(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk() else { return };
    let Some((config, model)) = rest.split_at_checked(u32::from_le_bytes(*length) as usize) else { return };
    let _ = convnn_models::weights::decode(Path::new("input"), config, model);
}

/// A file for `convnn import`: a `.pth` file or safetensors.
pub fn pickle(bytes: &[u8]) {
    let _ = convnn_train::import::Checkpoint::decode(Path::new("input"), Cursor::new(bytes));
}
