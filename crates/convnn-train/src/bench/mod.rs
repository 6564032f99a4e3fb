//! The benchmark: training steps, inference, selection and aggregation.
//!
//! The cases of [`Case::all`] do the same work as those of a PyTorch benchmark with the same names. The time is that of the
//! fastest of several repeats after a warm-up. Peak memory is a property of a process, so that several cases are best timed
//! in a process each.

mod cases;
mod roof;
mod work;

pub use cases::Case;
pub use roof::{GemmRoof, gemm_roof};

use crate::Result;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// The time and memory of a case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// The name of the case.
    pub case: String,
    /// Seconds of the fastest repeat.
    pub seconds: f64,
    /// Number of repeats, without the warm-up.
    pub repeats: usize,
    /// Peak memory of this process in MiB, if known.
    pub peak_rss_mib: Option<u64>,
}

/// Times `case` in this process.
///
/// # Errors
/// If the case cannot be computed.
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

/// The high-water mark of this process, on Linux. (`getrusage` would include that of the process that started it.)
fn peak_rss_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some((kibibytes + 512) / 1024)
}
