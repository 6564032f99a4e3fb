//! TensorBoard event files: TFRecord frames with masked CRC-32C around a few protobuf fields.
//!
//! The format is defined by TensorFlow's `record_writer.h` and `event.proto`. An event has the fields `wall_time` (1,
//! double), `step` (2, varint), `file_version` (3, string), `summary` (5) and `session_log` (7); a summary has `value`s
//! (1) with `tag` (1), `simple_value` (2, float) and `metadata` (9).
//!
//! The step of every scalar is the number of training steps of the whole run, those of an epoch too. A resumed run says
//! from which step on it continues, and TensorBoard drops what an earlier process wrote from there on.

mod hparams;
mod protobuf;

use crate::{Error, Result};
use protobuf::Message;
use serde_json::Value;
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
    /// Starts a new file in `folder` for a run that has done `steps` steps. TensorBoard reads all files of a folder as one
    /// run.
    ///
    /// # Errors
    /// If the folder or the file cannot be written.
    pub fn create(folder: &Path, now: SystemTime, steps: u64) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let has_earlier = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
        let seconds = since_epoch(now).as_secs();
        let path = folder.join(format!("events.out.tfevents.{seconds:010}.convnn.{}", std::process::id()));
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io("open", &path))?;
        let mut events = Self { path, file };
        let mut event = event(now);
        event.text(3, "brain.Event:2");
        events.append(&event)?;
        // A run that was killed before its first checkpoint starts again at step 0.
        if has_earlier {
            events.restart(steps, now)?;
        }
        Ok(events)
    }

    /// Appends the scalars of the moment after `step` steps as one event.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn scalars(&mut self, step: u64, now: SystemTime, scalars: &[(&str, f64)]) -> Result<()> {
        let mut summary = Message::new();
        for (tag, value) in scalars {
            summary.message(1, Message::new().text(1, tag).float(2, *value as f32));
        }
        self.append(event(now).number(2, step).message(5, &summary))
    }

    /// Appends the hyperparameters of the run `name`, and the tags of the scalars by which it is judged.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn hyperparameters(
        &mut self,
        now: SystemTime,
        name: &str,
        parameters: &[(String, Value)],
        metrics: &[&str],
    ) -> Result<()> {
        hparams::start(name, parameters, metrics, since_epoch(now).as_secs_f64())
            .into_iter()
            .try_for_each(|entry| self.metadata(now, entry))
    }

    /// Marks the run as finished.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn finish(&mut self, now: SystemTime) -> Result<()> {
        self.metadata(now, hparams::end(since_epoch(now).as_secs_f64()))
    }

    /// A session log with status START: points after `steps` steps will be written again.
    fn restart(&mut self, steps: u64, now: SystemTime) -> Result<()> {
        self.append(event(now).number(2, steps + 1).message(7, Message::new().number(1, 1)))
    }

    fn metadata(&mut self, now: SystemTime, (tag, metadata): (String, Message)) -> Result<()> {
        let mut summary = Message::new();
        summary.message(1, Message::new().text(1, &tag).message(9, &metadata));
        self.append(event(now).message(5, &summary))
    }

    fn append(&mut self, event: &Message) -> Result<()> {
        self.file.write_all(&frame(event.bytes())).map_err(Error::io("write", &self.path))
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

/// An event with its time.
fn event(now: SystemTime) -> Message {
    let mut event = Message::new();
    event.double(1, since_epoch(now).as_secs_f64());
    event
}

fn since_epoch(now: SystemTime) -> Duration {
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
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
        let mut events = EventFile::create(folder.path(), now, 0).unwrap();
        events.scalars(300, now, &[("a", 1.0)]).unwrap();
        let bytes = std::fs::read(&events.path).unwrap();
        let time = 1.5f64.to_le_bytes();
        let version = [&[0x09], &time[..], b"\x1a\x0dbrain.Event:2"].concat();
        let scalar = [&[0x09], &time[..], b"\x10\xac\x02\x2a\x0a\x0a\x08\x0a\x01a\x15", &1f32.to_le_bytes()].concat();
        assert_eq!(bytes, [frame(&version), frame(&scalar)].concat());
        assert_eq!(u64::from_le_bytes(bytes[..8].try_into().unwrap()), version.len() as u64);
    }

    #[test]
    fn a_resumed_run_says_where_it_continues() {
        // Killed before its first checkpoint, it starts again at step 0.
        for (steps, varint) in [(0, &b"\x01"[..]), (299, b"\xac\x02")] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("events.out.tfevents.0000000000.convnn.1"), b"").unwrap();
            let now = UNIX_EPOCH + Duration::from_millis(1_500);
            let events = EventFile::create(folder.path(), now, steps).unwrap();
            let bytes = std::fs::read(&events.path).unwrap();
            let time = 1.5f64.to_le_bytes();
            let start = [&[0x09], &time[..], b"\x10", varint, b"\x3a\x02\x08\x01"].concat();
            assert!(bytes.ends_with(&frame(&start)), "{bytes:x?}");
        }
    }
}
