#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use super::*;

/// Three training images and two test images, packed, with their MD5 sums.
struct Fixture {
    folder: TempDir,
    sums: [[String; 2]; 2],
}

fn idx(shape: &[u32], values: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, shape.len() as u8];
    shape.iter().for_each(|size| file.extend(size.to_be_bytes()));
    [file, values.to_vec()].concat()
}

fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The pixels of an image, which identify it; none is 0.
fn pixels(number: usize) -> Vec<u8> {
    (0..INNER * INNER).map(|i| (i % 250 + number + 1) as u8).collect()
}

const IMAGES: [usize; 2] = [3, 2];
const STARTS: [&str; 2] = ["train", "t10k"];

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sums = [0, 1].map(|part| {
            let n = IMAGES[part];
            let images = (0..n).flat_map(|i| pixels(10 * part + i)).collect::<Vec<u8>>();
            let labels: Vec<u8> = (0..n).map(|i| (9 - 3 * part - i) as u8).collect();
            let files = [idx(&[n as u32, 28, 28], &images), idx(&[n as u32], &labels)];
            [0, 1].map(|kind| {
                let packed = pack(&files[kind]);
                fs::write(folder.path().join(Self::name(part, kind, ".gz")), &packed).unwrap();
                checksum::md5(&packed)
            })
        });
        Self { folder, sums }
    }

    fn name(part: usize, kind: usize, end: &str) -> String {
        format!("{}-{}-ubyte{end}", STARTS[part], ["images-idx3", "labels-idx1"][kind])
    }

    fn path(&self, part: usize, kind: usize) -> PathBuf {
        self.folder.path().join(Self::name(part, kind, ".gz"))
    }

    /// Replaces a packed file by an unpacked one with this edit.
    fn unpack(&self, part: usize, kind: usize, edit: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
        let mut bytes = Vec::new();
        let packed = fs::read(self.path(part, kind)).unwrap();
        MultiGzDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
        edit(&mut bytes);
        fs::remove_file(self.path(part, kind)).unwrap();
        let path = self.folder.path().join(Self::name(part, kind, ""));
        fs::write(&path, bytes).unwrap();
        path
    }

    fn read(&self) -> Result<Dataset> {
        let part = |part: usize| Part {
            start: STARTS[part],
            images: IMAGES[part],
            md5: self.sums[part].each_ref().map(String::as_str),
        };
        read(DatasetName::Mnist, self.folder.path(), &[part(0), part(1)])
    }

    #[track_caller]
    fn message(&self) -> String {
        self.read().unwrap_err().to_string()
    }
}

#[test]
fn images_get_a_border_and_three_channels() {
    let data = Fixture::new().read().unwrap();
    assert_eq!(data.train.labels(Labels::Fine), Some(&[9, 8, 7][..]));
    assert_eq!(data.test.labels(Labels::Fine), Some(&[6, 5][..]));
    assert_eq!((data.classes.len(), &*data.classes[7]), (10, "7"));
    let original = pixels(11);
    for (i, &pixel) in data.test.image(1).iter().enumerate() {
        let (row, column) = (i / SIDE % SIDE, i % SIDE);
        let inside = (2..30).contains(&row) && (2..30).contains(&column);
        let expected = if inside { original[(row - 2) * INNER + column - 2] } else { 0 };
        assert_eq!(pixel, expected, "element {i}");
    }
}

#[test]
fn unpacked_files_and_inner_folders_are_read_too() {
    let fixture = Fixture::new();
    let packed = fixture.read().unwrap();
    fixture.unpack(0, 0, |_| {});
    let dotted = fixture.folder.path().join("t10k-labels.idx1-ubyte");
    fs::rename(fixture.unpack(1, 1, |_| {}), dotted).unwrap();
    let unpacked = fixture.read().unwrap();
    assert_eq!((packed.train, packed.test), (unpacked.train, unpacked.test));
    let inner = fixture.folder.path().join("MNIST/raw");
    fs::create_dir_all(&inner).unwrap();
    for entry in fs::read_dir(fixture.folder.path()).unwrap().map(|entry| entry.unwrap()) {
        if entry.path().is_file() {
            fs::rename(entry.path(), inner.join(entry.file_name())).unwrap();
        }
    }
    assert_eq!(fixture.read().unwrap().train.len(), 3);
}

