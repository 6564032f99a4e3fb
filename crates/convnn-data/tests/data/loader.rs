use std::sync::Arc;

use convnn_data::{
    Augmentation, Batch, Dataset, DatasetName, Error, IMAGE, Labels, Loader, LoaderConfig, Mix, Noise, Normalization,
    Order, RandAugment, RandomErasing, ResizedCrop, Split, Step, Streams,
};
use md5::{Digest, Md5};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

fn streams(seed: u64) -> Streams {
    Arc::new(move |name| {
        let hash = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        ChaCha8Rng::seed_from_u64(name.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, hash))
    })
}

/// Eleven images of the sample.
fn split() -> Arc<Split> {
    Arc::new(Dataset::sample().train.first(11))
}

fn config(batch_size: usize) -> LoaderConfig {
    LoaderConfig::new(DatasetName::Cifar10, batch_size)
}

fn augmented(batch_size: usize) -> LoaderConfig {
    LoaderConfig { order: Order::Shuffled, augmentation: Augmentation::CropFlip, ..config(batch_size) }
}

/// Every step there is, and mixing.
fn everything(batch_size: usize) -> LoaderConfig {
    let steps = [
        Step::Flip {},
        Step::VerticalFlip {},
        Step::ResizedCrop(ResizedCrop::default()),
        Step::RandAugment(RandAugment::default()),
        Step::Noise(Noise::default()),
        Step::RandomErasing(RandomErasing::default()),
    ];
    LoaderConfig {
        augmentation: Augmentation::Steps(steps.to_vec()),
        mix: Mix { mixup: 0.2, cutmix: 1. },
        ..augmented(batch_size)
    }
}

fn loader(config: LoaderConfig) -> Loader {
    Loader::new(split(), config, streams(42)).unwrap()
}

fn pixels(batch: &Batch) -> Vec<f32> {
    batch.images.flatten_all().unwrap().to_vec1().unwrap()
}

/// Pixels and labels of the rest of an epoch, batch after batch.
fn contents(batches: impl Iterator<Item = convnn_data::Result<Batch>>) -> Vec<(Vec<f32>, Vec<u32>)> {
    batches.map(|batch| batch.unwrap()).map(|batch| (pixels(&batch), batch.labels.to_vec1().unwrap())).collect()
}

/// The same, without the borders of the batches.
fn images(loader: &Loader, epoch: u64) -> (Vec<f32>, Vec<u32>) {
    let (pixels, labels): (Vec<_>, Vec<_>) = contents(loader.epoch(epoch).unwrap()).into_iter().unzip();
    (pixels.concat(), labels.concat())
}

#[test]
fn an_epoch_holds_every_image_in_order_and_ends_with_a_smaller_batch() {
    let loader = loader(config(4));
    assert_eq!((loader.images(), loader.batches()), (11, 3));
    let batches = loader.epoch(0).unwrap();
    assert_eq!(batches.len(), 3);
    let batches: Vec<Batch> = batches.map(|batch| batch.unwrap()).collect();
    let shapes: Vec<_> = batches.iter().map(|batch| batch.images.dims().to_vec()).collect();
    assert_eq!(shapes, [[4, 3, 32, 32], [4, 3, 32, 32], [3, 3, 32, 32]]);
    let numbers: Vec<_> = batches.iter().map(|batch| batch.number).collect();
    assert_eq!(numbers, [0, 1, 2]);
    let labels: Vec<u32> = batches.iter().flat_map(|batch| batch.labels.to_vec1().unwrap()).collect();
    let expected = split().labels(Labels::Fine).unwrap().iter().map(|&label| label.into()).collect::<Vec<u32>>();
    assert_eq!(labels, expected);
}

#[test]
fn pixels_are_normalised_by_channel() {
    let pixels = images(&loader(config(11)), 0).0;
    let split = split();
    let normalization = DatasetName::Cifar10.normalization();
    for (i, (&pixel, &byte)) in pixels.iter().zip(split.images()).enumerate() {
        let channel = i / 1024 % 3;
        let expected = (f32::from(byte) / 255. - normalization.mean[channel]) / normalization.sd[channel];
        assert_eq!(pixel, expected, "element {i}");
    }
    assert_eq!(pixels.len(), 11 * IMAGE);
}

#[test]
fn a_shuffled_epoch_is_a_permutation_that_changes_with_the_epoch_and_the_seed() {
    let shuffled = LoaderConfig { order: Order::Shuffled, ..config(4) };
    // Images are told apart by their pixels.
    let order = |seed: u64, epoch: u64| {
        let split = split();
        let loader = Loader::new(Arc::clone(&split), shuffled.clone(), streams(seed)).unwrap();
        let table = images(&Loader::new(split, config(11), streams(0)).unwrap(), 0).0;
        let find = |image: &[f32]| table.chunks_exact(IMAGE).position(|other| other == image).unwrap();
        images(&loader, epoch).0.chunks_exact(IMAGE).map(find).collect::<Vec<_>>()
    };
    let first = order(1, 0);
    let mut sorted = first.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..11).collect::<Vec<_>>());
    assert_eq!(order(1, 0), first);
    assert_ne!(order(1, 1), first);
    assert_ne!(order(2, 0), first);
}

