#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;

const CIFAR: [DatasetName; 2] = [DatasetName::Cifar10, DatasetName::Cifar100];

/// Small files in the official layout, with their actual MD5 sums.
struct Fixture {
    folder: TempDir,
    name: DatasetName,
    /// File name, part, records and MD5 sum.
    files: Vec<(&'static str, Part, usize, String)>,
}

impl Fixture {
    fn new(name: DatasetName) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = published_files(name).iter().enumerate();
        let files = files
            .map(|(i, file)| {
                let bytes: Vec<u8> = (0..3).flat_map(|record| Self::record(name, i, record)).collect();
                fs::write(folder.path().join(file.name), &bytes).unwrap();
                (file.name, file.part, 3, checksum::md5(&bytes))
            })
            .collect();
        Self { folder, name, files }
    }

    /// A record whose labels and pixels identify the file and the record.
    fn record(name: DatasetName, file: usize, record: usize) -> Vec<u8> {
        let number = (10 * file + record) as u8;
        let labels = match name {
            DatasetName::Cifar100 => vec![number % 20, 50 + number],
            _ => vec![number % 10],
        };
        let pixels = (0..IMAGE).map(|i| (i % 251) as u8 ^ number);
        labels.into_iter().chain(pixels).collect()
    }

    fn path(&self, file: usize) -> PathBuf {
        self.folder.path().join(self.files[file].0)
    }

    /// Changes a file, but not the MD5 sum expected of it.
    fn edit(&self, file: usize, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.path(file)).unwrap();
        edit(&mut bytes);
        fs::write(self.path(file), bytes).unwrap();
    }

    fn read(&self, notes: Option<&Path>) -> Result<(Split, Split)> {
        let file =
            |(name, part, records, md5): &'_ (&'static str, Part, usize, String)| (*name, *part, *records, md5.clone());
        let owned: Vec<_> = self.files.iter().map(file).collect();
        let files: Vec<File> =
            owned.iter().map(|(name, part, records, md5)| File { name, part: *part, records: *records, md5 }).collect();
        let folder = locate(self.name, self.folder.path(), &files)?;
        read(self.name, &folder, &files, notes)
    }

    #[track_caller]
    fn message(&self) -> String {
        self.read(None).unwrap_err().to_string()
    }

    /// The end of every message about a damaged file.
    fn remedy(&self) -> String {
        format!("\ndownload it again with:\n  {}", self.name.download_command(self.folder.path()).unwrap())
    }
}

#[test]
fn records_become_images_and_labels_in_the_official_order() {
    let fixture = Fixture::new(DatasetName::Cifar10);
    let (train, test) = fixture.read(None).unwrap();
    assert_eq!((train.len(), test.len()), (15, 3));
    assert_eq!(train.labels(Labels::Fine).unwrap(), [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]);
    assert_eq!(train.labels(Labels::Coarse), None);
    // The second record of the fourth file, and the last of the test file.
    assert_eq!(train.image(10), &Fixture::record(DatasetName::Cifar10, 3, 1)[1..]);
    assert_eq!(test.image(2), &Fixture::record(DatasetName::Cifar10, 5, 2)[1..]);
}

#[test]
fn cifar_100_has_coarse_and_fine_labels() {
    let fixture = Fixture::new(DatasetName::Cifar100);
    let (train, test) = fixture.read(None).unwrap();
    assert_eq!(train.labels(Labels::Fine).unwrap(), [50, 51, 52]);
    assert_eq!(train.labels(Labels::Coarse).unwrap(), [0, 1, 2]);
    assert_eq!(test.labels(Labels::Fine).unwrap(), [60, 61, 62]);
    assert_eq!(test.image(0), &Fixture::record(DatasetName::Cifar100, 1, 0)[2..]);
}