#[test]
fn damaged_files_are_refused() {
    let fixture = Fixture::new();
    let mut packed = fs::read(fixture.path(0, 0)).unwrap();
    *packed.last_mut().unwrap() ^= 1;
    fs::write(fixture.path(0, 0), packed).unwrap();
    assert!(fixture.message().contains("train-images-idx3-ubyte.gz: MD5 "), "{}", fixture.message());

    for change in [-1, 1] {
        let fixture = Fixture::new();
        fixture.unpack(1, 0, |bytes| bytes.resize(bytes.len().saturating_add_signed(change), 0));
        let found = 16 + 2 * 784 + change;
        let expected = format!("t10k-images-idx3-ubyte: {found} bytes found, 1584 expected\ndownload it again with:\n");
        assert!(fixture.message().contains(&expected), "{}", fixture.message());
    }

    let fixture = Fixture::new();
    fixture.unpack(0, 1, |bytes| bytes[9] = 10);
    let expected = "train-labels-idx1-ubyte: record 1 has fine label 10, expected 0 to 9; the file is damaged";
    assert!(fixture.message().contains(expected), "{}", fixture.message());

    let fixture = Fixture::new();
    fixture.unpack(0, 0, |bytes| bytes[2] = 13);
    let expected =
        "train-images-idx3-ubyte: header 00 00 0d 03 00 00 00 03 00 00 00 1c 00 00 00 1c, expected 00 00 08 03 ";
    assert!(fixture.message().contains(expected), "{}", fixture.message());

    let fixture = Fixture::new();
    fs::remove_file(fixture.path(0, 1)).unwrap();
    assert!(fixture.message().contains("1 of 4 files of MNIST missing (train-labels-idx1-ubyte.gz)"));
    fs::remove_file(fixture.path(1, 0)).unwrap();
    let expected = "2 of 4 files of MNIST missing (train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz)";
    assert!(fixture.message().contains(expected), "{}", fixture.message());
    [fixture.path(0, 0), fixture.path(1, 1)].into_iter().for_each(|path| fs::remove_file(path).unwrap());
    assert!(fixture.message().contains("holds neither the files of MNIST (train-images-idx3-ubyte.gz, …)"));
}

/// A few megabytes that unpack to a quarter of a gigabyte are not even read, and what is read is cut off right after the
/// expected size.
#[test]
fn a_bomb_is_not_unpacked() {
    let mut fixture = Fixture::new();
    let mut bomb = pack(&idx(&[2], &[1, 2]));
    let member = pack(&vec![0; 1 << 20]);
    (0..256).for_each(|_| bomb.extend(&member));
    // How small depends on the compressor that flate2 is built with.
    assert!(bomb.len() < 16 << 20);
    fixture.sums[1][1] = checksum::md5(&bomb);
    fs::write(fixture.path(1, 1), &bomb).unwrap();
    let expected = "-ubyte.gz: ";
    assert!(fixture.message().contains(expected) && fixture.message().contains("10 expected"), "{}", fixture.message());
    // One that is small enough to be read is unpacked to one byte too many.
    let bomb = pack(&[0; 1 << 16]);
    fixture.sums[1][1] = checksum::md5(&bomb);
    fs::write(fixture.path(1, 1), &bomb).unwrap();
    assert!(fixture.message().contains("-ubyte.gz: 11 bytes found, 10 expected"), "{}", fixture.message());
}

#[cfg(unix)]
#[test]
fn a_pipe_in_place_of_a_file_is_refused_at_once() {
    let fixture = Fixture::new();
    fs::remove_file(fixture.path(0, 0)).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(fixture.path(0, 0)).status().unwrap().success());
    assert!(fixture.message().ends_with("train-images-idx3-ubyte.gz: not a regular file"), "{}", fixture.message());
}

#[test]
fn the_published_sums_are_compared() {
    let fixture = Fixture::new();
    let error = open(DatasetName::FashionMnist, fixture.folder.path()).unwrap_err();
    assert!(matches!(error, Error::Checksum { ref expected, .. } if expected.starts_with("8d4fb7e6")), "{error}");
}
