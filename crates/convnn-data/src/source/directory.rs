//! The official binary files of CIFAR, each checked.
//!
//! A record is the label (CIFAR-10) or the coarse and the fine label (CIFAR-100), one byte each, followed by 3,072
//! bytes: the red, green and blue planes of 32×32 pixels, row by row from the top left, that is (3, 32, 32) row-major.

use std::path::{Path, PathBuf};

use super::checksum::{self, Note};
use super::file;
use crate::dataset::Dataset;
use crate::error::{Error, Result, download};
use crate::name::{DatasetName, Labels};
use crate::split::{IMAGE, Split};

/// Reads a data set from its official files, and checks sizes, labels and MD5 sums.
pub(crate) fn open(name: DatasetName, path: &Path, notes: Option<&Path>) -> Result<Dataset> {
    let files = published_files(name);
    let folder = locate(name, path, files)?;
    let (train, test) = read(name, &folder, files, notes)?;
    let origin = format!("folder {}", folder.display());
    Ok(Dataset::new(name, train, test, origin))
}

/// Checks size, labels and MD5 sum of every official file of CIFAR, without relying on notes.
///
/// Returns every file with its result, in the official order; nothing for the other data sets.
///
/// # Errors
/// If `path` is not a folder with all the files.
pub fn verify(name: DatasetName, path: &Path) -> Result<Vec<(PathBuf, Result<()>)>> {
    let files = published_files(name);
    let folder = locate(name, path, files)?;
    let verdict = |file: &File| {
        let path = folder.join(file.name);
        let verdict = read_checked(name, &path, file, None).map(|_| ());
        (path, verdict)
    };
    Ok(files.iter().map(verdict).collect())
}

/// One official file.
struct File<'a> {
    name: &'a str,
    part: Part,
    records: usize,
    md5: &'a str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Train,
    Test,
}

/// The files, with the MD5 sums published by the authors of the data sets.
fn published_files(name: DatasetName) -> &'static [File<'static>] {
    const fn file(name: &'static str, part: Part, records: usize, md5: &'static str) -> File<'static> {
        File { name, part, records, md5 }
    }
    use Part::{Test, Train};
    const CIFAR10: [File<'static>; 6] = [
        file("data_batch_1.bin", Train, 10_000, "5dd7e06a14cb22eb9f671a540d1b7c25"),
        file("data_batch_2.bin", Train, 10_000, "5ea93a67294ea407fff1d09f752e9692"),
        file("data_batch_3.bin", Train, 10_000, "942cd6a4bcdd0dd3c604fbe906cb4421"),
        file("data_batch_4.bin", Train, 10_000, "ae636b3ba5c66a11e91e8cb52e771fcb"),
        file("data_batch_5.bin", Train, 10_000, "53f37980c15c3d472c316c40844f3f0d"),
        file("test_batch.bin", Test, 10_000, "803d5f7f4d78ea53de84dbe85f74fb6d"),
    ];
    const CIFAR100: [File<'static>; 2] = [
        file("train.bin", Train, 50_000, "6172c7755cfe09b2fe270c85cebc1b15"),
        file("test.bin", Test, 10_000, "4499cfba6c016c1be1438163640a0898"),
    ];
    match name {
        DatasetName::Cifar10 => &CIFAR10,
        DatasetName::Cifar100 => &CIFAR100,
        DatasetName::Mnist | DatasetName::FashionMnist | DatasetName::Folder => &[],
    }
}

/// The label bytes at the start of a record, in order.
fn record_labels(name: DatasetName) -> &'static [Labels] {
    match name {
        DatasetName::Cifar100 => &[Labels::Coarse, Labels::Fine],
        _ => &[Labels::Fine],
    }
}

/// The folder with all the files: `path` itself, or the archive's folder inside it.
fn locate(name: DatasetName, path: &Path, files: &[File]) -> Result<PathBuf> {
    let inner = path.join(name.folder());
    let download = || command(name, if path.ends_with(name.folder()) { path } else { &inner });
    if !path.try_exists().map_err(Error::io(path))? {
        return Err(Error::FolderMissing { folder: path.to_owned(), dataset: name, command: download() });
    }
    let holds_some = |folder: &Path| files.iter().any(|file| folder.join(file.name).exists());
    let Some(folder) = [path, &inner].into_iter().find(|folder| holds_some(folder)) else {
        return Err(Error::FolderForeign {
            folder: path.to_owned(),
            dataset: name,
            first: files.first().map(|file| file.name.to_owned()).unwrap_or_default(),
            command: download(),
        });
    };
    let missing: Vec<String> =
        files.iter().filter(|file| !folder.join(file.name).exists()).map(|file| file.name.to_owned()).collect();
    if !missing.is_empty() {
        return Err(Error::FilesMissing {
            folder: folder.to_owned(),
            dataset: name,
            missing,
            expected: files.len(),
            command: command(name, folder),
        });
    }
    Ok(folder.to_owned())
}

