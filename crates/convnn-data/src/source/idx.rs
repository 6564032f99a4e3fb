//! The idx files of MNIST and Fashion-MNIST, as published (`.gz`) or unpacked.
//!
//! Images of 28×28 gray pixels get a black border of two pixels, so that they have the size of CIFAR, and three equal
//! channels. Packed files are compared with their published MD5 sums; unpacked ones, of which none are published, are
//! checked for size, header and labels.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::directory::command;
use super::{checksum, file};
use crate::dataset::Dataset;
use crate::error::{Error, Result, download};
use crate::name::{DatasetName, Labels};
use crate::split::{CHANNELS, IMAGE, SIDE, Split};

/// Side of the published images.
const INNER: usize = 28;
/// Width of the border.
const BORDER: usize = (SIDE - INNER) / 2;

/// One part of a data set: the start of its file names, the number of images, and the MD5 sums of the packed images and
/// labels.
struct Part<'a> {
    start: &'a str,
    images: usize,
    md5: [&'a str; 2],
}

/// The training and the test part, with the published MD5 sums.
fn published(name: DatasetName) -> [Part<'static>; 2] {
    let sums = match name {
        DatasetName::FashionMnist => [
            ["8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe"],
            ["bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310"],
        ],
        _ => [
            ["f68b3c2dcbeaaa9fbdd348bbdeb94873", "d53e105ee54ea40749a09fcbcd1e9432"],
            ["9fb629c4189551a2d022fa330f9573f3", "ec29112dd5afa0611ce80d1b7f02629c"],
        ],
    };
    let [train, test] = sums;
    [Part { start: "train", images: 60_000, md5: train }, Part { start: "t10k", images: 10_000, md5: test }]
}

/// Reads a data set from its idx files.
pub(crate) fn open(name: DatasetName, path: &Path) -> Result<Dataset> {
    read(name, path, &published(name))
}

fn read(name: DatasetName, path: &Path, parts: &[Part; 2]) -> Result<Dataset> {
    let folder = locate(name, path)?;
    let [train, test] = parts.each_ref().map(|part| split(name, &folder, part));
    Ok(Dataset::new(name, train?, test?, format!("folder {}", folder.display())))
}

/// The folder with the files: `path` itself, or one inside it that we or torchvision name after the data set.
fn locate(name: DatasetName, path: &Path) -> Result<PathBuf> {
    if !path.try_exists().map_err(Error::io(path))? {
        return Err(Error::FolderMissing { folder: path.to_owned(), dataset: name, command: command(name, path) });
    }
    let torchvision = if name == DatasetName::Mnist { "MNIST/raw" } else { "FashionMNIST/raw" };
    let folders = [path.to_owned(), path.join(name.folder()), path.join(torchvision)];
    let holds_some = |folder: &PathBuf| FILES.iter().any(|(start, kind)| find(folder, start, kind).is_some());
    let folder = folders.into_iter().find(holds_some).ok_or_else(|| Error::FolderForeign {
        folder: path.to_owned(),
        dataset: name,
        first: "train-images-idx3-ubyte.gz".to_owned(),
        command: command(name, &path.join(name.folder())),
    })?;
    let is_missing = |(start, kind): &&(&str, &str)| find(&folder, start, kind).is_none();
    let missing: Vec<_> =
        FILES.iter().filter(is_missing).map(|(start, kind)| format!("{start}-{kind}-ubyte.gz")).collect();
    match missing.is_empty() {
        true => Ok(folder),
        false => {
            let command = command(name, &folder);
            Err(Error::FilesMissing { folder, dataset: name, missing, expected: FILES.len(), command })
        }
    }
}

/// Part and kind of every file.
const FILES: [(&str, &str); 4] =
    [("train", "images-idx3"), ("train", "labels-idx1"), ("t10k", "images-idx3"), ("t10k", "labels-idx1")];

/// The file of a part, packed or not; unpacking it by hand gives a dot in place of the second hyphen.
fn find(folder: &Path, start: &str, kind: &str) -> Option<PathBuf> {
    let dotted = kind.replace("-idx", ".idx");
    let names = [kind, &dotted].map(|kind| ["", ".gz"].map(|end| format!("{start}-{kind}-ubyte{end}")));
    names.concat().into_iter().map(|name| folder.join(name)).find(|file| file.exists())
}

fn split(name: DatasetName, folder: &Path, part: &Part) -> Result<Split> {
    let values = |kind: &str, shape: &[usize], md5: &str| {
        // `locate` has found them all.
        let gone = || Error::io(folder)(ErrorKind::NotFound.into());
        let path = find(folder, part.start, kind).ok_or_else(gone)?;
        let values = payload(name, &path, shape, md5)?;
        Ok::<_, Error>((path, values))
    };
    let (_, pixels) = values("images-idx3", &[part.images, INNER, INNER], part.md5[0])?;
    let (path, labels) = values("labels-idx1", &[part.images], part.md5[1])?;
    let classes = name.classes().unwrap_or_default();
    if let Some(record) = labels.iter().position(|&label| usize::from(label) >= classes) {
        return Err(Error::Label {
            file: path,
            record,
            kind: Labels::Fine,
            found: labels[record].into(),
            last: classes - 1,
            remedy: download("download it again", &command(name, folder)),
        });
    }
    let mut images = vec![0; part.images * IMAGE];
    for (image, pixels) in images.chunks_exact_mut(IMAGE).zip(pixels.chunks_exact(INNER * INNER)) {
        for channel in 0..CHANNELS {
            for (row, pixels) in pixels.chunks_exact(INNER).enumerate() {
                let start = (channel * SIDE + row + BORDER) * SIDE + BORDER;
                image[start..start + INNER].copy_from_slice(pixels);
            }
        }
    }
    Split::new(images, labels.into_iter().map(u16::from).collect(), None)
}

/// The values of an idx file of unsigned bytes, which must have this shape.
fn payload(name: DatasetName, path: &Path, shape: &[usize], md5: &str) -> Result<Vec<u8>> {
    let folder = path.parent().unwrap_or(path);
    let mut header = vec![0, 0, 8, shape.len() as u8];
    shape.iter().for_each(|&size| header.extend((size as u32).to_be_bytes()));
    let expected = header.len() + shape.iter().product::<usize>();
    let wrong_size = |found: usize| Error::FileSize {
        file: path.to_owned(),
        found: found as u64,
        expected: expected as u64,
        command: command(name, folder),
    };
    // No packed file is larger than its contents, give or take a header.
    let stored = file::read(path, expected as u64 + 1024)?;
    let stored = match stored {
        Some(stored) => stored,
        None => return Err(wrong_size(file::metadata(path)?.len() as usize)),
    };
    let packed = path.extension().is_some_and(|extension| extension == "gz");
    let mut bytes = Vec::new();
    if packed {
        let found = checksum::md5(&stored);
        if found != md5 {
            return Err(Error::Checksum {
                file: path.to_owned(),
                algorithm: "MD5",
                found: found.into(),
                expected: md5.into(),
                remedy: download("download it again", &command(name, folder)),
            });
        }
        let unpacking = MultiGzDecoder::new(&stored[..]).take(expected as u64 + 1).read_to_end(&mut bytes);
        unpacking.map_err(Error::io(path))?;
    } else {
        bytes = stored;
    }
    if bytes.len() != expected {
        return Err(wrong_size(bytes.len()));
    }
    let values = bytes.split_off(header.len());
    match bytes == header {
        true => Ok(values),
        false => Err(Error::Idx { file: path.to_owned(), found: bytes, expected: header }),
    }
}

#[cfg(test)]
mod tests;