#[test]
fn labels_stay_with_their_images() {
    let (pixels, labels) = images(&loader(LoaderConfig { order: Order::Shuffled, ..config(3) }), 5);
    let (all_pixels, all_labels) = images(&loader(config(11)), 0);
    for (image, label) in pixels.chunks_exact(IMAGE).zip(labels) {
        let index = all_pixels.chunks_exact(IMAGE).position(|other| other == image).unwrap();
        assert_eq!(label, all_labels[index]);
    }
}

#[test]
fn an_epoch_entered_in_its_middle_goes_on_as_the_whole_one() {
    // Resized images are prepared by several threads in turn.
    let resized = LoaderConfig { image_size: 40, ..augmented(2) };
    let all = everything(2);
    for (config, batches) in [(augmented(4), 3), (augmented(1), 11), (augmented(20), 1), (resized, 6), (all, 6)] {
        let loader = loader(config);
        let whole = contents(loader.epoch(7).unwrap());
        assert_eq!(whole.len(), batches);
        for first in 0..=batches {
            let rest = loader.epoch_from(7, first).unwrap();
            assert_eq!(rest.len(), batches - first);
            assert_eq!(contents(rest), whole[first..], "from batch {first}");
        }
    }
}

#[test]
fn an_image_is_augmented_alike_in_batches_of_any_size() {
    let whole = images(&loader(augmented(11)), 3);
    for batch_size in [1, 4, 64] {
        assert_eq!(images(&loader(augmented(batch_size)), 3), whole, "batches of {batch_size}");
    }
    let steps = |batch_size: usize| LoaderConfig { mix: Mix::default(), ..everything(batch_size) };
    let whole = images(&loader(steps(11)), 3);
    for batch_size in [1, 4] {
        assert_eq!(images(&loader(steps(batch_size)), 3), whole, "batches of {batch_size}");
    }
}

/// MD5 over pixels and labels of an augmented epoch of the sample, as the first version of the loader gave it: old
/// configurations keep their bits.
#[test]
fn a_crop_and_flip_keep_their_bits() {
    for (image_size, expected) in [(32, "81309a7bee470de71487bd7158d11411"), (40, "15d6665fd1fa52c58c4ed78b1a576401")] {
        let config = LoaderConfig { image_size, ..augmented(64) };
        let loader = Loader::new(Dataset::sample().train, config, streams(42)).unwrap();
        let mut digest = Md5::new();
        for (pixels, labels) in contents(loader.epoch(3).unwrap()) {
            pixels.iter().for_each(|pixel| digest.update(pixel.to_le_bytes()));
            labels.iter().for_each(|label| digest.update(label.to_le_bytes()));
        }
        let found: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, expected, "{image_size} pixels");
    }
}

/// The images of one batch before and after mixing, and the targets.
fn mixed(mix: Mix, epoch: u64) -> (Vec<f32>, Vec<f32>, Vec<Vec<f32>>) {
    let plain = config(11);
    let batch = |config: LoaderConfig| loader(config).epoch(epoch).unwrap().next().unwrap().unwrap();
    let before = batch(plain.clone());
    assert!(before.targets.is_none());
    let after = batch(LoaderConfig { mix, ..plain });
    assert_eq!(before.labels.to_vec1::<u32>().unwrap(), after.labels.to_vec1::<u32>().unwrap());
    (pixels(&before), pixels(&after), after.targets.unwrap().to_vec2().unwrap())
}

/// The share of its own class in every image, after checking that the rest is that of the image before it.
fn own_shares(targets: &[Vec<f32>]) -> Vec<f32> {
    let split = split();
    let labels = split.labels(Labels::Fine).unwrap();
    let class = |i: usize| usize::from(labels[i % labels.len()]);
    let own = (0..targets.len()).filter(|&i| class(i) != class(i + targets.len() - 1)).map(|i| targets[i][class(i)]);
    let own: Vec<f32> = own.collect();
    for (i, target) in targets.iter().enumerate() {
        assert_eq!(target.len(), 10);
        assert!((target.iter().sum::<f32>() - 1.).abs() < 1e-6);
        let others = (0..10).filter(|&k| k != class(i) && k != class(i + targets.len() - 1));
        assert!(others.map(|k| target[k]).all(|share| share == 0.), "image {i}");
    }
    own
}

