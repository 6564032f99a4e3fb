//! Safetensors files, written as a stream and with their SHA-256.
//!
//! The safetensors crate can only write from memory, or files that only their owner can read.

use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use convnn_models::files::{open_regular, read_regular};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes `tensors` as f32 to `path`, in the order of their names, and syncs the file; returns its SHA-256.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, tensors: &[(String, Tensor)]) -> Result<String> {
    let mut tensors: Vec<_> = tensors.iter().collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let failed = |error| Error::io("write", path)(error);
    let file = File::create(path).map_err(failed)?;
    let mut writer = HashingWriter { inner: BufWriter::with_capacity(1 << 20, file), hasher: Sha256::new() };
    writer.write_all(&header(&tensors)).map_err(failed)?;
    let mut bytes = Vec::new();
    for (_, tensor) in tensors {
        let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        bytes.clear();
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        writer.write_all(&bytes).map_err(failed)?;
    }
    let HashingWriter { inner, hasher } = writer;
    let file = inner.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    Ok(hex(&hasher.finalize()))
}

/// Reads the tensors of `path` after checking its SHA-256.
///
/// # Errors
/// [`Error::Damaged`] if the SHA-256 differs.
pub fn read_verified(path: &Path, sha256: &str) -> Result<BTreeMap<String, Tensor>> {
    let bytes = read_regular(path, u64::MAX).map_err(Error::io("read", path))?;
    compare(path, &Sha256::digest(&bytes), sha256)?;
    Ok(candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?.into_iter().collect())
}

/// Checks the SHA-256 of `path` without keeping the file in memory.
///
/// # Errors
/// [`Error::Damaged`] if the SHA-256 differs.
pub fn verify(path: &Path, sha256: &str) -> Result<()> {
    let failed = |error| Error::io("read", path)(error);
    let mut file = open_regular(path).map_err(failed)?;
    let mut writer = HashingWriter { inner: io::sink(), hasher: Sha256::new() };
    io::copy(&mut file, &mut writer).map_err(failed)?;
    compare(path, &writer.hasher.finalize(), sha256)
}

fn compare(path: &Path, digest: &[u8], expected: &str) -> Result<()> {
    let found = hex(digest);
    let wrong = || Error::Damaged {
        path: path.to_owned(),
        message: format!("the file has changed since it was written: its SHA-256 is {found}; expected {expected}"),
    };
    if found == expected { Ok(()) } else { Err(wrong()) }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The length of the header, and the header itself: JSON of names with dtype, shape and byte range, padded with spaces
/// to a multiple of 8.
fn header(tensors: &[&(String, Tensor)]) -> Vec<u8> {
    let mut entries = serde_json::Map::new();
    let mut start = 0;
    for (name, tensor) in tensors {
        let end = start + 4 * tensor.elem_count();
        let entry = serde_json::json!({ "dtype": "F32", "shape": tensor.dims(), "data_offsets": [start, end] });
        entries.insert(name.clone(), entry);
        start = end;
    }
    let mut text = serde_json::Value::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes(), text.as_slice()].concat()
}

struct HashingWriter<W> {
    inner: W,
    hasher: Sha256,
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_read_back_and_damage_is_detected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.safetensors");
        let tensor = |values: &[f32], shape: &[usize]| Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
        let tensors = [
            ("b".to_owned(), tensor(&[1.0, -2.5, 3.0, 0.1], &[2, 2])),
            ("a.weight".to_owned(), tensor(&[f32::MIN_POSITIVE], &[1])),
        ];
        let sha256 = write(&path, &tensors).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(safetensors::SafeTensors::deserialize(&bytes).unwrap().len(), 2);
        let back = read_verified(&path, &sha256).unwrap();
        for (name, tensor) in &tensors {
            assert_eq!(back[name].dims(), tensor.dims());
            let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(values(&back[name]), values(tensor));
        }
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1 << (position % 8);
            std::fs::write(&path, &damaged).unwrap();
            assert!(read_verified(&path, &sha256).is_err(), "byte {position}");
            assert!(verify(&path, &sha256).is_err(), "byte {position}");
            std::fs::write(&path, &bytes[..position]).unwrap();
            assert!(read_verified(&path, &sha256).is_err(), "{position} bytes");
        }
    }
}
