//! PyTorch's `.pth` files: a zip of a pickle, which tells names and shapes, and a file of numbers for each storage.

use super::guard;
use candle_core::pickle::{Object, Stack};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use zip::{CompressionMethod, ZipArchive};

/// The largest pickle; that of a checkpoint of ViT-Base with its optimizer has some 200 KB.
const PICKLE: u64 = 64 << 20;

/// How many times as large as the file its tensors may be: tied weights are stored once.
const SHARED: u64 = 4;

/// Keys under which checkpoints keep the state dictionary, beside an optimizer and the like.
const STATE_KEYS: [&str; 6] = ["state_dict", "model_state_dict", "model", "net", "weights", "model_ema"];

/// Every tensor of the state dictionary in a `.pth` file, by name.
///
/// # Errors
/// One line; where the pickle names anything but tensors, that name.
pub(super) fn read(file: impl Read + Seek) -> Result<BTreeMap<String, Tensor>, String> {
    let mut archive = Archive::open(file)?;
    let program = archive.entry("data.pkl", PICKLE)?;
    guard::check(&program)?;
    let mut stack = Stack::empty();
    stack.read_loop(&mut program.as_slice()).map_err(|error| format!("the pickle cannot be read: {error}"))?;
    let object = stack.finalize().map_err(|error| format!("the pickle cannot be read: {error}"))?;
    let mut tensors = BTreeMap::new();
    for (name, value) in state_dictionary(object)? {
        let tensor = stored(value).and_then(|stored| archive.tensor(stored));
        tensors.insert(name.clone(), tensor.map_err(|reason| format!("tensor `{name}`: {reason}"))?);
    }
    Ok(tensors)
}

/// The dictionary of tensors: the object itself, or what it holds under a key for it.
fn state_dictionary(object: Object) -> Result<Vec<(String, Object)>, String> {
    let entries = entries(object)?;
    if entries.iter().any(|(_, value)| is_tensor(value)) {
        return Ok(entries.into_iter().filter(|(_, value)| is_tensor(value)).collect());
    }
    let keys: Vec<_> = entries.iter().map(|(key, _)| format!("`{key}`")).collect();
    // The second mention of a dictionary is an empty one in Candle's reader.
    let holds = |value: &Object| matches!(value, Object::Dict(inner) if !inner.is_empty());
    let at = |key: &&str| entries.iter().position(|(name, value)| name == key && holds(value));
    match STATE_KEYS.iter().find_map(at).and_then(|at| entries.into_iter().nth(at)) {
        Some((_, inner)) => state_dictionary(inner),
        None => Err(format!(
            "the pickle holds no tensors by name, but {}; expected a state dictionary, alone or under one of {}",
            if keys.is_empty() { "an empty dictionary".to_owned() } else { keys.join(", ") },
            STATE_KEYS.join(", ")
        )),
    }
}

/// The entries of a dictionary whose keys are names.
fn entries(object: Object) -> Result<Vec<(String, Object)>, String> {
    let Object::Dict(entries) = object else {
        return Err("the pickle holds no dictionary; expected a state dictionary".to_owned());
    };
    Ok(entries.into_iter().filter_map(|(key, value)| Some((key.unicode().ok()?, value))).collect())
}

fn is_tensor(object: &Object) -> bool {
    matches!(object, Object::Reduce { callable, .. } if is_named(callable, "_rebuild_tensor_v2") || is_named(callable, "_rebuild_parameter"))
}

fn is_named(object: &Object, name: &str) -> bool {
    matches!(object, Object::Class { class_name, .. } if class_name == name)
}

/// Where the numbers of a tensor are.
struct Stored {
    storage: String,
    dtype: Numbers,
    offset: usize,
    shape: Vec<usize>,
    stride: Vec<usize>,
}

/// The types of numbers that a storage may hold.
#[derive(Clone, Copy)]
enum Numbers {
    Float(DType),
    /// Whole numbers of so many bytes: counters, which no model here takes.
    Whole(usize),
}

