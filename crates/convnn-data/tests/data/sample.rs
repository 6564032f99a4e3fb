use convnn_data::{Dataset, DatasetName, Error, IMAGE, Labels, Source, Split};

fn labels(split: &Split) -> &[u16] {
    split.labels(Labels::Fine).unwrap()
}

#[test]
fn the_classes_are_balanced() {
    let data = Dataset::open(DatasetName::Cifar10, &Source::Sample).unwrap();
    let counts = |split: &Split| {
        let mut counts = [0; 10];
        for &label in labels(split) {
            counts[usize::from(label)] += 1;
        }
        counts
    };
    assert_eq!(counts(&data.train), [52, 52, 51, 51, 51, 51, 51, 51, 51, 51]);
    assert_eq!(counts(&data.test), [26, 26, 26, 26, 26, 26, 25, 25, 25, 25]);
    assert_eq!(data.origin, "embedded sample");
}

/// The first images of the official files, by pixels printed in many tutorials.
#[test]
fn the_images_are_official_and_upright() {
    let data = Dataset::sample();
    assert_eq!(data.test.image(0), crate::CAT);
    let pixel =
        |image: &[u8], row: usize, column: usize| [0, 1, 2].map(|channel| image[(channel * 32 + row) * 32 + column]);
    let cat = data.test.image(0);
    assert_eq!(pixel(cat, 0, 0), [158, 112, 49]);
    assert_eq!(pixel(cat, 0, 1), [159, 111, 47], "to the right");
    assert_eq!(pixel(cat, 1, 0), [152, 112, 51], "below");
    let frog = data.train.image(0);
    assert_eq!(pixel(frog, 0, 0), [59, 62, 63]);
    assert_eq!(pixel(frog, 0, 1), [43, 46, 45]);
    assert_eq!(pixel(frog, 1, 0), [16, 20, 20]);
    assert_eq!(pixel(frog, 31, 31), [123, 92, 72]);
    let names = data.name.class_names(Labels::Fine).unwrap();
    let name = |label: u16| names[usize::from(label)];
    assert_eq!(name(labels(&data.train)[0]), "frog");
    let first_test = labels(&data.test)[..4].iter().map(|&label| name(label));
    assert_eq!(first_test.collect::<Vec<_>>(), ["cat", "ship", "ship", "airplane"]);
}

#[test]
fn no_image_appears_twice() {
    let data = Dataset::sample();
    let images = data.train.images().chunks_exact(IMAGE);
    let images = images.chain(data.test.images().chunks_exact(IMAGE));
    let distinct: std::collections::BTreeSet<&[u8]> = images.collect();
    assert_eq!(distinct.len(), 512 + 256);
}

#[test]
fn there_is_no_sample_of_cifar_100() {
    let error = Dataset::open(DatasetName::Cifar100, &Source::Sample).unwrap_err();
    assert!(matches!(error, Error::NotInSample(DatasetName::Cifar100)));
    assert_eq!(
        error.to_string(),
        "the embedded sample has no images of CIFAR-100, only of CIFAR-10; use cifar10 or give a data folder"
    );
}

#[test]
fn a_clone_shares_the_images() {
    let data = Dataset::sample();
    let images = data.clone().train.images().as_ptr();
    assert_eq!(images, data.train.images().as_ptr());
}
