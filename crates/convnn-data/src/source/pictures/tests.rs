#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::name::Labels;

/// Small pictures, and what torchvision makes of them; `make_golden.py` writes both.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures")
}

/// A folder with copies of a golden picture at these paths.
fn folder(pictures: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for picture in pictures {
        let path = folder.path().join(picture);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(golden().join("small.png"), path).unwrap();
    }
    folder
}

#[track_caller]
fn message(folder: &TempDir) -> String {
    let message = open(folder.path(), 16, 0.2).unwrap_err().to_string();
    message.replace(&folder.path().display().to_string(), "DIR")
}

/// Gray, alpha, a palette, EXIF orientation, three formats, shrinking and enlarging: the bytes of Pillow, and for JPEG within
/// the difference between two decoders.
#[test]
fn pictures_are_resized_and_cropped_as_by_torchvision() {
    let mut seen = 0;
    for entry in fs::read_dir(golden()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().unwrap() == "rgb" {
            continue;
        }
        let expected = fs::read(path.with_extension("rgb")).unwrap();
        let split = read(&[Picture { path: path.clone(), label: 0 }], 16).unwrap();
        let tolerance = if path.extension().unwrap() == "jpg" { 3 } else { 0 };
        let difference = split.images().iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(difference <= tolerance && split.images().len() == expected.len(), "{path:?}: {difference}");
        seen += 1;
    }
    assert_eq!(seen, 8);
}

#[test]
fn classes_and_pictures_are_sorted_and_test_pictures_come_from_their_folder() {
    let folder =
        folder(&["train/b/2.png", "train/b/10.png", "train/a/x.PNG", "test/b/1.png", "val/a/1.png", "val/b/1.png"]);
    fs::copy(golden().join("wide.png"), folder.path().join("train/b/10.png")).unwrap();
    fs::write(folder.path().join("train/b/notes.txt"), "not a picture").unwrap();
    fs::write(folder.path().join("train/a/.hidden.png"), "not a picture").unwrap();
    let data = open(folder.path(), 16, 0.2).unwrap();
    assert_eq!(&*data.classes, ["a", "b"]);
    assert_eq!(data.train.labels(Labels::Fine), Some(&[0, 1, 1][..]));
    assert_eq!(data.train.image(1), fs::read(golden().join("wide.rgb")).unwrap(), "10.png before 2.png");
    assert_eq!(data.train.side(), 16);
    assert_eq!(data.test.labels(Labels::Fine), Some(&[1][..]));
    assert_eq!(data.validation.unwrap().len(), 2);
    assert_eq!(picture_classes(folder.path()), Some(2));
    // Without `test`, the validation part is the test part.
    fs::remove_dir_all(folder.path().join("test")).unwrap();
    let data = open(folder.path(), 16, 0.2).unwrap();
    assert_eq!((data.test.len(), data.validation.is_none()), (2, true));
}

#[test]
fn without_a_test_part_every_class_gives_its_share() {
    let names: Vec<String> =
        (0..10).map(|i| format!("cat/{i}.png")).chain((0..5).map(|i| format!("dog/{i}.png"))).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let folder = folder(&[&names[..], &["emu/0.png"]].concat());
    let part = |share: f64| {
        let listing = Listing::read(folder.path(), share).unwrap();
        assert_eq!(listing.train.len() + listing.test.len(), 16);
        assert!(listing.train.iter().all(|picture| !listing.test.contains(picture)));
        listing.test
    };
    let count = |test: &[Picture], label: u16| test.iter().filter(|picture| picture.label == label).count();
    let test = part(0.4);
    assert_eq!([0, 1, 2].map(|label| count(&test, label)), [4, 2, 0]);
    assert_eq!(test, part(0.4), "the same every time");
    // The last picture of a class is for training.
    assert_eq!([0, 1, 2].map(|label| count(&part(0.99), label)), [9, 4, 0]);
    for share in [0., 1., f64::NAN] {
        let expected = format!("test share {share}; expected a number above 0 and below 1");
        assert_eq!(open(folder.path(), 16, share).unwrap_err().to_string(), expected);
    }
    assert_eq!(picture_classes(folder.path()), Some(3));
}

