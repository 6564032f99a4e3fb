//! `convnn import`.

use super::output;
use convnn_models::files::read_regular;
use convnn_models::{ModelConfig, presets};
use convnn_train::config::{Assignment, Sources};
use convnn_train::import::{Checkpoint, Mismatch, Setting, differs_from_2025, not_in_shapes};
use convnn_train::{Error, Result};
use std::path::{Path, PathBuf};

/// Turn a PyTorch checkpoint of the authors' models into a weights folder
///
/// Every name and shape is checked against the model; missing, unexpected and mismatched tensors are listed. The number
/// of classes is taken from the checkpoint. Without --preset or --config, the matching preset is used. Options that
/// cannot be inferred from shapes are taken from the arguments stored in the file, if any, and printed.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// A .pth file of tensors, with or without the run's arguments, or a .safetensors file
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
    /// The checkpoint is of the authors' 2026 code, which exchanges W_q and W_k of `conv_nn_attention`; assumed if the
    /// kernels are named `conv_weight` or the arguments name ImageNet
    #[arg(long)]
    authors_2026: bool,
    /// The weights folder to write; it must be empty or not exist yet
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

const AFTER_HELP: &str = "\
Examples:
  convnn import vit_tiny.pth --preset vit_tiny --out weights/vit_tiny
  convnn import model.safetensors --preset vit_tiny_attention --set layer.heads=3 --out weights/attention
";

/// The most bytes of a `config.json`.
const MOST_CONFIG: u64 = 1 << 20;

/// A configuration that the checkpoint may belong to.
struct Candidate {
    title: String,
    config: ModelConfig,
    /// Options that the arguments in the file set.
    from_arguments: Vec<Setting>,
    /// Options that shapes cannot tell and nobody set.
    assumed: Vec<Setting>,
}

/// Reads, checks and writes.
pub fn run(args: &Args) -> Result<()> {
    let mut checkpoint = Checkpoint::read(&args.file)?;
    let Candidate { title, config, from_arguments, assumed } = args.model(&checkpoint)?;
    let exchanged = checkpoint.convert_2026(&config, args.authors_2026)?;
    let tensors = checkpoint.save(&config, &title, &args.file, &args.out)?;
    let (classes, out) = (config.classes(), args.out.display());
    let left_out = match checkpoint.buffers(&config) {
        0 => String::new(),
        1 => "; 1 buffer without weights left out".to_owned(),
        buffers => format!("; {buffers} buffers without weights left out"),
    };
    output::print_line(&format!("{tensors} tensors of {title}, {classes} classes, into {out}{left_out}"))?;
    let list = |settings: &[Setting]| settings.iter().map(Setting::to_string).collect::<Vec<_>>().join(", ");
    if !from_arguments.is_empty() {
        output::print_line(&format!("from the file's arguments: {}", list(&from_arguments)))?;
    }
    if !assumed.is_empty() {
        output::print_line(&format!(
            "assumed, because the shapes of tensors do not determine them (change with --set): {}",
            list(&assumed)
        ))?;
    }
    match exchanged {
        Some(reason) => {
            output::print_line(&format!("W_q and W_k exchanged, as the authors' 2026 code needs: {reason}"))
        }
        None if differs_from_2025(&config) && !args.is_weights_folder() => output::print_line(
            "not as published if from the authors' 2025 code, which mixes tokens up with more than one head; for a \
             checkpoint of their 2026 code add --authors-2026",
        ),
        None => Ok(()),
    }
}

impl Args {
    /// Whether the configuration is that of one of our weights folders.
    fn is_weights_folder(&self) -> bool {
        self.config.as_deref().is_some_and(|path| path.extension().is_some_and(|kind| kind == "json"))
    }

    /// The model that the checkpoint belongs to.
    fn model(&self, checkpoint: &Checkpoint) -> Result<Candidate> {
        if self.preset.is_none() && self.config.is_none() && self.set.is_empty() {
            return self.fitting(checkpoint);
        }
        let candidate = match self.config.as_deref() {
            Some(path) if self.is_weights_folder() => self.of_weights_folder(path)?,
            _ => self.resolve(checkpoint, self.preset.as_deref())?,
        };
        let mismatch = checkpoint.mismatch(&candidate.config)?;
        if mismatch.is_empty() {
            return Ok(candidate);
        }
        let settings = checkpoint.fitting_settings(&candidate.config).map(|settings| arguments(&settings));
        let hint = match settings {
            Some(settings) if !self.is_weights_folder() => format!("; it fits with {settings}"),
            _ => String::new(),
        };
        Err(self.refuse(&format!("not a checkpoint of {}", candidate.title), &mismatch, &hint)?)
    }

