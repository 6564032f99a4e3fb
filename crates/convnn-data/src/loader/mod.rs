//! Batches of tensors, prepared ahead on other threads.
//!
//! An epoch depends on the random streams alone: its order on `order/<epoch>`, the augmentation of an image on
//! `augment/<epoch>/<image>`. It can therefore be resumed at any batch, with the same batches as an uninterrupted one.

mod augment;
mod normalize;
mod random;
mod resize;

use std::collections::VecDeque;
use std::iter::StepBy;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

use candle_core::{Device, Tensor};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use augment::{Augmentation, PADDING};
pub use normalize::Normalization;
pub use resize::Resizer;

use crate::error::{Error, Result};
use crate::name::{DatasetName, Labels};
use crate::split::{CHANNELS, IMAGE, SIDE, Split};
use augment::Draw;
use random::permutation;

/// Returns the generator of a named random stream, always at its start.
pub type Streams = Arc<dyn Fn(&str) -> ChaCha8Rng + Send + Sync>;

/// Finished batches that each thread keeps waiting; it holds one more.
const PREFETCH: usize = 1;

/// The largest number of threads. Resizing to 224×224 takes about as long as a training step of a small model on a fast
/// accelerator; everything else leaves a single thread idle most of the time.
const WORKERS: usize = 4;

/// The largest image size.
const LARGEST_IMAGE: usize = 4096;

/// The largest number of values in a batch: 8 GiB of f32.
const LARGEST_BATCH: usize = 1 << 31;

/// The order of the images in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Order {
    /// The order of the data set.
    #[default]
    Sequential,
    /// A new permutation every epoch.
    Shuffled,
}

/// How a split becomes batches.
#[derive(Debug, Clone, PartialEq)]
pub struct LoaderConfig {
    /// Images per batch; the last batch of an epoch may be smaller.
    pub batch_size: usize,
    /// Side of the images in pixels; images are resized unless it is 32.
    pub image_size: usize,
    /// The order of the images.
    pub order: Order,
    /// Augmentation, applied before resizing and normalisation.
    pub augmentation: Augmentation,
    /// Mean and standard deviation of each channel.
    pub normalization: Normalization,
    /// Which labels to load.
    pub labels: Labels,
}

impl LoaderConfig {
    /// The configuration for evaluation: 32×32 images in order, without augmentation, with fine labels.
    pub fn new(name: DatasetName, batch_size: usize) -> Self {
        Self {
            batch_size,
            image_size: SIDE,
            order: Order::Sequential,
            augmentation: Augmentation::None,
            normalization: Normalization::of(name),
            labels: Labels::Fine,
        }
    }
}

/// One batch, on the CPU.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Index of the batch in its epoch, from 0.
    pub number: usize,
    /// Normalised images, (B, 3, S, S) f32.
    pub images: Tensor,
    /// Labels, (B) u32.
    pub labels: Tensor,
}

/// Loads the epochs of a split.
#[derive(Clone)]
pub struct Loader {
    plan: Arc<Plan>,
}

impl Loader {
    /// Creates a loader.
    ///
    /// # Errors
    /// If the image size is not 1 to 4,096, a full batch is empty or has more than 2³¹ values, the split is empty, or
    /// it has no coarse labels but they are asked for.
    pub fn new(split: Arc<Split>, config: LoaderConfig, streams: Streams) -> Result<Self> {
        let side = config.image_size;
        if !(1..=LARGEST_IMAGE).contains(&side) {
            return Err(Error::ImageSize { found: side, max: LARGEST_IMAGE });
        }
        let max = LARGEST_BATCH / (CHANNELS * side * side);
        if !(1..=max).contains(&config.batch_size) {
            return Err(Error::BatchSize { found: config.batch_size, max, side });
        }
        if split.is_empty() {
            return Err(Error::Empty);
        }
        if split.labels(config.labels).is_none() {
            return Err(Error::NoCoarseLabels);
        }
        let table = config.normalization.table();
        let resizer = (side != SIDE).then(|| Resizer::new(SIDE, side));
        let plan = Plan { split, config, streams, table, resizer };
        Ok(Self { plan: Arc::new(plan) })
    }

