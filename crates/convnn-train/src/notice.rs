//! Says at once that a request to stop has been seen, while the step under way may take a minute more.

use crate::stop::StopRequest;
use indicatif::ProgressBar;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Watches a [`StopRequest`] until dropped.
///
/// Signal handlers may not write lines, so a thread looks at the request.
pub struct Notice {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How often the request is looked at.
const INTERVAL: Duration = Duration::from_millis(100);

impl Notice {
    /// Starts watching. The line goes to standard error, around `bar`.
    ///
    /// Without the thread, which a limit may forbid, there is just no notice.
    pub fn watch(stop: &StopRequest, bar: ProgressBar) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (request, over) = (stop.clone(), Arc::clone(&ended));
        let wait = move || {
            while !over.load(Ordering::Relaxed) {
                if request.signal().is_some() {
                    const LINE: &str = "stopping: finishing this step, then saving a checkpoint";
                    bar.suspend(|| drop(writeln!(std::io::stderr(), "{LINE}")));
                    return;
                }
                std::thread::park_timeout(INTERVAL);
            }
        };
        let thread = std::thread::Builder::new().name("notice".to_owned()).spawn(wait).ok();
        Self { ended, thread }
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The thread only waits and writes; there is nothing to learn from its end.
            let _ = thread.join();
        }
    }
}
