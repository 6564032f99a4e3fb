//! Foreign checkpoints: a `.pth` or `.safetensors` file of the authors' models becomes a folder of weights.
//!
//! Names and shapes are those of the authors' PyTorch code, so that tensors are taken by name, W_q and W_k included: a
//! row of scores belongs to a key there and here. What a wrapper puts before every name is taken off, and buffers that
//! hold no weights are left out.

mod guard;
mod pth;

use crate::session::Session;
use crate::{Error, Result};
use candle_core::Tensor;
use convnn_models::weights::{self, Tensors};
use convnn_models::{MixerConfig, ModelCard, ModelConfig, presets};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// The presets that a checkpoint fits.
#[derive(Debug, Default)]
pub struct Fit {
    /// By name, with the number of classes of the checkpoint.
    pub fitting: Vec<(&'static str, ModelConfig)>,
    /// Of the others, the one with the fewest differences.
    pub nearest: Option<(&'static str, Mismatch)>,
}

/// What wrappers put before every name: data parallel training, compilation, lightning modules.
const WRAPPERS: [&str; 3] = ["module.", "_orig_mod.", "model."];

/// A checkpoint that is read and whose names are unwrapped.
#[derive(Debug)]
pub struct Checkpoint {
    tensors: BTreeMap<String, Tensor>,
}

/// Tensors by name, with their shapes, that are not as a model has them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mismatch {
    /// What the model has and the checkpoint lacks.
    pub missing: Vec<(String, Vec<usize>)>,
    /// What the checkpoint has and the model lacks.
    pub left_over: Vec<(String, Vec<usize>)>,
    /// What has another shape: the one found, and that of the model.
    pub shapes: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl Checkpoint {
    /// Reads a file by what it holds, whatever its name.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read, [`Error::Damaged`] where it is neither a `.pth` file of tensors alone nor
    /// a safetensors file.
    pub fn read(path: &Path) -> Result<Self> {
        let wrong = |message: String| Error::Damaged { path: path.to_owned(), message };
        let mut file = std::fs::File::open(path).map_err(Error::io("read", path))?;
        let mut start = [0; 2];
        let length = file.read(&mut start).map_err(Error::io("read", path))?;
        let tensors = match &start[..length] {
            b"PK" => pth::read(file).map_err(wrong)?,
            [0x80, 0x01..=0x05] => {
                return Err(wrong(
                    "a pickle without a zip around it, as PyTorch wrote before version 1.6; load it there and save it \
                     again with torch.save(state_dict, FILE)"
                        .to_owned(),
                ));
            }
            _ => weights::read(path)?.into_iter().collect(),
        };
        Ok(Self { tensors: unwrap_names(tensors) })
    }

    /// `config` with the number of classes that the last layer of the checkpoint has.
    pub fn with_classes(&self, mut config: ModelConfig) -> ModelConfig {
        let last = if self.tensors.contains_key("classifier.6.weight") { "classifier.6" } else { "classifier" };
        let outputs = |name: &str| self.tensors.get(&format!("{last}.{name}")).and_then(|t| t.dims().first().copied());
        // Where weight and bias disagree, one of them is wrong.
        if let (Some(classes), true) = (outputs("weight"), outputs("weight") == outputs("bias")) {
            config.set_classes(classes);
        }
        config
    }

    /// How the checkpoint differs from `config`; `None` where every name and shape fits.
    ///
    /// # Errors
    /// Where `config` makes no model.
    pub fn mismatch(&self, config: &ModelConfig) -> Result<Option<Mismatch>> {
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
        for (name, tensor) in &self.tensors {
            if !expected.contains_key(name) && !is_buffer(config, name) {
                mismatch.left_over.push((name.clone(), tensor.dims().to_vec()));
            }
        }
        Ok((mismatch != Mismatch::default()).then_some(mismatch))
    }

    /// The presets that the checkpoint fits.
    ///
    /// # Errors
    /// Where a preset makes no model.
    pub fn fitting_presets(&self) -> Result<Fit> {
        let mut fit = Fit::default();
        for preset in presets() {
            let config = self.with_classes((preset.config)());
            match self.mismatch(&config)? {
                None => fit.fitting.push((preset.name, config)),
                Some(mismatch) => {
                    if fit.nearest.as_ref().is_none_or(|(_, least)| mismatch.count() < least.count()) {
                        fit.nearest = Some((preset.name, mismatch));
                    }
                }
            }
        }
        Ok(fit)
    }

    /// The buffers of `config` that hold no weights and are left out.
    pub fn buffers(&self, config: &ModelConfig) -> usize {
        self.tensors.keys().filter(|name| is_buffer(config, name)).count()
    }

    /// Writes the weights into `folder`, which must not exist or be empty, and gives the number of tensors.
    ///
    /// # Errors
    /// Where the folder holds something or cannot be written, in which case nothing stays; where a tensor does not fit
    /// `config`.
    pub fn save(&self, config: &ModelConfig, title: &str, origin: &Path, folder: &Path) -> Result<usize> {
        free(folder)?;
        let of_model = self.tensors.iter().filter(|(name, _)| !name.ends_with(ROTARY));
        let tensors = of_model.map(|(name, tensor)| (name.clone(), tensor.clone()));
        let tensors: Tensors = weights::accept(&origin.display().to_string(), config, tensors)?;
        let session = Session::new(config, 0)?;
        session.restore(&tensors)?;
        let origin = origin.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let card = ModelCard { title: title.to_owned(), metrics: vec![("imported from".to_owned(), origin)] };
        write_whole(folder, |aside| Ok(weights::save(aside, config, &session.parameters, &card)?))?;
        Ok(tensors.len())
    }
}

impl Mismatch {
    /// Number of names.
    pub fn count(&self) -> usize {
        self.missing.len() + self.left_over.len() + self.shapes.len()
    }

    /// The differences in one line, at most three of a kind by name.
    pub fn summary(&self) -> String {
        fn kind<T>(what: &str, all: &[T], name: impl Fn(&T) -> String) -> Option<String> {
            let shown: Vec<_> = all.iter().take(3).map(name).collect();
            let more = if all.len() > 3 { ", …" } else { "" };
            (!all.is_empty()).then(|| format!("{} {what}: {}{more}", all.len(), shown.join(", ")))
        }
        let parts = [
            kind("missing", &self.missing, |(name, shape)| format!("`{name}` {shape:?}")),
            kind("left over", &self.left_over, |(name, shape)| format!("`{name}` {shape:?}")),
            kind("of another shape", &self.shapes, |(name, found, expected)| {
                format!("`{name}` is {found:?}, expected {expected:?}")
            }),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// Every difference, a line each.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let missing = self.missing.iter().map(|(name, shape)| format!("missing    {name} {shape:?}"));
        let left_over = self.left_over.iter().map(|(name, shape)| format!("left over  {name} {shape:?}"));
        let shapes = self.shapes.iter();
        let shapes =
            shapes.map(|(name, found, expected)| format!("shape      {name} {found:?}, expected {expected:?}"));
        missing.chain(left_over).chain(shapes)
    }
}

/// The frequencies of rotary positions, a buffer of the local-attention package.
const ROTARY: &str = ".rel_pos.inv_freq";

/// Whether PyTorch keeps under `name` what a model here computes for itself, or does not need.
fn is_buffer(config: &ModelConfig, name: &str) -> bool {
    let rotary = matches!(config, ModelConfig::Vit { layer: MixerConfig::LocalAttention(_), .. });
    name.ends_with(".num_batches_tracked")
        || (matches!(config, ModelConfig::Vit { .. }) && name == "positional_encoding.pe")
        || (rotary && name.ends_with(ROTARY))
}

/// Takes off what a wrapper put before every name.
fn unwrap_names(mut tensors: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    while let Some(wrapper) =
        WRAPPERS.iter().find(|wrapper| !tensors.is_empty() && tensors.keys().all(|name| name.starts_with(**wrapper)))
    {
        tensors = tensors.into_iter().map(|(name, tensor)| (name[wrapper.len()..].to_owned(), tensor)).collect();
    }
    tensors
}

/// Fails if `folder` is there and not empty.
fn free(folder: &Path) -> Result<()> {
    let holds = match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(Error::io("read", folder)(error)),
    };
    match holds {
        false => Ok(()),
        true => Err(Error::Folder {
            folder: folder.to_owned(),
            found: "is not empty".to_owned(),
            expected: "a folder for new weights; choose another --out".to_owned(),
        }),
    }
}

/// Lets `write` fill a folder beside `folder`, which then takes its name.
fn write_whole(folder: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let mut aside = folder.as_os_str().to_owned();
    aside.push(format!(".{}.part", std::process::id()));
    let aside = Path::new(&aside);
    let renamed = write(aside).and_then(|()| std::fs::rename(aside, folder).map_err(Error::io("write", folder)));
    if renamed.is_err() {
        // The first error is the one to report.
        let _ = std::fs::remove_dir_all(aside);
    }
    renamed
}
