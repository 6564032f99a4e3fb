//! Requests to stop a run.

use crate::{Error, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU, SIGXFSZ};
use signal_hook::iterator::Signals;
use signal_hook::low_level::{exit, signal_name};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

/// The signals that ask a run to stop.
pub const SIGNALS: [i32; 6] = [SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU];

/// Signals within this time of the first are the same request: `timeout` and batch systems signal a process and then its
/// group.
const SAME: Duration = Duration::from_secs(1);

/// A request to stop, checked after every step. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct StopRequest(Arc<AtomicI32>);

impl StopRequest {
    /// A request that is made by the first of [`SIGNALS`]; a second one, a second or more later, ends the process at once.
    /// Exceeding a file size limit becomes an error of the file.
    ///
    /// SIGHUP stays ignored if it was, as under `nohup`. The kernel repeats SIGXCPU every second, so that a repeat of it
    /// ends nothing.
    ///
    /// # Errors
    /// If the signals cannot be caught.
    pub fn on_signals() -> Result<Self> {
        let failed = |error| Error::io("catch signals of", Path::new("this process"))(error);
        let caught: Vec<_> = SIGNALS.into_iter().filter(|&signal| signal != SIGHUP || !is_ignored(signal)).collect();
        let mut signals = Signals::new(caught).map_err(failed)?;
        signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map_err(failed)?;
        let request = Self::default();
        let asked = request.clone();
        let wait = move || {
            let mut first = None;
            for signal in &mut signals {
                let since = *first.get_or_insert_with(Instant::now);
                if asked.ask(signal) {
                    let name = signal_name(signal).unwrap_or("signal");
                    tracing::warn!("{name}: finishing the step and saving; a second signal ends the run at once");
                } else if since.elapsed() >= SAME && signal != SIGXCPU {
                    exit(128 + signal);
                }
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map_err(failed)?;
        Ok(request)
    }

    /// The signal that asked to stop, if any.
    pub fn signal(&self) -> Option<i32> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&signal| signal != 0)
    }

    /// Asks to stop as if `signal` had come; returns whether nothing had asked before.
    pub fn ask(&self, signal: i32) -> bool {
        self.0.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Whether the process was started with `signal` ignored; only Linux tells.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
