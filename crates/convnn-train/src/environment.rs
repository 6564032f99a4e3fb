//! What a run ran on: versions, revision, processor, threads.

use serde::Serialize;
use std::time::{SystemTime, UNIX_EPOCH};

/// `environment.json`: the machine and the program of the latest start.
#[derive(Clone, Debug, Serialize)]
pub struct Environment {
    /// Version of this crate.
    pub convnn: &'static str,
    /// Revision of the sources, where they were built from a repository.
    pub revision: Option<&'static str>,
    /// Version of Candle, which is pinned.
    pub candle: &'static str,
    /// The device.
    pub device: &'static str,
    /// Name of the processor.
    pub cpu: Option<String>,
    /// Processors that this process may use.
    pub cores: usize,
    /// Threads of the pool; results do not depend on them.
    pub threads: usize,
    /// Operating system and architecture.
    pub system: String,
    /// Where the images came from.
    pub data: String,
    /// The command.
    pub command: Vec<String>,
    /// Seconds since 1970 at the start.
    pub started: u64,
    /// Steps done before the start; above 0 for a resumed run.
    pub resumed_at_step: u64,
}

impl Environment {
    /// Reads the present environment.
    pub fn read(data: &str, command: Vec<String>, resumed_at_step: u64) -> Self {
        Self {
            convnn: env!("CARGO_PKG_VERSION"),
            revision: option_env!("CONVNN_REVISION"),
            candle: "0.11.1",
            device: "cpu",
            cpu: cpu_name(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            threads: rayon::current_num_threads(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            data: data.to_owned(),
            command,
            started: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            resumed_at_step,
        }
    }
}

/// The processor's name as Linux tells it.
fn cpu_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
