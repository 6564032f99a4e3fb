//! Foreign checkpoints: a `.pth` or `.safetensors` file of the authors' models becomes a weights folder.
//!
//! Names and shapes are those of the authors' PyTorch code, so that tensors load by name. Prefixes of wrappers are
//! removed, buffers that hold no weights are left out, and half precision becomes f32. What shapes cannot tell comes
//! from the arguments in the file, if it holds any, and else from the configuration.

mod deduce;
pub(crate) mod folder;
mod mismatch;
mod names;
mod options;
mod pickle;
mod pth;

pub use mismatch::Mismatch;
pub use options::{Arguments, Setting, differs_from_2025, not_in_shapes};

use crate::session::Session;
use crate::{Error, Result};
use candle_core::Tensor;
use convnn_models::files::open_regular;
use convnn_models::weights::{self, Tensors};
use convnn_models::{ModelCard, ModelConfig};
use std::collections::BTreeMap;
use std::io::{Read, Seek};
use std::path::Path;

/// The frequencies of rotary positions, a buffer of local attention in PyTorch.
const ROTARY: &str = ".rel_pos.inv_freq";
/// The fixed encoding of positions, a buffer of a ViT in PyTorch.
const POSITIONS: &str = "positional_encoding.pe";
/// The only kind of layer whose queries and keys the authors' 2026 code exchanged.
const EXCHANGED: &str = "conv_nn_attention";

/// A checkpoint in memory, its tensors under the names of the authors' 2025 code.
#[derive(Debug)]
pub struct Checkpoint {
    tensors: BTreeMap<String, Tensor>,
    arguments: Arguments,
    /// Whether the file has the names of the fast layers, which only the 2026 code has.
    fast: bool,
}

impl Checkpoint {
    /// Reads a file by its content, whatever its name.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read. [`Error::Damaged`] if it is neither a `.pth` file of tensors and plain
    /// arguments nor a safetensors file, or holds the authors' branching over tokens, which no layer here computes.
    pub fn read(path: &Path) -> Result<Self> {
        Self::decode(path, open_regular(path).map_err(Error::io("read", path))?)
    }

