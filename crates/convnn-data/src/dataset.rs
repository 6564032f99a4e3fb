//! A data set in memory.

use std::sync::Arc;

use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};
use crate::loader::permutation;
use crate::name::{DatasetName, Labels};
use crate::split::Split;

/// A data set in memory; clones share the images.
///
/// Read one with [`Dataset::open`], or take the embedded sample with [`Dataset::sample`].
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Which data set it is.
    pub name: DatasetName,
    /// The names of the classes, by label.
    pub classes: Arc<[String]>,
    /// The training images.
    pub train: Arc<Split>,
    /// The validation images: those of a folder `val` beside `test`, or those that [`hold_out`](Self::hold_out) took from the
    /// training images.
    pub validation: Option<Arc<Split>>,
    /// The test images.
    pub test: Arc<Split>,
    /// Where the images came from, for logs and run records.
    pub origin: String,
}

impl Dataset {
    /// A data set whose classes are known by its name.
    pub(crate) fn new(name: DatasetName, train: Split, test: Split, origin: String) -> Self {
        let classes = name.class_names(Labels::Fine).unwrap_or_default();
        Self {
            name,
            classes: classes.iter().map(|&class| class.to_owned()).collect(),
            train: Arc::new(train),
            validation: None,
            test: Arc::new(test),
            origin,
        }
    }

    /// Holds out `images` of the training images for validation, the same share of every class; with 0, nothing changes.
    ///
    /// The images that remain keep their order. The choice depends on `generator` and the labels alone.
    ///
    /// # Errors
    /// If no training image would remain, or the data already has validation images.
    pub fn hold_out(mut self, images: usize, generator: &mut ChaCha8Rng) -> Result<Self> {
        if images == 0 {
            return Ok(self);
        }
        if let Some(validation) = &self.validation {
            return Err(Error::ValidationExists { images: validation.len() });
        }
        if images >= self.train.len() {
            return Err(Error::Holdout { found: images, max: self.train.len().saturating_sub(1) });
        }
        let labels = self.train.labels(Labels::Fine).unwrap_or_default();
        let held = stratified(labels, self.classes.len(), images, generator);
        let part = |held_out: bool| {
            let indices: Vec<usize> = (0..held.len()).filter(|&index| held[index] == held_out).collect();
            Arc::new(self.train.select(&indices))
        };
        (self.validation, self.train) = (Some(part(true)), part(false));
        Ok(self)
    }
}

/// Whether each image is one of the `chosen`, of which every class gets its share: rounded down, and one more for the
/// classes with the largest remainders, the first ones if these are equal.
pub(crate) fn stratified(labels: &[u16], classes: usize, chosen: usize, generator: &mut ChaCha8Rng) -> Vec<bool> {
    let mut members = vec![Vec::new(); classes];
    for (index, &label) in labels.iter().enumerate() {
        members[usize::from(label)].push(index);
    }
    let share = |class: &[usize]| (class.len() * chosen / labels.len(), class.len() * chosen % labels.len());
    let mut quota: Vec<usize> = members.iter().map(|class| share(class).0).collect();
    let mut by_remainder: Vec<usize> = (0..classes).collect();
    by_remainder.sort_by_key(|&class| std::cmp::Reverse(share(&members[class]).1));
    let missing = chosen - quota.iter().sum::<usize>();
    by_remainder.iter().take(missing).for_each(|&class| quota[class] += 1);

    let mut taken = vec![false; labels.len()];
    for (class, quota) in members.iter().zip(quota) {
        for place in permutation(generator, class.len() as u32).into_iter().take(quota) {
            taken[class[place as usize]] = true;
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    fn counts(split: &Split) -> [usize; 10] {
        let mut counts = [0; 10];
        split.labels(Labels::Fine).unwrap().iter().for_each(|&label| counts[usize::from(label)] += 1);
        counts
    }

    #[test]
    fn a_held_out_part_is_stratified_and_seeded_and_takes_no_image_twice() {
        let data = Dataset::sample();
        let hold_out = |seed: u64| data.clone().hold_out(100, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap();
        let held = hold_out(1);
        let validation = held.validation.clone().unwrap();
        assert_eq!((held.train.len(), validation.len(), held.test.len()), (412, 100, 256));
        // 52 · 100 / 512 = 10.16 and 51 · 100 / 512 = 9.96.
        assert_eq!(counts(&validation), [10; 10]);
        let mut together: Vec<&[u8]> = (0..412).map(|i| held.train.image(i)).collect();
        together.extend((0..100).map(|i| validation.image(i)));
        together.sort_unstable();
        let mut all: Vec<&[u8]> = (0..512).map(|i| data.train.image(i)).collect();
        all.sort_unstable();
        assert_eq!(together, all);
        assert_eq!(held.train, hold_out(1).train);
        assert_ne!(held.train, hold_out(2).train);
    }

    #[test]
    fn every_number_of_images_can_be_held_out_except_all() {
        let data = Dataset::sample();
        let generator = || ChaCha8Rng::seed_from_u64(3);
        assert!(data.clone().hold_out(0, &mut generator()).unwrap().validation.is_none());
        for images in [1, 7, 255, 511] {
            let held = data.clone().hold_out(images, &mut generator()).unwrap();
            assert_eq!(held.validation.unwrap().len(), images);
            assert_eq!(held.train.len(), 512 - images);
        }
        let message = data.clone().hold_out(512, &mut generator()).unwrap_err().to_string();
        assert_eq!(message, "512 images cannot be held out for validation; expected at most 511");
        let held = data.hold_out(12, &mut generator()).unwrap();
        let message = held.hold_out(5, &mut generator()).unwrap_err().to_string();
        assert_eq!(message, "the data has 12 validation images already; leave `holdout` at 0");
    }
}
