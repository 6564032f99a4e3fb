#![allow(clippy::unwrap_used)]

use md5::{Digest, Md5};
use rand_chacha::rand_core::SeedableRng;

use super::rand_augment::Operation;
use super::*;
use super::{Canvas, geometry};
use crate::name::DatasetName;
use crate::split::{IMAGE, SIDE};

/// The first test image of CIFAR-10.
const CAT: &[u8] = include_bytes!("../../../tests/golden/first_test_image.bin");

/// Operations, their arguments, and the MD5 of what torchvision makes of the image; `make_golden.py` writes it.
const GOLDEN: &str = include_str!("../../../tests/golden/augmentation.txt");

fn cat() -> Canvas {
    let mut canvas = Canvas::new(SIDE);
    canvas.load(CAT);
    canvas
}

fn apply(name: &str, arguments: &[f64], canvas: &mut Canvas) {
    let whole: Vec<usize> = arguments.iter().map(|&argument| argument as usize).collect();
    match (name, &whole[..]) {
        ("crop", [padding, top, left]) => geometry::crop(canvas, *padding, *top, *left),
        ("flip", _) => geometry::flip(canvas),
        ("vertical_flip", _) => geometry::flip_vertically(canvas),
        ("resized_crop", [top, left, height, width]) => geometry::resized_crop(canvas, *top, *left, *height, *width),
        _ => {
            let operation = Operation::ALL.into_iter().find(|operation| format!("{operation:?}") == name).unwrap();
            operation.apply(canvas, arguments[1] * operation.magnitude(arguments[0], SIDE));
        }
    }
}

#[test]
fn every_operation_has_the_bytes_of_torchvision() {
    let mut names = std::collections::BTreeSet::new();
    let mut wrong = Vec::new();
    for line in GOLDEN.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (name, arguments, expected) = (words[0], &words[1..words.len() - 1], words[words.len() - 1]);
        let arguments: Vec<f64> = arguments.iter().map(|argument| argument.parse().unwrap()).collect();
        let mut canvas = cat();
        apply(name, &arguments, &mut canvas);
        let found: String = Md5::digest(canvas.pixels()).iter().map(|byte| format!("{byte:02x}")).collect();
        if found != expected {
            wrong.push(format!("{name} {arguments:?}"));
        }
        names.insert(name);
    }
    assert_eq!(names.len(), 14 + 4, "{names:?}");
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn crops_that_show_only_the_border_are_black() {
    let mut canvas = cat();
    geometry::crop(&mut canvas, 64, 128, 128);
    assert!(canvas.pixels().iter().all(|&pixel| pixel == 0));
}

