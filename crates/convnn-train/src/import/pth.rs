//! PyTorch's `.pth` files: a zip of a pickle, which holds names and shapes, and one file of numbers per storage.

use super::names::printable;
use super::options::{Arguments, Value};
use super::pickle::{Id, Object, Pickle, REBUILD_PARAMETER, REBUILD_TENSOR};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use zip::{CompressionMethod, ZipArchive};

/// The largest pickle in bytes; that of ViT-Base with its optimizer has about 200 KB.
const PICKLE: u64 = 16 << 20;

/// How many times as large as the file its tensors may be: tied weights are stored once.
const SHARED: u64 = 4;

/// The largest number of tensors; that of ViT-Huge has about 500.
const TENSORS: usize = 20_000;

/// Keys under which checkpoints keep the state dictionary, beside an optimizer and the like.
const STATE_KEYS: [&str; 6] = ["state_dict", "model_state_dict", "model", "net", "weights", "model_ema"];

/// How deep in such keys the state dictionary may lie.
const DEPTH: usize = 3;

/// The key under which the arguments of the training command lie.
const ARGUMENTS: &str = "args";

/// What a `.pth` file holds.
pub(super) struct Contents {
    /// The state dictionary.
    pub tensors: BTreeMap<String, Tensor>,
    /// The arguments of the run that wrote it; empty if it holds none.
    pub arguments: Arguments,
}

/// Reads the state dictionary and the arguments; fails with one line.
pub(super) fn read(file: impl Read + Seek) -> Result<Contents, String> {
    let mut archive = Archive::open(file)?;
    let program = archive.entry("data.pkl", PICKLE)?;
    let pickle = Pickle::read(&program)?;
    let outermost =
        pickle.entries(pickle.root()).ok_or("the pickle holds no dictionary; expected a state dictionary")?;
    let arguments = outermost.iter().rfind(|(name, _)| *name == ARGUMENTS);
    let arguments = arguments.map(|&(_, id)| plain_values(&pickle, id)).unwrap_or_default();
    let entries = state_dictionary(&pickle, pickle.root(), DEPTH).ok_or_else(|| {
        let keys: Vec<_> = outermost.iter().take(10).map(|(key, _)| format!("`{}`", printable(key))).collect();
        let keys = if keys.is_empty() { "an empty dictionary".to_owned() } else { keys.join(", ") };
        format!(
            "the pickle holds no tensors by name, but {keys}; expected a state dictionary, alone or under one of {}",
            STATE_KEYS.join(", ")
        )
    })?;
    if entries.len() > TENSORS {
        return Err(format!("the pickle holds {} tensors; expected at most {TENSORS}", entries.len()));
    }
    // Each storage is read once, however many tensors it holds.
    let mut by_storage: BTreeMap<&str, Vec<(&str, Stored<'_>)>> = BTreeMap::new();
    for (name, id) in entries {
        let stored = stored(&pickle, id)
            .ok_or_else(|| format!("tensor `{}` is described in a way that PyTorch does not use", printable(name)))?;
        by_storage.entry(stored.storage).or_default().push((name, stored));
    }
    let mut tensors = BTreeMap::new();
    for (storage, members) in by_storage {
        let bytes = archive.storage(storage)?;
        for (name, stored) in members {
            let tensor = archive.tensor(&bytes, &stored);
            tensors
                .insert(name.to_owned(), tensor.map_err(|reason| format!("tensor `{}`: {reason}", printable(name)))?);
        }
    }
    Ok(Contents { tensors, arguments })
}

/// The tensors of the dictionary under one of the known keys, or else those of the dictionary itself.
///
/// The inner one comes first because tensors may lie beside it, such as the best accuracy.
fn state_dictionary<'a>(pickle: &Pickle<'a>, id: Id, depth: usize) -> Option<Vec<(&'a str, Id)>> {
    let entries = pickle.entries(id)?;
    let under = |key: &&str| {
        let (_, inner) = entries.iter().rfind(|(name, _)| name == key)?;
        state_dictionary(pickle, *inner, depth - 1)
    };
    if let Some(inner) = if depth > 0 { STATE_KEYS.iter().find_map(under) } else { None } {
        return Some(inner);
    }
    let is_tensor = |id| matches!(pickle.get(id), Object::Call { name: REBUILD_TENSOR | REBUILD_PARAMETER, .. });
    let tensors: BTreeMap<_, _> = entries.into_iter().filter(|&(_, value)| is_tensor(value)).collect();
    (!tensors.is_empty()).then(|| tensors.into_iter().collect())
}

