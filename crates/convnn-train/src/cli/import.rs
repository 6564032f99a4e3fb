//! `convnn import`.

use super::output;
use convnn_models::ModelConfig;
use convnn_train::config::{Assignment, Sources};
use convnn_train::import::{Checkpoint, Fit, Mismatch};
use convnn_train::{Error, Result};
use std::path::{Path, PathBuf};

/// Turn a PyTorch checkpoint of the authors' models into a weights folder
///
/// Every name and shape is checked against the model; what is missing, left over or of another shape is listed. The
/// number of classes is that of the checkpoint. Without --preset and --config, the preset that fits is taken.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// A .pth file that holds tensors and nothing else, or a .safetensors file
    file: PathBuf,
    /// The preset that the checkpoint belongs to; `convnn info` lists them
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    preset: Option<String>,
    /// The model's configuration: a TOML file as for `convnn train`, or config.json of a weights folder
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a configuration key, such as layer.heads; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The weights folder to write; it must not exist, or be empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

const AFTER_HELP: &str = "\
Examples:
  convnn import vit_tiny.pth --preset vit_tiny --out weights/vit_tiny
  convnn import model.safetensors --preset vit_tiny_attention --set layer.heads=3 --out weights/attention

Exit codes: 0 done, 1 failed, 2 a checkpoint that cannot be used.";

/// Reads, checks and writes.
pub fn run(args: &Args) -> Result<()> {
    let checkpoint = Checkpoint::read(&args.file)?;
    let (title, config) = args.model(&checkpoint)?;
    if let Some(mismatch) = checkpoint.mismatch(&config)? {
        return Err(args.refuse(&title, &mismatch)?);
    }
    let tensors = checkpoint.save(&config, &title, &args.file, &args.out)?;
    let (classes, out) = (config.classes(), args.out.display());
    let left_out = match checkpoint.buffers(&config) {
        0 => String::new(),
        1 => "; 1 buffer without weights left out".to_owned(),
        buffers => format!("; {buffers} buffers without weights left out"),
    };
    output::print(&format!("{tensors} tensors of {title}, {classes} classes, into {out}{left_out}"))
}

impl Args {
    /// The model by name, with the classes of the checkpoint.
    fn model(&self, checkpoint: &Checkpoint) -> Result<(String, ModelConfig)> {
        if let Some(path) = self.config.as_deref().filter(|path| path.extension().is_some_and(|kind| kind == "json")) {
            if let Some(set) = self.set.first() {
                return Err(Error::Value {
                    key: format!("--set {set}"),
                    found: format!("given beside {}", path.display()),
                    expected: "config.json as it is, or a TOML file".to_owned(),
                });
            }
            let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
            let wrong = |error: serde_json::Error| Error::Damaged { path: path.to_owned(), message: error.to_string() };
            return Ok((path.display().to_string(), serde_json::from_str(&text).map_err(wrong)?));
        }
        if self.preset.is_none() && self.config.is_none() && self.set.is_empty() {
            return self.fitting(checkpoint);
        }
        let overrides = self.set.iter().map(|text| Assignment::parse(text)).collect::<Result<Vec<_>>>()?;
        let sources = Sources { preset: self.preset.as_deref(), file: self.config.as_deref(), overrides };
        let config = sources.resolve()?;
        Ok((config.preset, checkpoint.with_classes(config.model)))
    }

    /// The one preset that the checkpoint fits.
    fn fitting(&self, checkpoint: &Checkpoint) -> Result<(String, ModelConfig)> {
        let Fit { mut fitting, nearest } = checkpoint.fitting_presets()?;
        match (fitting.pop(), fitting.is_empty(), nearest) {
            (Some((name, config)), true, _) => Ok((name.to_owned(), config)),
            (Some((name, _)), false, _) => {
                let names: Vec<_> = fitting.iter().map(|(name, _)| *name).chain([name]).collect();
                Err(Error::Value {
                    key: "--preset".to_owned(),
                    found: "not given".to_owned(),
                    expected: format!("one of {}: the checkpoint fits each of them", names.join(", ")),
                })
            }
            (None, _, Some((name, mismatch))) => {
                Err(self.refuse(&format!("any preset, and that of {name}, the nearest"), &mismatch)?)
            }
            (None, _, None) => Err(self.wrong("there is no preset".to_owned())),
        }
    }

    /// Lists every difference, and gives the error that sums them up.
    fn refuse(&self, title: &str, mismatch: &Mismatch) -> Result<Error> {
        for line in mismatch.lines() {
            output::print(&line)?;
        }
        Ok(self.wrong(format!("not a checkpoint of {title}: {}", mismatch.summary())))
    }

    fn wrong(&self, message: String) -> Error {
        let path: &Path = &self.file;
        Error::Damaged { path: path.to_owned(), message }
    }
}
