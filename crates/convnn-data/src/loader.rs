//! Batches of tensors, prepared ahead of their use on other threads.
//!
//! What an epoch holds depends on the streams alone: the order on `order/<epoch>`, the augmentation of an image on
//! `augment/<epoch>/<image>`. So an epoch can be entered at any batch, and gives what it would have given.

use std::collections::VecDeque;
use std::iter::StepBy;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

use candle_core::{Device, Tensor};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::augment::{Augmentation, Draw};
use crate::error::{Error, Result};
use crate::name::DatasetName;
use crate::normalize::Normalization;
use crate::random::permutation;
use crate::resize::Resizer;
use crate::split::{CHANNELS, IMAGE, Labels, SIDE, Split};

/// Gives the generator of a named stream; the same name gives the same generator, at its start.
pub type Streams = Arc<dyn Fn(&str) -> ChaCha8Rng + Send + Sync>;

/// Finished batches that wait for their use, for each thread that prepares batches; it holds one more.
const PREFETCH: usize = 1;

/// The most threads that prepare batches. Resizing to 224×224 takes about as long as a fast accelerator takes for a
/// step of a small model; everything else keeps one thread idle most of the time.
const WORKERS: usize = 4;

/// The largest image size that is accepted.
pub(crate) const LARGEST_IMAGE: usize = 4096;

/// The order of the images in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Order {
    /// As in the data set.
    #[default]
    Sequential,
    /// Another permutation every epoch.
    Shuffled,
}

/// How batches are made of a split.
#[derive(Debug, Clone, PartialEq)]
pub struct LoaderConfig {
    /// Images in a batch; the last one of an epoch may hold fewer.
    pub batch_size: usize,
    /// Side of the images in pixels; other than 32, they are resized.
    pub image_size: usize,
    /// The order of the images.
    pub order: Order,
    /// What is done to the images before they are resized and normalised.
    pub augmentation: Augmentation,
    /// Mean and standard deviation of the channels.
    pub normalization: Normalization,
    /// Which labels the batches hold.
    pub labels: Labels,
}

impl LoaderConfig {
    /// For evaluation: 32×32 images in their order, without augmentation, fine labels.
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
    /// Number of the batch in its epoch, from 0.
    pub number: usize,
    /// Normalised images, (B, 3, S, S) f32.
    pub images: Tensor,
    /// Labels, (B) u32.
    pub labels: Tensor,
}

/// Makes the batches of any epoch of a split.
#[derive(Clone)]
pub struct Loader {
    plan: Arc<Plan>,
}

impl Loader {
    /// Checks the configuration against the split.
    ///
    /// # Errors
    /// A batch size of 0, an image size of 0 or beyond 4,096, an empty split, coarse labels where there are none.
    pub fn new(split: Arc<Split>, config: LoaderConfig, streams: Streams) -> Result<Self> {
        if config.batch_size == 0 {
            return Err(Error::BatchSize);
        }
        if !(1..=LARGEST_IMAGE).contains(&config.image_size) {
            return Err(Error::ImageSize(config.image_size));
        }
        if split.is_empty() {
            return Err(Error::Empty);
        }
        if split.labels(config.labels).is_none() {
            return Err(Error::NoCoarseLabels);
        }
        let table = config.normalization.table();
        let resizer = (config.image_size != SIDE).then(|| Resizer::new(SIDE, config.image_size));
        let plan = Plan { split, config, streams, table, resizer };
        Ok(Self { plan: Arc::new(plan) })
    }

    /// Images of an epoch.
    pub fn images(&self) -> usize {
        self.plan.split.len()
    }

    /// Batches of an epoch, the last, smaller one counted.
    pub fn batches(&self) -> usize {
        self.images().div_ceil(self.plan.config.batch_size)
    }

    /// The batches of an epoch, prepared on other threads while they are used.
    ///
    /// # Errors
    /// Where a thread cannot be started.
    pub fn epoch(&self, epoch: u64) -> Result<Batches> {
        self.epoch_from(epoch, 0)
    }

    /// The batches of an epoch from number `first` on: those that [`epoch`](Self::epoch) gives after `first` others.
    ///
    /// # Errors
    /// Where the epoch has fewer than `first` batches, or a thread cannot be started.
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

/// The rest of an epoch. Dropping it stops the threads that prepare the batches.
#[derive(Debug)]
pub struct Batches {
    /// They take turns: the first has the next batch.
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
            // The thread ended before its time: its panic goes on here, since ending the epoch would hide it.
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

/// A thread that prepares some of the batches, and the channel on which they come.
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
        // Without a receiver the thread's next send fails, and it ends.
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            // A panic of a thread whose batches nobody wants any more has no consequence.
            let _ = thread.join();
        }
    }
}

/// What the threads need to make batches.
struct Plan {
    split: Arc<Split>,
    config: LoaderConfig,
    streams: Streams,
    table: [[f32; 256]; CHANNELS],
    resizer: Option<Resizer>,
}

impl Plan {
    /// Sends the batches until the last, an error, or until nobody receives them.
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