    /// Reads the contents of the file `path`; fails as [`Self::read`] does.
    pub fn decode(path: &Path, mut file: impl Read + Seek) -> Result<Self> {
        let wrong = |message: String| Error::Damaged { path: path.to_owned(), message };
        let mut start = [0; 2];
        let length = file.read(&mut start).and_then(|length| file.rewind().map(|()| length));
        let length = length.map_err(Error::io("read", path))?;
        let (tensors, arguments) = match &start[..length] {
            b"PK" => {
                let pth::Contents { tensors, arguments } = pth::read(file).map_err(wrong)?;
                (tensors, arguments)
            }
            [0x80, 0x01..=0x05] => {
                return Err(wrong(
                    "a pickle without a zip around it, as PyTorch wrote before version 1.6; load it there and save it \
                     again with torch.save(state_dict, FILE)"
                        .to_owned(),
                ));
            }
            _ => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).map_err(Error::io("read", path))?;
                (safetensors(path, &bytes)?, Arguments::new())
            }
        };
        let mut tensors = names::unwrap(tensors);
        let fast = names::rename_fast_kernels(&mut tensors);
        if let Some(name) = names::branching_tokens(&tensors) {
            return Err(wrong(format!(
                "`{}` belongs to the authors' branching over tokens; their code mixes tokens with features there, even \
                 with one head, and `branching_tokens` does not (docs/deviations.md, row 14)",
                names::printable(name)
            )));
        }
        Ok(Self { tensors, arguments, fast })
    }

    /// The number of classes of the last layer.
    pub fn classes(&self) -> Option<usize> {
        let last = if self.tensors.contains_key("classifier.6.weight") { "classifier.6" } else { "classifier" };
        let outputs = |name: &str| self.tensors.get(&format!("{last}.{name}"))?.dims().first().copied();
        // If weight and bias disagree, one of them is wrong.
        outputs("weight").filter(|_| outputs("weight") == outputs("bias"))
    }

    /// The options of `config` that the arguments in the file set.
    pub fn argument_settings(&self, config: &ModelConfig) -> Vec<Setting> {
        let settings = options::from_arguments(&self.arguments, config.layer_kind());
        settings.into_iter().filter(|setting| options::has(config, setting)).collect()
    }

    /// The options of `config` that make it compute what the published runs computed.
    pub fn published_settings(&self, config: &ModelConfig) -> Vec<Setting> {
        let setting = options::as_published(config.layer_kind());
        setting.into_iter().filter(|setting| options::has(config, setting)).collect()
    }

    /// How the checkpoint differs from `config`.
    ///
    /// # Errors
    /// If `config` is invalid.
    pub fn mismatch(&self, config: &ModelConfig) -> Result<Mismatch> {
        let expected = config.shapes()?;
        let mut mismatch = Mismatch::default();
        for (name, shape) in &expected {
            match self.tensors.get(name) {
                None => mismatch.missing.push((name.clone(), shape.clone())),
                Some(found) if found.dims() != shape => {
                    mismatch.shapes.push((name.clone(), found.dims().to_vec(), shape.clone()));
                }
                Some(_) => {}
            }
        }
        if let (ModelConfig::Vit { model, .. }, Some(positions)) = (config, self.tensors.get(POSITIONS)) {
            let shape = [1, model.tokens(), model.dim];
            if positions.dims() != shape {
                mismatch.shapes.push((POSITIONS.to_owned(), positions.dims().to_vec(), shape.to_vec()));
            }
        }
        for (name, tensor) in &self.tensors {
            if !expected.contains_key(name) && !is_buffer(config, name) {
                mismatch.left_over.push((name.clone(), tensor.dims().to_vec()));
            }
        }
        Ok(mismatch)
    }

    /// The settings that make `config` fit the checkpoint; `None` if no settings do.
    pub fn fitting_settings(&self, config: &ModelConfig) -> Option<Vec<Setting>> {
        let (settings, changed) = deduce::changes(&self.tensors, config)?;
        let fits = !settings.is_empty() && self.mismatch(&changed).is_ok_and(|mismatch| mismatch.is_empty());
        fits.then_some(settings)
    }

    /// Converts a checkpoint of the authors' 2026 code, whose rows belong to queries: W_q and W_k are exchanged.
    ///
    /// It is one if `asked`, or if the file says so; returns the reason.
    ///
    /// # Errors
    /// [`Error::Value`] if `asked` and the layer is of a kind that the 2026 code computes in the same way.
    pub fn convert_2026(&mut self, config: &ModelConfig, asked: bool) -> Result<Option<&'static str>> {
        let (kind, applies) = (config.layer_kind(), config.layer_kind() == EXCHANGED);
        let reason = match (asked, self.fast, options::are_of_2026(&self.arguments)) {
            (true, ..) if !applies => {
                return Err(Error::Value {
                    key: "--authors-2026".to_owned(),
                    found: format!("given for a checkpoint of `{kind}`"),
                    expected: format!("a checkpoint of `{EXCHANGED}`, the only kind that it changes"),
                });
            }
            (true, ..) => "--authors-2026",
            (_, true, _) => "its kernels are named `conv_weight`",
            (_, _, true) => "its arguments name ImageNet",
            _ => return Ok(None),
        };
        if !applies {
            return Ok(None);
        }
        names::exchange_queries_and_keys(&mut self.tensors);
        Ok(Some(reason))
    }

    /// The number of buffers that hold no weights of `config` and are left out.
    pub fn buffers(&self, config: &ModelConfig) -> usize {
        self.tensors.keys().filter(|name| is_buffer(config, name)).count()
    }

    /// Writes the weights into `folder`, which must not exist or be empty, and returns the number of tensors.
    ///
    /// # Errors
    /// If a tensor does not fit `config`, or the folder is not empty or cannot be written; then nothing is left behind.
    pub fn save(&self, config: &ModelConfig, title: &str, origin: &Path, folder: &Path) -> Result<usize> {
        folder::write_whole(folder, |aside| {
            let of_model = self.tensors.iter().filter(|(name, _)| !name.ends_with(ROTARY));
            let tensors = of_model.map(|(name, tensor)| (name.clone(), tensor.clone()));
            let tensors: Tensors = weights::accept(&origin.display().to_string(), config, tensors)?;
            let session = Session::new(config, 0)?;
            session.restore(&tensors)?;
            let origin = names::printable(&origin.file_name().unwrap_or_default().to_string_lossy());
            let card = ModelCard {
                title: title.to_owned(),
                metrics: vec![("imported from".to_owned(), origin)],
                ..ModelCard::default()
            };
            weights::save(aside, config, &session.parameters, &card)?;
            Ok(tensors.len())
        })
    }
}

/// Reads a safetensors file; its error may quote names of the file.
fn safetensors(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    match weights::parse(path, bytes) {
        Ok(tensors) => Ok(tensors.into_iter().collect()),
        Err(convnn_models::Error::Damaged { path, reason }) => {
            Err(Error::Damaged { path, message: names::printable(&reason) })
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether PyTorch keeps under `name` what a model here computes for itself, or does not need.
fn is_buffer(config: &ModelConfig, name: &str) -> bool {
    let vit = matches!(config, ModelConfig::Vit { .. });
    name.ends_with(".num_batches_tracked")
        || (vit && name == POSITIONS)
        || (config.layer_kind() == "local_attention" && name.ends_with(ROTARY))
}
