//! TensorBoard event files: TFRecord frames with masked CRC-32C around a few protobuf fields.
//!
//! The format is defined by TensorFlow's `record_writer.h` and `event.proto`. An event has the fields `wall_time` (1,
//! double), `step` (2, varint), `file_version` (3, string) and `summary` (5); a summary has `value`s (1) with `tag` (1)
//! and `simple_value` (2, float).

use crate::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An event file to which scalars are appended.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Starts a new file in `folder`. TensorBoard reads all files of a folder as one run.
    ///
    /// # Errors
    /// If the folder or the file cannot be written.
    pub fn create(folder: &Path, now: SystemTime) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let seconds = since_epoch(now).as_secs();
        let path = folder.join(format!("events.out.tfevents.{seconds:010}.convnn.{}", std::process::id()));
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io("create", &path))?;
        let mut events = Self { path, file };
        let mut event = wall_time(now);
        bytes_field(&mut event, 3, b"brain.Event:2");
        events.append(&event)?;
        Ok(events)
    }

    /// Appends the scalars of `step` as one event.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn scalars(&mut self, step: u64, now: SystemTime, scalars: &[(&str, f64)]) -> Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in scalars {
            let mut entry = Vec::new();
            bytes_field(&mut entry, 1, tag.as_bytes());
            entry.push(2 << 3 | 5);
            entry.extend((*value as f32).to_le_bytes());
            bytes_field(&mut summary, 1, &entry);
        }
        let mut event = wall_time(now);
        event.push(2 << 3);
        varint(&mut event, step);
        bytes_field(&mut event, 5, &summary);
        self.append(&event)
    }

    fn append(&mut self, event: &[u8]) -> Result<()> {
        self.file.write_all(&frame(event)).map_err(Error::io("write", &self.path))
    }
}

/// A TFRecord: the length, its checksum, the data, its checksum.
fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend(length);
    record.extend(masked(crc32c(&length)).to_le_bytes());
    record.extend(data);
    record.extend(masked(crc32c(data)).to_le_bytes());
    record
}

fn wall_time(now: SystemTime) -> Vec<u8> {
    let mut event = vec![1 << 3 | 1];
    event.extend(since_epoch(now).as_secs_f64().to_le_bytes());
    event
}

fn since_epoch(now: SystemTime) -> Duration {
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn bytes_field(message: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    message.push(field << 3 | 2);
    varint(message, bytes.len() as u64);
    message.extend(bytes);
}

fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

/// CRC-32C (Castagnoli), reflected. Bit by bit is fast enough for the few hundred bytes of an event.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

/// A checksum in the form in which TFRecord stores it beside the data.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_of_published_values() {
        // RFC 3720, B.4.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn bytes_are_those_that_tensorflow_writes() {
        let folder = tempfile::tempdir().unwrap();
        let now = UNIX_EPOCH + Duration::from_millis(1_500);
        let mut events = EventFile::create(folder.path(), now).unwrap();
        events.scalars(300, now, &[("a", 1.0)]).unwrap();
        let bytes = std::fs::read(&events.path).unwrap();
        let time = 1.5f64.to_le_bytes();
        let version = [&[0x09], &time[..], b"\x1a\x0dbrain.Event:2"].concat();
        let scalar = [&[0x09], &time[..], b"\x10\xac\x02\x2a\x0a\x0a\x08\x0a\x01a\x15", &1f32.to_le_bytes()].concat();
        assert_eq!(bytes, [frame(&version), frame(&scalar)].concat());
        assert_eq!(u64::from_le_bytes(bytes[..8].try_into().unwrap()), version.len() as u64);
    }
}
