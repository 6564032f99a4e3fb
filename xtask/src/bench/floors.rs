//! What the benchmark is held to, as data: `xtask/bench/floors.toml`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// Every case with its floor, in the order of the benchmark, and what holds between our own cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floors {
    /// The peer's seconds over ours.
    pub speedup: Vec<Speedup>,
    /// Seconds of one of our cases over those of another.
    pub ratio: Vec<Ratio>,
    /// Peak memory of our cases.
    pub memory: Vec<Memory>,
}

/// A case, and how many times as fast as the peer it is to be.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Speedup {
    /// The case.
    pub case: String,
    /// The least of the peer's seconds over ours.
    pub at_least: f64,
}

/// Two cases of ours, and how much longer the first may take.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ratio {
    /// The case above.
    pub case: String,
    /// The case below.
    pub of: String,
    /// The most of the first's seconds over the second's.
    pub at_most: f64,
}

/// A case, and the memory it may take.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// The case.
    pub case: String,
    /// The most that its process may hold, in MiB.
    pub at_most_mib: u64,
}

impl Floors {
    /// Reads the file in `folder`.
    ///
    /// # Errors
    /// A file that cannot be read, an unknown key, or a case that has no speedup or has two.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("floors.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let floors: Self = toml::from_str(text)?;
        let count = |case: &str| floors.speedup.iter().filter(|speedup| speedup.case == case).count();
        let cases = floors.speedup.iter().map(|speedup| &speedup.case);
        let pairs = floors.ratio.iter().flat_map(|ratio| [&ratio.case, &ratio.of]);
        for case in cases.chain(pairs).chain(floors.memory.iter().map(|memory| &memory.case)) {
            ensure!(count(case) == 1, "`{case}` has {} entries under `speedup`; expected 1", count(case));
        }
        Ok(floors)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::workspace::data_folder;

    #[test]
    fn the_file_reads_and_a_wrong_one_does_not() {
        assert_eq!(Floors::read(&data_folder("bench")).unwrap().speedup.len(), 26);
        let text = fs::read_to_string(data_folder("bench").join("floors.toml")).unwrap();
        for (from, to, expected) in [
            ("at_least = 1.5", "at_last = 1.5", "unknown field `at_last`"),
            ("of = \"vgg11_conv_step\"", "of = \"vgg11_step\"", "`vgg11_step` has 0 entries"),
            ("case = \"vgg11_convnn_infer\"", "case = \"vgg11_conv_infer\"", "`vgg11_conv_infer` has 2 entries"),
        ] {
            let error = Floors::parse(&text.replacen(from, to, 1)).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
