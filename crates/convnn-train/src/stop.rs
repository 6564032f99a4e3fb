//! A request to stop, as signals make it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Set from outside, asked after every step; clones share it.
#[derive(Clone, Debug, Default)]
pub struct StopRequest(Arc<AtomicUsize>);

impl StopRequest {
    /// The signal that asked, if one did.
    pub fn signal(&self) -> Option<i32> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            signal => i32::try_from(signal).ok(),
        }
    }

    /// The number of the signal, 0 for none, to be set by a handler.
    pub fn flag(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.0)
    }
}