/// The plain values of a namespace or dictionary.
fn plain_values(pickle: &Pickle<'_>, id: Id) -> Arguments {
    let value = |id| {
        Some(match pickle.get(id) {
            Object::Bool(value) => Value::from(*value),
            Object::Int(value) => Value::from(*value),
            Object::Float(value) => Value::from(*value),
            Object::Text(value) => Value::from(*value),
            _ => return None,
        })
    };
    let entries = pickle.entries(id).unwrap_or_default();
    entries.into_iter().filter_map(|(name, id)| Some((name.to_owned(), value(id)?))).collect()
}

/// Where the numbers of a tensor are.
struct Stored<'a> {
    storage: &'a str,
    numbers: Numbers,
    offset: usize,
    shape: Vec<usize>,
    stride: Vec<usize>,
}

/// The types of numbers that a storage may hold.
#[derive(Clone, Copy)]
enum Numbers {
    Float(DType),
    /// Integers of so many bytes: counters, which no model here reads.
    Integer(usize),
}

impl Numbers {
    fn of(storage: &str) -> Option<Self> {
        Some(match storage {
            "torch.FloatStorage" => Self::Float(DType::F32),
            "torch.DoubleStorage" => Self::Float(DType::F64),
            "torch.HalfStorage" => Self::Float(DType::F16),
            "torch.BFloat16Storage" => Self::Float(DType::BF16),
            "torch.LongStorage" => Self::Integer(8),
            "torch.IntStorage" => Self::Integer(4),
            "torch.ShortStorage" => Self::Integer(2),
            "torch.ByteStorage" | "torch.BoolStorage" => Self::Integer(1),
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            Self::Float(dtype) => dtype.size_in_bytes(),
            Self::Integer(bytes) => bytes,
        }
    }
}

/// Reads the arguments of PyTorch's functions that rebuild a tensor: storage, offset, shape, stride.
fn stored<'a>(pickle: &Pickle<'a>, id: Id) -> Option<Stored<'a>> {
    let Object::Call { name, arguments, .. } = pickle.get(id) else { return None };
    let arguments = pickle.tuple(*arguments)?;
    if *name == REBUILD_PARAMETER {
        // A parameter wraps a tensor, never another parameter.
        let inner = *arguments.first()?;
        let wraps = matches!(pickle.get(inner), Object::Call { name: REBUILD_TENSOR, .. });
        return if wraps { stored(pickle, inner) } else { None };
    }
    let [storage, offset, shape, stride, ..] = *arguments else { return None };
    let Object::Persistent(description) = pickle.get(storage) else { return None };
    let [_, class, key, ..] = *pickle.tuple(*description)? else { return None };
    let (Object::Name(class), Object::Text(key)) = (pickle.get(class), pickle.get(key)) else { return None };
    let size = |id: Id| match pickle.get(id) {
        Object::Int(value) => usize::try_from(*value).ok(),
        _ => None,
    };
    let sizes = |id: Id| pickle.tuple(id)?.iter().map(|&id| size(id)).collect::<Option<Vec<_>>>();
    Some(Stored {
        storage: key,
        numbers: Numbers::of(class)?,
        offset: size(offset)?,
        shape: sizes(shape)?,
        stride: sizes(stride)?,
    })
}

/// The zip, whose entries are stored without compression.
struct Archive<R> {
    zip: ZipArchive<R>,
    /// The folder in it that holds everything.
    folder: String,
    /// Bytes that may still be read: entries may overlap, and then hold more than the file.
    unread: u64,
    /// Bytes that tensors may still take.
    unmade: u64,
}