    /// The configuration of a weights folder, as it is.
    fn of_weights_folder(&self, path: &Path) -> Result<Candidate> {
        if let Some(set) = self.set.first() {
            return Err(Error::Value {
                key: format!("--set {set}"),
                found: format!("given with {}", path.display()),
                expected: "config.json as it is, or a TOML file".to_owned(),
            });
        }
        let text = read_regular(path, MOST_CONFIG).map_err(Error::io("read", path))?;
        let wrong = |error: serde_json::Error| Error::Damaged { path: path.to_owned(), message: error.to_string() };
        let config = serde_json::from_slice(&text).map_err(wrong)?;
        let title = path.display().to_string();
        Ok(Candidate { title, config, from_arguments: Vec::new(), assumed: Vec::new() })
    }

    /// The configuration of a preset or a TOML file, with the options in the checkpoint and then those of --set.
    fn resolve(&self, checkpoint: &Checkpoint, preset: Option<&str>) -> Result<Candidate> {
        let given = self.set.iter().map(|text| Assignment::parse(text)).collect::<Result<Vec<_>>>()?;
        let resolve = |settings: &[Setting]| {
            let settings = settings.iter().map(|setting| Assignment::parse(&setting.to_string()));
            let overrides = settings.chain(given.iter().cloned().map(Ok)).collect::<Result<_>>()?;
            Sources { preset, file: self.config.as_deref(), overrides }.resolve()
        };
        let plain = resolve(&[])?.model;
        let is_given = |setting: &Setting| {
            self.set.iter().any(|text| text.split(['=', '.']).map(str::trim).take(2).eq(setting.key.split('.')))
        };
        // A file says what it wants; a preset is only a start.
        let mut from_arguments = if self.config.is_some() { Vec::new() } else { checkpoint.argument_settings(&plain) };
        from_arguments.retain(|setting| !is_given(setting));
        let resolved = resolve(&[checkpoint.published_settings(&plain), from_arguments.clone()].concat())?;
        let mut config = resolved.model;
        if let Some(classes) = checkpoint.classes() {
            config.set_classes(classes);
        }
        let mut assumed = not_in_shapes(&config);
        assumed.retain(|one| !is_given(one) && from_arguments.iter().all(|other| other.key != one.key));
        if self.config.is_some() {
            assumed.clear();
        }
        Ok(Candidate { title: resolved.preset, config, from_arguments, assumed })
    }

    /// The one preset that the checkpoint fits.
    fn fitting(&self, checkpoint: &Checkpoint) -> Result<Candidate> {
        let mut fitting = Vec::<Candidate>::new();
        // Of the others, the one that needs the fewest settings, or else has the fewest differences.
        let mut nearest = None::<((usize, usize), &str, Mismatch, Option<Vec<Setting>>)>;
        for preset in presets() {
            // Arguments may ask for what another preset cannot have.
            let Ok(candidate) = self.resolve(checkpoint, Some(preset.name)) else { continue };
            let mismatch = checkpoint.mismatch(&candidate.config)?;
            if mismatch.is_empty() {
                // With the arguments, presets that differ in those options alone are one.
                if fitting.iter().all(|other| other.config != candidate.config) {
                    fitting.push(candidate);
                }
                continue;
            }
            let settings = checkpoint.fitting_settings(&candidate.config);
            let distance = (settings.as_ref().map_or(usize::MAX, Vec::len), mismatch.count());
            if nearest.as_ref().is_none_or(|(least, ..)| distance < *least) {
                nearest = Some((distance, preset.name, mismatch, settings));
            }
        }
        if fitting.len() > 1 {
            let names: Vec<_> = fitting.iter().map(|candidate| candidate.title.as_str()).collect();
            return Err(Error::Value {
                key: "--preset".to_owned(),
                found: "not given".to_owned(),
                expected: format!("one of {}: the checkpoint fits each of them", names.join(", ")),
            });
        }
        match (fitting.pop(), nearest) {
            (Some(candidate), _) => Ok(candidate),
            (None, Some((_, name, mismatch, settings))) => {
                let hint = settings.map(|settings| format!("; it fits with --preset {name} {}", arguments(&settings)));
                let finding = format!("no preset fits; compared with {name}, the nearest");
                Err(self.refuse(&finding, &mismatch, &hint.unwrap_or_default())?)
            }
            (None, None) => Err(self.wrong("it fits no preset".to_owned())),
        }
    }

    /// Lists every difference, and returns the error that sums them up.
    fn refuse(&self, finding: &str, mismatch: &Mismatch, hint: &str) -> Result<Error> {
        for line in mismatch.lines() {
            output::print_line(&line)?;
        }
        Ok(self.wrong(format!("{finding}: {}{hint}", mismatch.summary())))
    }

    fn wrong(&self, message: String) -> Error {
        Error::Damaged { path: self.file.clone(), message }
    }
}

/// Settings as words of a shell command.
fn arguments(settings: &[Setting]) -> String {
    settings.iter().map(Setting::as_argument).collect::<Vec<_>>().join(" ")
}