#[test]
fn the_folder_of_the_archive_may_be_inside_the_one_that_is_named() {
    let fixture = Fixture::new(DatasetName::Cifar10);
    let inner = fixture.folder.path().join(fixture.name.folder());
    fs::create_dir(&inner).unwrap();
    for file in 0..6 {
        fs::rename(fixture.path(file), inner.join(fixture.files[file].0)).unwrap();
    }
    assert_eq!(fixture.read(None).unwrap().0.len(), 15);
}

#[test]
fn a_folder_that_does_not_exist() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("none/cifar-10-batches-bin");
    // The command is the same for the folder with the files and for the one around it.
    for path in [inner.as_path(), &folder.path().join("none")] {
        let error = open(DatasetName::Cifar10, path, None).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "data folder {}: not found\ndownload CIFAR-10 with:\n  mkdir -p '{1}' && curl -fL \
                 https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz | tar -xz --strip-components=1 -C '{1}'",
                path.display(),
                inner.display()
            )
        );
    }
}

#[test]
fn a_folder_without_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let error = open(DatasetName::Cifar100, folder.path(), None).unwrap_err();
    let message = error.to_string();
    let expected = "holds neither the files of CIFAR-100 (train.bin, …) nor a folder cifar-100-binary\ndownload them with:\n  mkdir";
    assert!(message.contains(expected), "{message}");
}

#[test]
fn a_folder_that_lacks_files() {
    let fixture = Fixture::new(DatasetName::Cifar10);
    fs::remove_file(fixture.path(1)).unwrap();
    fs::remove_file(fixture.path(5)).unwrap();
    let message = fixture.message();
    let expected =
        "incomplete, 2 of 6 files of CIFAR-10 missing (data_batch_2.bin, test_batch.bin)\ndownload them with:\n  mkdir";
    assert!(message.contains(expected), "{message}");
}

#[test]
fn a_truncated_file_and_one_that_is_too_long() {
    for change in [-1, 1] {
        let fixture = Fixture::new(DatasetName::Cifar10);
        fixture.edit(2, |bytes| bytes.resize(bytes.len().saturating_add_signed(change), 0));
        let file = fixture.path(2);
        assert_eq!(
            fixture.message(),
            format!(
                "{}: {} bytes found, 9219 expected{}",
                file.display(),
                9219_usize.saturating_add_signed(change),
                fixture.remedy()
            )
        );
    }
}

#[test]
fn a_wrong_checksum_in_any_file() {
    for name in CIFAR {
        for file in 0..published_files(name).len() {
            let fixture = Fixture::new(name);
            // The last pixel of the last image.
            fixture.edit(file, |bytes| *bytes.last_mut().unwrap() ^= 1);
            let found = checksum::md5(&fs::read(fixture.path(file)).unwrap());
            assert_eq!(
                fixture.message(),
                format!(
                    "{}: MD5 {found} found, {} expected; the file is damaged{}",
                    fixture.path(file).display(),
                    fixture.files[file].3,
                    fixture.remedy()
                )
            );
        }
    }
}