impl Numbers {
    fn named(storage: &str) -> Option<Self> {
        Some(match storage {
            "FloatStorage" => Self::Float(DType::F32),
            "DoubleStorage" => Self::Float(DType::F64),
            "HalfStorage" => Self::Float(DType::F16),
            "BFloat16Storage" => Self::Float(DType::BF16),
            "LongStorage" => Self::Whole(8),
            "IntStorage" => Self::Whole(4),
            "ShortStorage" => Self::Whole(2),
            "ByteStorage" | "BoolStorage" => Self::Whole(1),
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            Self::Float(dtype) => dtype.size_in_bytes(),
            Self::Whole(bytes) => bytes,
        }
    }
}

/// What the arguments of PyTorch's functions that rebuild a tensor tell: storage, offset, shape, stride.
fn stored(object: Object) -> Result<Stored, String> {
    let odd = || "the pickle describes it in a way that PyTorch does not".to_owned();
    let Object::Reduce { callable, args } = object else { return Err(odd()) };
    let Object::Tuple(arguments) = *args else { return Err(odd()) };
    let mut arguments = arguments.into_iter();
    if is_named(&callable, "_rebuild_parameter") {
        let inner = arguments.next().ok_or_else(odd)?;
        // A parameter wraps a tensor and nothing else, so that this ends.
        return match &inner {
            Object::Reduce { callable, .. } if is_named(callable, "_rebuild_tensor_v2") => stored(inner),
            _ => Err(odd()),
        };
    }
    let (Some(Object::PersistentLoad(storage)), Some(offset), Some(shape), Some(stride)) =
        (arguments.next(), arguments.next(), arguments.next(), arguments.next())
    else {
        return Err(odd());
    };
    let Object::Tuple(storage) = *storage else { return Err(odd()) };
    let [_, Object::Class { class_name, .. }, Object::Unicode(key), ..] = &storage[..] else { return Err(odd()) };
    Ok(Stored {
        storage: key.clone(),
        dtype: Numbers::named(class_name).ok_or_else(odd)?,
        offset: size(offset).ok_or_else(odd)?,
        shape: sizes(shape).ok_or_else(odd)?,
        stride: sizes(stride).ok_or_else(odd)?,
    })
}

fn size(object: Object) -> Option<usize> {
    usize::try_from(object.int_or_long().ok()?).ok()
}

fn sizes(object: Object) -> Option<Vec<usize>> {
    object.tuple().ok()?.into_iter().map(size).collect()
}

/// The zip, whose entries are stored as they are.
struct Archive<R> {
    zip: ZipArchive<R>,
    /// The folder in it that holds everything.
    folder: String,
    /// Bytes that tensors may still take: a file may name one storage many times.
    left: u64,
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
        let mut archive = Self { zip, folder, left: SHARED * length };
        let order = archive.entry("byteorder", 16).unwrap_or_else(|_| b"little".to_vec());
        match order.as_slice() {
            b"little" => Ok(archive),
            _ => Err("the numbers are in big-endian order; expected little".to_owned()),
        }
    }

    /// The bytes of an entry of at most `most` bytes.
    fn entry(&mut self, name: &str, most: u64) -> Result<Vec<u8>, String> {
        let name = format!("{}{name}", self.folder);
        let failed = |error: &dyn std::fmt::Display| format!("`{name}` in the zip cannot be read: {error}");
        let mut entry = self.zip.by_name(&name).map_err(|error| failed(&error))?;
        if entry.size() > most {
            return Err(failed(&format!("it has {} bytes; expected at most {most}", entry.size())));
        }
        if entry.compression() != CompressionMethod::Stored {
            return Err(failed(&"it is compressed; expected it stored as it is, so that none is larger than the file"));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|error| failed(&error))?;
        Ok(bytes)
    }

    fn tensor(&mut self, stored: Stored) -> Result<Tensor, String> {
        let Stored { storage, dtype, offset, shape, stride } = stored;
        let bytes = self.entry(&format!("data/{storage}"), u64::MAX)?;
        let numbers = bytes.len() / dtype.bytes();
        let beyond = || format!("its shape {shape:?} reaches beyond the {numbers} numbers of its storage");
        let rank_fits = stride.len() == shape.len();
        let count = shape.iter().try_fold(1usize, |count, &side| count.checked_mul(side));
        // The number of values is held against the storage too, because a stride may be 0.
        let count = count.filter(|&count| rank_fits && count <= numbers).ok_or_else(beyond)?;
        let last = shape
            .iter()
            .zip(&stride)
            .try_fold(offset, |last, (&side, &stride)| last.checked_add(side.saturating_sub(1).checked_mul(stride)?));
        if count > 0 && last.is_none_or(|last| last >= numbers) {
            return Err(beyond());
        }
        let width = dtype.bytes();
        self.left = self
            .left
            .checked_sub((count * width) as u64)
            .ok_or_else(|| format!("with it the tensors are more than {SHARED} times as large as the file"))?;
        let mut values = Vec::with_capacity(count * width);
        for index in 0..count {
            let (mut rest, mut at) = (index, offset);
            for (&side, &stride) in shape.iter().zip(&stride).rev() {
                at += rest % side * stride;
                rest /= side;
            }
            values.extend_from_slice(&bytes[at * width..][..width]);
        }
        let tensor = match dtype {
            Numbers::Float(dtype) => Tensor::from_raw_buffer(&values, dtype, &shape, &Device::Cpu),
            // What a counter counts is of no use here; its name and shape are.
            Numbers::Whole(_) => Tensor::zeros(shape.as_slice(), DType::I64, &Device::Cpu),
        };
        tensor.map_err(|error| error.to_string())
    }
}