#[test]
fn mixup_averages_each_image_and_its_target_with_the_one_before() {
    let mut shares = Vec::new();
    for epoch in 0..20 {
        let (before, after, targets) = mixed(Mix { mixup: 1., cutmix: 0. }, epoch);
        let own = own_shares(&targets);
        assert!(own.iter().all(|&share| share == own[0]), "one share a batch");
        for (i, &pixel) in after.iter().enumerate() {
            let previous = before[(i + 10 * IMAGE) % (11 * IMAGE)];
            assert_eq!(pixel, own[0] * before[i] + (1. - own[0]) * previous, "element {i}");
        }
        shares.push(own[0]);
    }
    shares.sort_by(f32::total_cmp);
    assert!(shares[0] < 0.35 && shares[19] > 0.65, "{shares:?}");
}

#[test]
fn cutmix_copies_a_rectangle_and_its_share_of_the_target() {
    let mut cut = 0;
    for epoch in 0..20 {
        let (before, after, targets) = mixed(Mix { mixup: 0., cutmix: 1. }, epoch);
        let own = own_shares(&targets);
        for image in 0..11 {
            let at = |pixels: &[f32], image: usize, i: usize| pixels[image % 11 * IMAGE + i];
            let replaced: Vec<usize> = (0..1024)
                .filter(|&i| at(&after, image, i) != at(&before, image, i))
                .map(|i| i + image * IMAGE)
                .collect();
            for i in &replaced {
                assert_eq!(after[*i], before[(i + 10 * IMAGE) % (11 * IMAGE)]);
            }
            let (rows, columns): (Vec<usize>, Vec<usize>) = replaced.iter().map(|i| (i % IMAGE / 32, i % 32)).unzip();
            let extent = |values: &[usize]| match (values.iter().min(), values.iter().max()) {
                (Some(min), Some(max)) => max - min + 1,
                _ => 0,
            };
            // Equal pixels of the two images hide parts of the rectangle, but never enlarge it.
            let area = (1024. * (1. - own[0])).round() as usize;
            assert!(
                extent(&rows) * extent(&columns) <= area && replaced.len() * 10 >= area * 8,
                "{area} {}",
                replaced.len()
            );
            cut += replaced.len();
        }
    }
    assert!(cut > 20 * 11 * 100, "{cut}");
}

#[test]
fn with_both_a_batch_uses_one_of_them() {
    let (mut averaged, mut copied) = (0, 0);
    for epoch in 0..30 {
        let (before, after, _) = mixed(Mix { mixup: 1., cutmix: 1. }, epoch);
        let from_before = |i: usize| after[i] == before[i] || after[i] == before[(i + 10 * IMAGE) % (11 * IMAGE)];
        let count = (0..after.len()).filter(|&i| from_before(i)).count();
        if count == after.len() { copied += 1 } else { averaged += 1 }
    }
    assert!(averaged >= 5 && copied >= 5, "{averaged} averaged, {copied} copied");
}

#[test]
fn a_split_of_larger_images_is_not_resized_to_its_own_size() {
    let images: Vec<u8> = (0..2 * 3 * 48 * 48).map(|i| (i % 251) as u8).collect();
    let split = Arc::new(Split::with_side(48, images.clone(), vec![0, 1], None).unwrap());
    let config = LoaderConfig {
        image_size: 48,
        classes: 2,
        normalization: Normalization::NONE,
        ..LoaderConfig::new(DatasetName::Folder, 2)
    };
    let batch = Loader::new(Arc::clone(&split), config.clone(), streams(0)).unwrap().epoch(0).unwrap().next().unwrap();
    let expected: Vec<f32> = images.iter().map(|&byte| f32::from(byte) / 255.).collect();
    assert_eq!(pixels(&batch.unwrap()), expected);
    let smaller = LoaderConfig { image_size: 24, ..config };
    let batch = Loader::new(split, smaller, streams(0)).unwrap().epoch(0).unwrap().next().unwrap().unwrap();
    assert_eq!(batch.images.dims(), [2, 3, 24, 24]);
}

#[test]
fn augmentation_changes_with_the_epoch_and_not_otherwise() {
    let augmented = LoaderConfig { augmentation: Augmentation::CropFlip, ..config(11) };
    let loader = loader(augmented);
    let first = images(&loader, 0);
    assert_eq!(images(&loader, 0), first);
    let second = images(&loader, 1);
    assert_eq!(first.1, second.1, "the order is sequential");
    let pairs = first.0.chunks_exact(IMAGE).zip(second.0.chunks_exact(IMAGE));
    let changed = pairs.filter(|(first, second)| first != second).count();
    // An image stays as it is with probability 1 in 162.
    assert!(changed >= 10, "{changed} of 11 images changed");
}