#[test]
fn a_label_out_of_range() {
    let fixture = Fixture::new(DatasetName::Cifar10);
    fixture.edit(3, |bytes| bytes[2 * (IMAGE + 1)] = 10);
    assert_eq!(
        fixture.message(),
        format!(
            "{}: record 2 has fine label 10, expected 0 to 9; the file is damaged{}",
            fixture.path(3).display(),
            fixture.remedy()
        )
    );
    for (byte, label, expected) in [
        (0, 20, "record 1 has coarse label 20, expected 0 to 19"),
        (1, 100, "record 1 has fine label 100, expected 0 to 99"),
    ] {
        let fixture = Fixture::new(DatasetName::Cifar100);
        fixture.edit(0, |bytes| bytes[IMAGE + 2 + byte] = label);
        let message = fixture.message();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_passed_checksum_is_remembered_until_the_file_changes() {
    let fixture = Fixture::new(DatasetName::Cifar10);
    let notes = fixture.folder.path().join("notes");
    fixture.read(Some(&notes)).unwrap();
    assert_eq!(fs::read_dir(&notes).unwrap().count(), 6);
    // With the same size and modification time the file counts as unchanged, and its sum is not computed.
    let changed = fs::metadata(fixture.path(0)).unwrap().modified().unwrap();
    fixture.edit(0, |bytes| bytes[1] ^= 1);
    let handle = fs::File::options().write(true).open(fixture.path(0)).unwrap();
    handle.set_modified(changed).unwrap();
    fixture.read(Some(&notes)).unwrap();
    // Without notes it is.
    assert!(matches!(fixture.read(None), Err(Error::Checksum { .. })));
    // So it is with notes, once the modification time differs.
    handle.set_modified(changed + std::time::Duration::from_secs(1)).unwrap();
    assert!(matches!(fixture.read(Some(&notes)), Err(Error::Checksum { .. })));
}

#[test]
fn a_failed_checksum_is_not_remembered() {
    let fixture = Fixture::new(DatasetName::Cifar100);
    let notes = fixture.folder.path().join("notes");
    fixture.edit(0, |bytes| bytes[2] ^= 1);
    for _ in 0..2 {
        assert!(matches!(fixture.read(Some(&notes)), Err(Error::Checksum { .. })));
    }
}

#[test]
fn notes_that_cannot_be_written_do_not_stop_the_reading() {
    let fixture = Fixture::new(DatasetName::Cifar10);
    // A file is in the place of the folder for notes.
    fixture.read(Some(&fixture.path(0))).unwrap();
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_pipes_devices_and_endless_files_are_refused_at_once() {
    let fixture = Fixture::new(DatasetName::Cifar10);
    let elsewhere = fixture.folder.path().join("elsewhere");
    fs::rename(fixture.path(1), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, fixture.path(1)).unwrap();
    assert_eq!(fixture.read(None).unwrap().0.len(), 15);

    let refused = |make: &dyn Fn(&Path)| {
        fs::remove_file(fixture.path(1)).unwrap();
        make(&fixture.path(1));
        fixture.message().replace(&fixture.path(1).display().to_string(), "FILE")
    };
    let pipe = |path: &Path| assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    assert_eq!(refused(&pipe), "FILE: not a regular file");
    let device = |path: &Path| std::os::unix::fs::symlink("/dev/zero", path).unwrap();
    assert_eq!(refused(&device), "FILE: not a regular file");
    let sparse = |path: &Path| fs::File::create(path).unwrap().set_len(1 << 40).unwrap();
    assert!(refused(&sparse).starts_with("FILE: 1099511627776 bytes found, 9219 expected\n"));
    let lonely = |path: &Path| std::os::unix::fs::symlink("nowhere", path).unwrap();
    assert!(refused(&lonely).contains("1 of 6 files of CIFAR-10 missing (data_batch_2.bin)"));
}

/// The top left pixels of the first test image, a cat, as printed in many tutorials: the image is neither transposed
/// nor flipped, and its channels are red, green, blue.
#[test]
fn the_first_test_image_stands_upright() {
    let fixture = Fixture::new(DatasetName::Cifar10);
    let cat = include_bytes!("../../../tests/golden/first_test_image.bin");
    let mut files = fixture.files.clone();
    let record = [&[3], &cat[..]].concat();
    files[5] = ("test_batch.bin", Part::Test, 1, checksum::md5(&record));
    fs::write(fixture.path(5), record).unwrap();
    let fixture = Fixture { files, ..fixture };
    let (_, test) = fixture.read(None).unwrap();
    let tensor = test.image_tensor().unwrap().get(0).unwrap();
    let pixel = |row: usize, column: usize| {
        let pixel = tensor.narrow(1, row, 1).unwrap().narrow(2, column, 1).unwrap();
        let pixel = pixel.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        pixel.into_iter().map(|share| (255. * share).round()).collect::<Vec<_>>()
    };
    assert_eq!(pixel(0, 0), [158., 112., 49.]);
    assert_eq!(pixel(0, 1), [159., 111., 47.], "to the right");
    assert_eq!(pixel(1, 0), [152., 112., 51.], "below");
    assert_eq!(test, Dataset::sample().test.first(1));
}

/// The public functions compare with the published sums.
#[test]
fn files_of_the_right_size_with_other_contents_are_refused_by_their_published_sums() {
    let folder = tempfile::tempdir().unwrap();
    for file in published_files(DatasetName::Cifar10) {
        let size = file.records * record_size(DatasetName::Cifar10);
        let handle = fs::File::create(folder.path().join(file.name)).unwrap();
        handle.set_len(size as u64).unwrap();
    }
    let error = open(DatasetName::Cifar10, folder.path(), None).unwrap_err();
    let Error::Checksum { file, expected, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(file, folder.path().join("data_batch_1.bin"));
    assert_eq!(&*expected, "5dd7e06a14cb22eb9f671a540d1b7c25");

    fs::write(folder.path().join("data_batch_4.bin"), b"").unwrap();
    let verdicts = verify(DatasetName::Cifar10, folder.path()).unwrap();
    let sizes = verdicts.iter().map(|(_, verdict)| matches!(verdict, Err(Error::FileSize { .. })));
    assert_eq!(sizes.collect::<Vec<_>>(), [false, false, false, true, false, false]);
    let sums = verdicts.iter().filter(|(_, verdict)| matches!(verdict, Err(Error::Checksum { .. })));
    assert_eq!(sums.count(), 5, "every file gets its own verdict");
}

/// Agreement with candle-datasets, whose reader needs files of full size.
#[cfg(feature = "candle-datasets")]
#[test]
fn the_reader_agrees_with_the_one_of_candle_datasets() {
    let folder = tempfile::tempdir().unwrap();
    let sample = Dataset::sample();
    // Ten thousand records of images of the sample, in a different order in each file.
    let files: Vec<(&str, Part, String)> = published_files(DatasetName::Cifar10)
        .iter()
        .zip([1, 3, 5, 7, 9, 11])
        .map(|(file, step)| {
            let labels = sample.train.labels(Labels::Fine).unwrap();
            let mut bytes = Vec::with_capacity(10_000 * (IMAGE + 1));
            for record in 0..10_000 {
                let index = record * step % sample.train.len();
                bytes.push(labels[index] as u8);
                bytes.extend_from_slice(sample.train.image(index));
            }
            fs::write(folder.path().join(file.name), &bytes).unwrap();
            (file.name, file.part, checksum::md5(&bytes))
        })
        .collect();
    let files: Vec<File> =
        files.iter().map(|(name, part, md5)| File { name, part: *part, records: 10_000, md5 }).collect();
    let (train, test) = read(DatasetName::Cifar10, folder.path(), &files, None).unwrap();
    let theirs = candle_datasets::vision::cifar::load_dir(folder.path()).unwrap();
    for (ours, images, labels) in
        [(&train, &theirs.train_images, &theirs.train_labels), (&test, &theirs.test_images, &theirs.test_labels)]
    {
        let theirs: Vec<u16> = labels.to_vec1::<u8>().unwrap().into_iter().map(u16::from).collect();
        assert_eq!(ours.labels(Labels::Fine).unwrap(), theirs);
        assert_eq!(images.dims(), [ours.len(), 3, 32, 32]);
        // One file at a time, since all images as floats are large.
        for first in (0..ours.len()).step_by(10_000) {
            let theirs = images.narrow(0, first, 10_000).unwrap();
            let theirs = theirs.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let ours = &ours.images()[first * IMAGE..(first + 10_000) * IMAGE];
            let equal = ours.iter().zip(&theirs).all(|(&ours, &theirs)| (f32::from(ours) - 255. * theirs).abs() < 1e-3);
            assert!(equal && theirs.len() == ours.len(), "images {first} to {}", first + 10_000);
        }
    }
}
