//! The threads that prepare batches, and the iterator over what they deliver.

use std::collections::VecDeque;
use std::iter::StepBy;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};

use super::{Batch, Plan};
use crate::error::{Error, Result};

/// Finished batches that each thread keeps waiting; it holds one more.
const PREFETCH: usize = 1;

/// Iterator over the batches of an epoch. Dropping it stops its threads.
#[derive(Debug)]
pub struct Batches {
    /// They take turns; the first one has the next batch.
    pub(super) workers: VecDeque<Worker>,
    pub(super) left: usize,
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let worker = self.workers.front_mut()?;
        let Some(batch) = worker.receiver.as_ref().and_then(|receiver| receiver.recv().ok()) else {
            // The thread has panicked. Ending the epoch would hide that, so the panic continues here.
            self.left = 0;
            if let Some(Err(panic)) = worker.thread.take().map(JoinHandle::join) {
                std::panic::resume_unwind(panic);
            }
            return None;
        };
        self.left = if batch.is_ok() { self.left - 1 } else { 0 };
        self.workers.rotate_left(1);
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Batches {}

/// A thread that prepares some of the batches, and the channel that delivers them.
#[derive(Debug)]
pub(super) struct Worker {
    receiver: Option<Receiver<Result<Batch>>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub(super) fn start(plan: &Arc<Plan>, epoch: u64, batches: StepBy<Range<usize>>) -> Result<Self> {
        let (sender, receiver) = mpsc::sync_channel(PREFETCH);
        let plan = Arc::clone(plan);
        let thread = thread::Builder::new()
            .name("convnn-data".to_owned())
            .spawn(move || plan.send(epoch, batches, &sender))
            .map_err(Error::Thread)?;
        Ok(Self { receiver: Some(receiver), thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Without a receiver, the thread's next send fails and it ends.
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            // The batches of this thread are no longer wanted, so a panic does not matter.
            let _ = thread.join();
        }
    }
}
