//! Batches of tensors, prepared ahead on other threads.
//!
//! An epoch depends on the random streams alone: its order on `order/<epoch>`, the augmentation of an image on
//! `augment/<epoch>/<image>`, the mixing of a batch on `mix/<epoch>/<batch>`. It can therefore be resumed at any batch, with
//! the same batches as an uninterrupted one.

mod augment;
mod batches;
mod mix;
mod random;

use std::iter::StepBy;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread;

use candle_core::{Device, Tensor};
use convnn_image::{Normalization, Resizer};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use augment::{Augmentation, Crop, Noise, PADDING, RandAugment, RandomErasing, ResizedCrop, Step};
pub use batches::Batches;
pub use mix::Mix;
pub(crate) use random::permutation;

use crate::error::{Error, Result};
use crate::name::{DatasetName, Labels};
use crate::split::{CHANNELS, SIDE, Split};
use augment::Canvas;
use batches::Worker;

/// Returns the generator of a named random stream, always at its start.
pub type Streams = Arc<dyn Fn(&str) -> ChaCha8Rng + Send + Sync>;

/// The largest number of threads. Resizing to 224×224 takes about as long as a training step of a small model on a fast
/// accelerator, and so can a list of steps; everything else leaves a single thread idle most of the time.
const WORKERS: usize = 4;

/// The largest image size.
pub(crate) const LARGEST_IMAGE: usize = 4096;

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
    /// Side of the images in pixels; images of another size are resized.
    pub image_size: usize,
    /// The order of the images.
    pub order: Order,
    /// Augmentation, applied before resizing and normalisation.
    pub augmentation: Augmentation,
    /// Mixing of the images of a batch, applied last.
    pub mix: Mix,
    /// Number of classes, for the targets of mixed batches.
    pub classes: usize,
    /// Mean and standard deviation of each channel.
    pub normalization: Normalization,
    /// Which labels to load.
    pub labels: Labels,
}

impl LoaderConfig {
    /// The configuration for evaluation: 32×32 images in order, without augmentation, with fine labels.
    ///
    /// For [`DatasetName::Folder`], set `classes` and `image_size` as well.
    pub fn new(name: DatasetName, batch_size: usize) -> Self {
        Self {
            batch_size,
            image_size: SIDE,
            order: Order::Sequential,
            augmentation: Augmentation::None,
            mix: Mix::default(),
            classes: name.classes().unwrap_or_default(),
            normalization: name.normalization(),
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
    /// If the images are mixed: the share of every class in each of them, (B, classes) f32, with rows that sum to 1.
    pub targets: Option<Tensor>,
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
    /// If the image size is not 1 to 4,096, a full batch is empty or has more than 2³¹ values, an option of the augmentation
    /// or mixing is out of range, the split is empty, or it has no coarse labels but they are asked for.
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
        let labels = split.labels(config.labels).ok_or(Error::NoCoarseLabels)?;
        config.augmentation.check()?;
        config.mix.check()?;
        if config.mix.is_on() && labels.iter().any(|&label| usize::from(label) >= config.classes) {
            return Err(Error::ClassCount { found: config.classes });
        }
        let table = config.normalization.table();
        let resizer = (side != split.side()).then(|| Resizer::new(split.side(), side));
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
        let workers = match (&self.plan.resizer, &self.plan.config.augmentation) {
            (None, Augmentation::None | Augmentation::CropFlip) => 1,
            _ => thread::available_parallelism().map_or(1, usize::from).min(WORKERS),
        };
        let workers = (0..workers)
            .map(|worker| Worker::start(&self.plan, epoch, (first + worker..batches).step_by(workers)))
            .collect::<Result<_>>()?;
        Ok(Batches { workers, left: batches - first })
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
        let config = &self.config;
        let size = config.image_size;
        let mut images = Vec::with_capacity(indices.len() * CHANNELS * size * size);
        let mut canvas = Canvas::new(self.split.side());
        let mut resized = vec![0; CHANNELS * size * size];
        let mean = config.normalization.mean.map(|mean| (255. * mean).round() as u8);
        for &index in indices {
            let mut image = self.split.image(index as usize);
            if !config.augmentation.steps().is_empty() {
                canvas.load(image);
                let mut generator = (self.streams)(&format!("augment/{epoch}/{index}"));
                config.augmentation.apply(&mut canvas, &mut generator, mean);
                image = canvas.pixels();
            }
            if let Some(resizer) = &self.resizer {
                resizer.resize(image, &mut resized);
                image = &resized;
            }
            for (plane, table) in image.chunks_exact(size * size).zip(&self.table) {
                images.extend(plane.iter().map(|&byte| table[usize::from(byte)]));
            }
        }
        let all = self.split.labels(config.labels).ok_or(Error::NoCoarseLabels)?;
        let labels: Vec<u32> = indices.iter().map(|&index| all[index as usize].into()).collect();
        let targets = match config.mix.is_on() {
            false => None,
            true => {
                let mut generator = (self.streams)(&format!("mix/{epoch}/{number}"));
                let targets = config.mix.apply(&mut images, size, &labels, config.classes, &mut generator);
                Some(Tensor::from_vec(targets, (labels.len(), config.classes), &Device::Cpu)?)
            }
        };
        Ok(Batch {
            number,
            images: Tensor::from_vec(images, (indices.len(), CHANNELS, size, size), &Device::Cpu)?,
            labels: Tensor::new(labels, &Device::Cpu)?,
            targets,
        })
    }
}