/// The draws of a crop and a flip, whose order decides the bits of old configurations.
#[test]
fn crop_and_flip_draw_the_row_then_the_column_then_the_direction() {
    for seed in 0..50 {
        let generator = || ChaCha8Rng::seed_from_u64(seed);
        let mut expected = cat();
        let mut draws = generator();
        let mut draw = |n: u32| crate::loader::random::below(&mut draws, n) as usize;
        let (top, left) = (draw(9), draw(9));
        geometry::crop(&mut expected, 4, top, left);
        if draw(2) == 1 {
            geometry::flip(&mut expected);
        }
        for augmentation in [Augmentation::CropFlip, parse(r#"["crop", "flip"]"#).unwrap()] {
            let mut canvas = cat();
            augmentation.apply(&mut canvas, &mut generator(), [0; 3]);
            assert_eq!(canvas.pixels(), expected.pixels(), "seed {seed}");
        }
    }
}

#[test]
fn noise_has_its_deviation_and_stays_in_range() {
    let mut canvas = Canvas::new(64);
    canvas.load(&[128; 3 * 64 * 64]);
    let noise = Step::Noise(Noise { sd: 0.05 });
    noise.apply(&mut canvas, &mut ChaCha8Rng::seed_from_u64(1), [0; 3]);
    let n = canvas.pixels().len() as f64;
    let mean = canvas.pixels().iter().map(|&pixel| f64::from(pixel)).sum::<f64>() / n;
    let sd = (canvas.pixels().iter().map(|&pixel| (f64::from(pixel) - mean).powi(2)).sum::<f64>() / n).sqrt();
    // The deviation is 0.05 · 255 = 12.75, of the mean 0.115, of the deviation 0.08.
    assert!((mean - 128.).abs() < 0.7 && (sd - 12.75).abs() < 0.5, "mean {mean}, deviation {sd}");
    canvas.load(&[255; 3 * 64 * 64]);
    noise.apply(&mut canvas, &mut ChaCha8Rng::seed_from_u64(1), [0; 3]);
    let white = canvas.pixels().iter().filter(|&&pixel| pixel == 255).count() as f64 / n;
    assert!((0.45..0.6).contains(&white), "{white} of the pixels stay white");
}

#[test]
fn rand_augment_draws_every_operation_and_both_signs() {
    let one = RandAugment { operations: 1, ..RandAugment::default() };
    let mut seen = std::collections::BTreeMap::<Vec<u8>, usize>::new();
    for seed in 0..3000 {
        let mut canvas = cat();
        one.apply(&mut canvas, &mut ChaCha8Rng::seed_from_u64(seed));
        *seen.entry(canvas.pixels().to_vec()).or_default() += 1;
    }
    // Five operations without a sign and nine with two.
    assert_eq!(seen.len(), 5 + 9 * 2);
    assert!(seen.values().all(|&count| (60..=290).contains(&count)), "{:?}", seen.values());
}

#[test]
fn erasing_leaves_the_mean_color_which_is_0_once_normalised() {
    let normalization = DatasetName::Cifar10.normalization();
    let mean = normalization.mean.map(|mean| (255. * mean).round() as u8);
    let all = RandomErasing { probability: 1., scale: [0.5, 0.5], ratio: [1., 1.] };
    let mut canvas = cat();
    Step::RandomErasing(all).apply(&mut canvas, &mut ChaCha8Rng::seed_from_u64(2), mean);
    let table = normalization.table();
    let erased = (0..IMAGE).filter(|&i| canvas.pixels()[i] != CAT[i]).collect::<Vec<_>>();
    // A square of 23 pixels.
    assert!((3 * 23 * 23 - 60..=3 * 23 * 23).contains(&erased.len()), "{}", erased.len());
    assert!(erased.iter().all(|&i| table[i / 1024][usize::from(canvas.pixels()[i])].abs() < 0.01));
}

fn parse(text: &str) -> serde_json::Result<Augmentation> {
    serde_json::from_str(text)
}

#[test]
fn words_and_lists_are_read_and_written() {
    assert_eq!(parse(r#""none""#).unwrap(), Augmentation::None);
    assert_eq!(parse(r#""crop_flip""#).unwrap(), Augmentation::CropFlip);
    let text = r#"[{"crop":{"padding":2}},"flip","vertical_flip",{"resized_crop":{"scale":[0.5,1]}},"noise",
        {"rand_augment":{"magnitude":5}},{"random_erasing":{}}]"#;
    let steps = [
        Step::Crop(Crop { padding: 2 }),
        Step::Flip {},
        Step::VerticalFlip {},
        Step::ResizedCrop(ResizedCrop { scale: [0.5, 1.], ..ResizedCrop::default() }),
        Step::Noise(Noise::default()),
        Step::RandAugment(RandAugment { magnitude: 5, ..RandAugment::default() }),
        Step::RandomErasing(RandomErasing::default()),
    ];
    let augmentation = parse(text).unwrap();
    assert_eq!(augmentation.steps(), steps);
    augmentation.check().unwrap();
    for augmentation in [augmentation, Augmentation::None, Augmentation::CropFlip] {
        let written = serde_json::to_string(&augmentation).unwrap();
        assert_eq!(parse(&written).unwrap(), augmentation, "{written}");
    }
    assert_eq!(serde_json::to_string(&Augmentation::CropFlip).unwrap(), r#""crop_flip""#);
}

#[test]
fn what_cannot_be_read_says_what_can() {
    for (text, parts) in [
        (r#""crop""#, &["\"crop\"", "`none`, `crop_flip`, or a list of steps"][..]),
        (r#"["turn"]"#, &["unknown variant `turn`", "`random_erasing`"]),
        (r#"[{"crop":{"pad":1}}]"#, &["unknown field `pad`", "`padding`"]),
        (r#"[{"flip":{"p":1}}]"#, &["unknown field `p`"]),
        ("[3]", &["a step such as"]),
        ("3", &["a list of steps such as"]),
    ] {
        let message = parse(text).unwrap_err().to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{text}: {message}");
    }
}

#[test]
fn options_out_of_range_are_named() {
    for (text, expected) in [
        (r#"[{"crop":{"padding":0}}]"#, "crop.padding is 0; expected 1 to 1024 pixels"),
        (r#"["flip",{"noise":{"sd":1.5}}]"#, "noise.sd is 1.5; expected a number above 0 and up to 1"),
        (
            r#"[{"resized_crop":{"scale":[0.5,0.2]}}]"#,
            "resized_crop.scale is [0.5, 0.2]; expected two numbers above 0 and up to 1, the smaller one first",
        ),
        (r#"[{"rand_augment":{"magnitude":31}}]"#, "rand_augment.magnitude is 31; expected less than `bins`"),
        (r#"[{"rand_augment":{"operations":4000000000}}]"#, "rand_augment.operations is 4000000000; expected 1 to 14"),
        (r#"[{"random_erasing":{"probability":-1}}]"#, "random_erasing.probability is -1.0; expected 0 to 1"),
        (
            r#"[{"random_erasing":{"ratio":[0.001,1]}}]"#,
            "random_erasing.ratio is [0.001, 1.0]; expected two numbers from 0.01 to 100, the smaller one first",
        ),
    ] {
        let message = parse(text).unwrap().check().unwrap_err().to_string();
        assert_eq!(message, format!("augmentation: {expected}"), "{text}");
    }
    let many = Augmentation::Steps(vec![Step::Flip {}; 17]);
    assert_eq!(many.check().unwrap_err().to_string(), "augmentation: the number of steps is 17; expected at most 16");
}