    /// Images per epoch.
    pub fn images(&self) -> usize {
        self.plan.split.len()
    }

    /// Batches per epoch, including a smaller last one.
    pub fn batches(&self) -> usize {
        self.images().div_ceil(self.plan.config.batch_size)
    }

    /// The batches of an epoch, prepared ahead on other threads.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn epoch(&self, epoch: u64) -> Result<Batches> {
        self.epoch_from(epoch, 0)
    }

    /// The batches of an epoch from index `first` on, the same ones as [`epoch`](Self::epoch) yields there.
    ///
    /// # Errors
    /// If the epoch has fewer than `first` batches, or a thread cannot be started.
    pub fn epoch_from(&self, epoch: u64, first: usize) -> Result<Batches> {
        let batches = self.batches();
        if first > batches {
            return Err(Error::BatchPastEnd { batch: first, batches });
        }
        let workers = match self.plan.resizer {
            None => 1,
            Some(_) => thread::available_parallelism().map_or(1, usize::from).min(WORKERS),
        };
        let workers = (0..workers)
            .map(|worker| Worker::start(&self.plan, epoch, (first + worker..batches).step_by(workers)))
            .collect::<Result<_>>()?;
        Ok(Batches { workers, left: batches - first })
    }
}

/// Iterator over the batches of an epoch. Dropping it stops its threads.
#[derive(Debug)]
pub struct Batches {
    /// They take turns; the first one has the next batch.
    workers: VecDeque<Worker>,
    left: usize,
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
struct Worker {
    receiver: Option<Receiver<Result<Batch>>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn start(plan: &Arc<Plan>, epoch: u64, batches: StepBy<Range<usize>>) -> Result<Self> {
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

/// Everything the threads need.
struct Plan {
    split: Arc<Split>,
    config: LoaderConfig,
    streams: Streams,
    table: [[f32; 256]; CHANNELS],
    resizer: Option<Resizer>,
}

impl Plan {
    /// Sends the batches, until an error or until the receiver is gone.
    fn send(&self, epoch: u64, batches: StepBy<Range<usize>>, sender: &SyncSender<Result<Batch>>) {
        let n = self.split.len();
        let order: Vec<u32> = match self.config.order {
            Order::Sequential => (0..n as u32).collect(),
            Order::Shuffled => permutation(&mut (self.streams)(&format!("order/{epoch}")), n as u32),
        };
        for number in batches {
            let first = number * self.config.batch_size;
            let indices = &order[first..(first + self.config.batch_size).min(n)];
            let batch = self.batch(epoch, number, indices);
            let failed = batch.is_err();
            if sender.send(batch).is_err() || failed {
                return;
            }
        }
    }

    fn batch(&self, epoch: u64, number: usize, indices: &[u32]) -> Result<Batch> {
        let size = self.config.image_size;
        let mut images = Vec::with_capacity(indices.len() * CHANNELS * size * size);
        let mut augmented = [0; IMAGE];
        let mut resized = vec![0; CHANNELS * size * size];
        for &index in indices {
            let mut image = self.split.image(index as usize);
            match self.config.augmentation {
                Augmentation::None => {}
                Augmentation::CropFlip => {
                    let mut generator = (self.streams)(&format!("augment/{epoch}/{index}"));
                    Draw::new(&mut generator).apply(image, &mut augmented);
                    image = &augmented;
                }
            }
            if let Some(resizer) = &self.resizer {
                resizer.resize(image, &mut resized);
                image = &resized;
            }
            for (plane, table) in image.chunks_exact(size * size).zip(&self.table) {
                images.extend(plane.iter().map(|&byte| table[usize::from(byte)]));
            }
        }
        let all = self.split.labels(self.config.labels).ok_or(Error::NoCoarseLabels)?;
        let labels: Vec<u32> = indices.iter().map(|&index| all[index as usize].into()).collect();
        Ok(Batch {
            number,
            images: Tensor::from_vec(images, (indices.len(), CHANNELS, size, size), &Device::Cpu)?,
            labels: Tensor::new(labels, &Device::Cpu)?,
        })
    }
}
