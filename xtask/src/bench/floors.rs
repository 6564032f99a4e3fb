//! The goals of the benchmark, as data: `xtask/bench/floors.toml`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::files::{read, shown};

/// Every case with its floor, in the order of the benchmark, and the limits on our own cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floors {
    /// The peer's seconds divided by ours.
    pub speedup: Vec<Speedup>,
    /// Seconds of one of our cases divided by those of another.
    pub ratio: Vec<Ratio>,
    /// Peak memory of our cases.
    pub memory: Vec<Memory>,
}

/// A case, and how many times as fast as the peer it must be.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Speedup {
    /// The case.
    pub case: String,
    /// The lowest acceptable ratio of the peer's seconds to ours.
    pub at_least: f64,
}

/// Two of our cases, and how much longer the first may take.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ratio {
    /// The first case.
    pub case: String,
    /// The second case.
    pub of: String,
    /// The highest acceptable ratio of the first's seconds to the second's.
    pub at_most: f64,
}

/// A case, and the memory it may use.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// The case.
    pub case: String,
    /// The highest acceptable peak memory of its process, in MiB.
    pub at_most_mib: u64,
}

impl Floors {
    /// Reads `floors.toml` in `folder`. Refuses a case without exactly one speedup.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("floors.toml");
        Self::parse(&read(&path)?).with_context(|| shown(&path))
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
    fn every_case_has_exactly_one_speedup() {
        Floors::read(&data_folder("bench")).unwrap();
        let text = read(&data_folder("bench").join("floors.toml")).unwrap();
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
