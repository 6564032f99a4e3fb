//! What a run ran on: versions, processor, threads.

use convnn_data::Dataset;
use serde::Serialize;
use std::time::{SystemTime, UNIX_EPOCH};

/// The version in Cargo.lock.
const CANDLE: &str = "0.11.1";

/// `environment.json`: the program and the machine of the latest start.
#[derive(Clone, Debug, Serialize)]
pub struct Environment {
    /// Version of this crate.
    pub convnn: &'static str,
    /// Revision of the sources, if they were built in a repository.
    pub revision: Option<&'static str>,
    /// Version of Candle.
    pub candle: &'static str,
    /// The device.
    pub device: &'static str,
    /// Name of the processor, if known.
    pub cpu: Option<String>,
    /// Number of processors available to this process.
    pub cores: usize,
    /// Number of threads. Results do not depend on it.
    pub threads: usize,
    /// Operating system and architecture.
    pub system: String,
    /// Where the images come from.
    pub data: String,
    /// Number of test images.
    pub test_images: usize,
    /// The command line.
    pub command: Vec<String>,
    /// Seconds since 1970 at the start.
    pub started: u64,
    /// Number of steps before this start; 0 unless the run was resumed.
    pub resumed_at_step: u64,
}

impl Environment {
    /// Describes the current process.
    pub fn read(data: &Dataset, command: Vec<String>, resumed_at_step: u64) -> Self {
        Self {
            convnn: env!("CARGO_PKG_VERSION"),
            revision: option_env!("CONVNN_REVISION"),
            candle: CANDLE,
            device: "cpu",
            cpu: cpu_name(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            threads: rayon::current_num_threads(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            data: data.origin.clone(),
            test_images: data.test.len(),
            command,
            started: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            resumed_at_step,
        }
    }
}

/// The name of the processor, on Linux.
fn cpu_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    /// Fails after an upgrade of Candle.
    #[test]
    fn the_version_of_candle_is_that_of_the_lock_file() {
        let lock = include_str!("../../../Cargo.lock");
        let package = lock.split("[[package]]").find(|package| package.contains("name = \"candle-core\"\n"));
        let version = format!("version = \"{}\"", super::CANDLE);
        assert!(package.is_some_and(|package| package.contains(&version)), "{package:?}");
    }
}