/// The command that downloads the files into `folder`.
pub(super) fn command(name: DatasetName, folder: &Path) -> String {
    name.download_command(folder).unwrap_or_default()
}

/// Reads all files of `folder` into a training and a test split.
fn read(name: DatasetName, folder: &Path, files: &[File], notes: Option<&Path>) -> Result<(Split, Split)> {
    let part = |part: Part| {
        let files = files.iter().filter(|file| file.part == part);
        let mut records = Records::new(name, files.clone().map(|file| file.records).sum());
        for file in files {
            records.append(&read_checked(name, &folder.join(file.name), file, notes)?);
        }
        records.split()
    };
    Ok((part(Part::Train)?, part(Part::Test)?))
}

/// Reads `bytes`, records in the format of the official files, after checking their labels; bytes after the last whole
/// record are ignored. `file` is for the error.
///
/// # Errors
/// [`Error::Label`] for the first label that is out of range.
pub fn parse_records(name: DatasetName, file: &Path, bytes: &[u8]) -> Result<Split> {
    check_labels(name, file, bytes, || "; replace it".to_owned())?;
    let mut records = Records::new(name, bytes.len() / record_size(name));
    records.append(bytes);
    records.split()
}

/// The images and labels of records.
struct Records {
    name: DatasetName,
    images: Vec<u8>,
    labels: Vec<Vec<u16>>,
}

impl Records {
    fn new(name: DatasetName, records: usize) -> Self {
        let labels = vec![Vec::with_capacity(records); record_labels(name).len()];
        Self { name, images: Vec::with_capacity(records * IMAGE), labels }
    }

    fn append(&mut self, bytes: &[u8]) {
        for record in bytes.chunks_exact(record_size(self.name)) {
            let (record_labels, image) = record.split_at(self.labels.len());
            self.images.extend_from_slice(image);
            for (labels, &label) in self.labels.iter_mut().zip(record_labels) {
                labels.push(u16::from(label));
            }
        }
    }

    fn split(mut self) -> Result<Split> {
        // The fine label is the last of a record.
        let fine = self.labels.pop().unwrap_or_default();
        Split::new(self.images, fine, self.labels.pop())
    }
}

fn record_size(name: DatasetName) -> usize {
    record_labels(name).len() + IMAGE
}

/// The bytes of a file after checking its size, labels and MD5 sum.
///
/// Labels are checked first because their error says more.
fn read_checked(name: DatasetName, path: &Path, file: &File, notes: Option<&Path>) -> Result<Vec<u8>> {
    let command = || command(name, path.parent().unwrap_or(path));
    let remedy = || download("download it again", &command());
    let metadata = file::metadata(path)?;
    let expected = (file.records * record_size(name)) as u64;
    let wrong_size = |found: u64| Error::FileSize { file: path.to_owned(), found, expected, command: command() };
    if metadata.len() != expected {
        return Err(wrong_size(metadata.len()));
    }
    // The file may have changed since its size was read.
    let bytes = file::read(path, expected)?.ok_or_else(|| wrong_size(expected + 1))?;
    if bytes.len() as u64 != expected {
        return Err(wrong_size(bytes.len() as u64));
    }
    check_labels(name, path, &bytes, remedy)?;
    let note = notes.and_then(|notes| Note::new(notes, path, &metadata, file.md5));
    if note.as_ref().is_some_and(Note::exists) {
        return Ok(bytes);
    }
    let found = checksum::md5(&bytes);
    if found != file.md5 {
        return Err(Error::Checksum {
            file: path.to_owned(),
            algorithm: "MD5",
            found: found.into(),
            expected: file.md5.into(),
            remedy: remedy(),
        });
    }
    if let Some(note) = note {
        note.write();
    }
    Ok(bytes)
}

/// Checks that every label has a class.
fn check_labels(name: DatasetName, path: &Path, bytes: &[u8], remedy: impl Fn() -> String) -> Result<()> {
    for (record, labels) in bytes.chunks_exact(record_size(name)).enumerate() {
        for (&found, &kind) in labels.iter().zip(record_labels(name)) {
            let classes = name.class_names(kind).map_or(0, <[_]>::len);
            if usize::from(found) >= classes {
                return Err(Error::Label {
                    file: path.to_owned(),
                    record,
                    kind,
                    found: found.into(),
                    last: classes.saturating_sub(1),
                    remedy: remedy(),
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