#[test]
fn broken_pictures_are_named_and_their_number_is_bounded() {
    let names: Vec<String> = (0..9).map(|i| format!("train/a/{i}.png")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let folder = folder(&[&names[..], &["train/b/0.png", "test/a/0.png"]].concat());
    let path = |i: usize| folder.path().join(names[i]);
    let good = fs::read(path(1)).unwrap();
    fs::write(path(1), &good[..good.len() / 2]).unwrap();
    assert!(
        message(&folder).starts_with("1 of 10 pictures cannot be read: DIR/train/a/1.png: "),
        "{}",
        message(&folder)
    );
    assert!(message(&folder).ends_with("; repair or delete them"), "{}", message(&folder));
    (2..9).for_each(|i| fs::write(path(i), "no picture").unwrap());
    let message = message(&folder);
    assert!(message.starts_with("8 of 10 pictures cannot be read: DIR/train/a/1.png: "), "{message}");
    assert!(message.contains("DIR/train/a/5.png: ") && !message.contains("DIR/train/a/6.png"), "{message}");
    assert!(message.ends_with("; and 3 more; repair or delete them"), "{message}");
    assert!(!message.contains('\n'), "{message}");
}

/// A picture that claims to be huge is refused by its header.
#[test]
fn a_huge_picture_is_refused_before_it_is_decoded() {
    let folder = folder(&["train/a/0.png", "train/b/0.png", "test/a/0.png"]);
    let path = folder.path().join("train/a/0.png");
    for (width, height) in [(32_767_u32, 32_767_u32), (1, 40_000), (u32::MAX >> 1, 1)] {
        let mut bytes = fs::read(golden().join("small.png")).unwrap();
        // Width and height follow the signature, the length and the name of the first chunk; its checksum is next.
        bytes[16..20].copy_from_slice(&width.to_be_bytes());
        bytes[20..24].copy_from_slice(&height.to_be_bytes());
        let crc = crc(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&crc.to_be_bytes());
        fs::write(&path, bytes).unwrap();
        let message = message(&folder);
        assert!(
            message.contains("DIR/train/a/0.png: more than 32768 pixels in a row or column, or 256 MiB as a file"),
            "{message}"
        );
    }
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[test]
fn folders_that_are_not_as_expected_are_refused() {
    let empty = tempfile::tempdir().unwrap();
    assert!(message(&empty).starts_with("DIR: no folders of pictures found; expected train/CLASS/*.png"));
    assert_eq!(picture_classes(empty.path()), None);
    assert!(message(&folder(&["test/a/1.png"])).starts_with("DIR: no folders of pictures found"));
    assert_eq!(message(&folder(&["a/1.png"])), "DIR: only one class folder found; expected at least two");
    let unknown = folder(&["train/a/1.png", "train/b/1.png", "test/c/1.png"]);
    assert_eq!(message(&unknown), "DIR/test/c: a class that DIR/train does not have");
    let one_each = folder(&["a/1.png", "b/1.png"]);
    assert_eq!(message(&one_each), "DIR: too few pictures to set some aside for testing; add a folder test");
    let hole = folder(&["train/a/1.png", "test/a/1.png"]);
    fs::create_dir(hole.path().join("train/b")).unwrap();
    let expected = "DIR/train/b: no pictures found (.png, .jpg, .jpeg, .webp); add some, or remove the folder";
    assert_eq!(message(&hole), expected);
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_pipes_are_not_opened() {
    let folder = folder(&["train/a/0.png", "train/b/0.png", "elsewhere/0.png"]);
    std::os::unix::fs::symlink("../elsewhere", folder.path().join("train/c")).unwrap();
    std::os::unix::fs::symlink(golden().join("wide.png"), folder.path().join("train/a/1.png")).unwrap();
    std::os::unix::fs::symlink("train", folder.path().join("test")).unwrap();
    let data = open(folder.path(), 16, 0.2).unwrap();
    assert_eq!(data.train.labels(Labels::Fine), Some(&[0, 0, 1, 2][..]));
    assert_eq!(data.train, data.test);
    assert!(std::process::Command::new("mkfifo").arg(folder.path().join("train/b/1.png")).status().unwrap().success());
    std::os::unix::fs::symlink("/dev/zero", folder.path().join("train/b/2.png")).unwrap();
    let expected = "2 of 6 pictures cannot be read: DIR/train/b/1.png: not a regular file; \
                    DIR/train/b/2.png: not a regular file; repair or delete them";
    assert_eq!(message(&folder), expected);
}