impl<R: Read + Seek> Archive<R> {
    fn open(mut file: R) -> Result<Self, String> {
        let length = file.seek(SeekFrom::End(0)).map_err(|error| error.to_string())?;
        let zip = ZipArchive::new(file).map_err(|error| format!("the zip cannot be read: {error}"))?;
        let names = zip.file_names().filter_map(|name| Some(name.ok()?.into_owned()));
        let pickles: Vec<_> = names.filter(|name| name == "data.pkl" || name.ends_with("/data.pkl")).collect();
        let [pickle] = &pickles[..] else {
            return Err(format!(
                "the zip holds {} files data.pkl; expected one, as torch.save writes it",
                pickles.len()
            ));
        };
        let folder = pickle.trim_end_matches("data.pkl").to_owned();
        let mut archive = Self { zip, folder, unread: length, unmade: SHARED.saturating_mul(length) };
        let order = archive.entry("byteorder", 16).unwrap_or_else(|_| b"little".to_vec());
        match order.as_slice() {
            b"little" => Ok(archive),
            _ => Err("the numbers are in big-endian order; expected little-endian".to_owned()),
        }
    }

    /// The bytes of an entry of at most `most` bytes.
    fn entry(&mut self, name: &str, most: u64) -> Result<Vec<u8>, String> {
        let name = format!("{}{name}", self.folder);
        let failed = |error: &dyn std::fmt::Display| {
            format!("`{}` in the zip cannot be read: {}", printable(&name), printable(&error.to_string()))
        };
        let mut entry = self.zip.by_name(&name).map_err(|error| failed(&error))?;
        if entry.size() > most {
            return Err(failed(&format!("it has {} bytes; expected at most {most}", entry.size())));
        }
        if entry.compression() != CompressionMethod::Stored {
            return Err(failed(&"it is compressed; expected it uncompressed, as torch.save writes it"));
        }
        let Some(unread) = self.unread.checked_sub(entry.size()) else {
            return Err(failed(&"the entries of the zip overlap"));
        };
        self.unread = unread;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|error| failed(&error))?;
        Ok(bytes)
    }

    fn storage(&mut self, key: &str) -> Result<Vec<u8>, String> {
        self.entry(&format!("data/{key}"), u64::MAX)
    }

    /// The tensor that `stored` describes, over the bytes of its storage.
    fn tensor(&mut self, bytes: &[u8], stored: &Stored<'_>) -> Result<Tensor, String> {
        let Stored { numbers, offset, shape, stride, .. } = stored;
        let width = numbers.bytes();
        let present = bytes.len() / width;
        let beyond = || format!("its shape {shape:?} reaches beyond the {present} numbers of its storage");
        // The number of values is compared too, because a stride may be 0.
        let count = shape.iter().try_fold(1usize, |count, &side| count.checked_mul(side));
        let count = count.filter(|&count| stride.len() == shape.len() && count <= present).ok_or_else(beyond)?;
        let last = shape
            .iter()
            .zip(stride)
            .try_fold(*offset, |last, (&side, &stride)| last.checked_add(side.saturating_sub(1).checked_mul(stride)?));
        if count > 0 && last.is_none_or(|last| last >= present) {
            return Err(beyond());
        }
        self.unmade = self
            .unmade
            .checked_sub((count * width) as u64)
            .ok_or_else(|| format!("with it the tensors are more than {SHARED} times as large as the file"))?;
        let tensor = match numbers {
            Numbers::Float(dtype) => {
                Tensor::from_raw_buffer(&gather(bytes, width, count, stored), *dtype, shape, &Device::Cpu)
            }
            // Only the name and the shape of a counter matter.
            Numbers::Integer(_) => {
                Tensor::zeros((), DType::I64, &Device::Cpu).and_then(|zero| zero.broadcast_as(shape.as_slice()))
            }
        };
        tensor.map_err(|error| error.to_string())
    }
}

/// The `count` values of a tensor in row-major order; every index must lie within `bytes`.
fn gather<'a>(bytes: &'a [u8], width: usize, count: usize, stored: &Stored<'_>) -> std::borrow::Cow<'a, [u8]> {
    let Stored { offset, shape, stride, .. } = stored;
    if count == 0 {
        return (&bytes[..0]).into();
    }
    let mut dense = 1;
    let contiguous = shape.iter().zip(stride).rev().all(|(&side, &stride)| {
        let fits = side == 1 || stride == dense;
        dense *= side;
        fits
    });
    if contiguous {
        return bytes[offset * width..][..count * width].into();
    }
    let mut values = Vec::with_capacity(count * width);
    for index in 0..count {
        let (mut rest, mut at) = (index, *offset);
        for (&side, &stride) in shape.iter().zip(stride).rev() {
            at += rest % side * stride;
            rest /= side;
        }
        values.extend_from_slice(&bytes[at * width..][..width]);
    }
    values.into()
}
