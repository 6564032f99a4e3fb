//! The benchmark: what a user would wait for, timed the way the PyTorch peer times it.
//!
//! A case does the same work as the peer's case of the same name ([`Case::all`]), best of some repeats after one warm-up.
//! Peak memory belongs to a process, so that a program that times several cases starts a process for each.

mod cases;
mod roof;
mod work;

pub use cases::Case;
pub use roof::{GemmRoof, gemm_roof};

use crate::Result;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// What a case took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// The case's name.
    pub case: String,
    /// Seconds of the fastest repeat.
    pub seconds: f64,
    /// Number of repeats, not counting the warm-up.
    pub repeats: usize,
    /// The most memory that this process has held, in MiB, where the system tells.
    pub peak_rss_mib: Option<u64>,
}

/// Times `case` in this process.
///
/// # Errors
/// Where the case cannot be computed.
pub fn measure(case: &Case, repeats: usize) -> Result<Measurement> {
    let mut work = case.work.prepare()?;
    work()?;
    let mut seconds = f64::INFINITY;
    for _ in 0..repeats {
        let started = Instant::now();
        work()?;
        seconds = seconds.min(started.elapsed().as_secs_f64());
    }
    Ok(Measurement { case: case.name.clone(), seconds, repeats, peak_rss_mib: peak_rss_mib() })
}

/// The high-water mark of this process as Linux tells it. (`getrusage` would give the starting process's where that is
/// higher.)
fn peak_rss_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some((kibibytes + 512) / 1024)
}