#[test]
fn images_are_resized_after_the_augmentation() {
    let size = 48;
    let resized = LoaderConfig { image_size: size, normalization: Normalization::NONE, ..config(5) };
    let (pixels, _) = images(&loader(resized), 0);
    let resizer = convnn_image::Resizer::new(32, size);
    assert_eq!(resizer.size(), size);
    let split = split();
    let mut expected = vec![0; 3 * size * size];
    for (index, image) in pixels.chunks_exact(3 * size * size).enumerate() {
        resizer.resize(split.image(index), &mut expected);
        let equal = image.iter().zip(&expected).all(|(&pixel, &byte)| pixel == f32::from(byte) / 255.);
        assert!(equal, "image {index}");
    }
    assert_eq!(pixels.len(), 11 * 3 * size * size);
}

#[test]
fn coarse_labels_are_given_where_they_are_asked_for() {
    let split = Arc::new(Split::new(vec![0; 2 * IMAGE], vec![70, 80], Some(vec![7, 8])).unwrap());
    let labels = |labels: Labels| {
        let config = LoaderConfig { labels, ..LoaderConfig::new(DatasetName::Cifar100, 2) };
        images(&Loader::new(Arc::clone(&split), config, streams(0)).unwrap(), 0).1
    };
    assert_eq!(labels(Labels::Fine), [70, 80]);
    assert_eq!(labels(Labels::Coarse), [7, 8]);
}

#[test]
fn dropping_an_unfinished_epoch_stops_its_threads() {
    for image_size in [32, 40] {
        let split = split();
        let config = LoaderConfig { image_size, ..config(1) };
        let loader = Loader::new(Arc::clone(&split), config, streams(0)).unwrap();
        let mut batches = loader.epoch(0).unwrap();
        batches.next().unwrap().unwrap();
        // The threads are about to block on their full channels, or do; they hold the loader's plan and with it the split.
        drop(loader);
        assert_eq!(Arc::strong_count(&split), 2);
        drop(batches);
        assert_eq!(Arc::strong_count(&split), 1, "the threads have ended");
    }
}

#[test]
fn a_panic_of_a_thread_does_not_look_like_the_end_of_the_epoch() {
    let failing: Streams = Arc::new(|name| {
        assert!(!name.starts_with("augment/"), "no such stream");
        ChaCha8Rng::seed_from_u64(0)
    });
    let loader = Loader::new(split(), augmented(4), failing).unwrap();
    let mut batches = loader.epoch(0).unwrap();
    let next = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| batches.next().is_none()));
    let panic = *next.unwrap_err().downcast::<&str>().unwrap();
    assert_eq!(panic, "no such stream");
}

#[test]
fn invalid_configurations_are_refused() {
    let error = |split: &Arc<Split>, config: LoaderConfig| {
        let loader = Loader::new(Arc::clone(split), config, streams(0));
        loader.err().unwrap().to_string()
    };
    let split = split();
    for batch_size in [0, 699_051, usize::MAX] {
        let expected = format!("batch size {batch_size}; expected 1 to 699050 for images of 32×32 pixels");
        assert_eq!(error(&split, config(batch_size)), expected);
    }
    for image_size in [0, 5000] {
        let config = LoaderConfig { image_size, ..config(1) };
        let expected = format!("image size {image_size}; expected 1 to 4096 pixels");
        assert_eq!(error(&split, config), expected);
    }
    let steps = Augmentation::Steps(vec![Step::Noise(Noise { sd: -1. })]);
    let expected = "augmentation: noise.sd is -1.0; expected a number above 0 and up to 1";
    assert_eq!(error(&split, LoaderConfig { augmentation: steps, ..config(1) }), expected);
    for mixup in [-0.1, 1001., f64::NAN] {
        let mix = Mix { mixup, cutmix: 0. };
        assert_eq!(error(&split, LoaderConfig { mix, ..config(1) }), format!("mixup is {mixup}; expected 0 to 1000"));
    }
    let mix = Mix { mixup: 1., cutmix: 0. };
    let few = "the labels go beyond 3 classes; images can only be mixed if the number of classes is right";
    assert_eq!(error(&split, LoaderConfig { mix, classes: 3, ..config(1) }), few);
    let coarse = LoaderConfig { labels: Labels::Coarse, ..config(1) };
    assert_eq!(error(&split, coarse), "coarse labels were asked for, but this data set has only fine labels");
    let empty = Arc::new(split.first(0));
    assert_eq!(error(&empty, config(1)), "no images to load: the split is empty");
    let past = loader(config(4)).epoch_from(0, 4).unwrap_err();
    assert!(matches!(past, Error::BatchPastEnd { batch: 4, batches: 3 }));
    assert_eq!(past.to_string(), "batch 4 was asked for, but an epoch has 3 batches");
}
