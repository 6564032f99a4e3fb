//! `convnn train`.

use super::summary::summary;
use super::{output, set_threads};
use convnn_data::Dataset;
use convnn_train::config::{Assignment, RunConfig, Sources};
use convnn_train::engine::Run;
use convnn_train::exit;
use convnn_train::expected::Expected;
use convnn_train::images;
use convnn_train::progress::Progress;
use convnn_train::room;
use convnn_train::run_folder::{Allowed, Found, Interrupted, RunFolder, holds_run, stored_config};
use convnn_train::runs;
use convnn_train::session::Session;
use convnn_train::stop::StopRequest;
use convnn_train::text::{bytes, duration, grouped, printable};
use convnn_train::timing;
use convnn_train::{Error, Result};
use std::path::{Path, PathBuf};

/// Train a model, reproducibly, into a run folder
///
/// The configuration starts from a preset; keys of --config override it, and --set and the options below override both.
/// --resume continues a run that was stopped by Ctrl-C, a signal or a power failure; it ends with the same weights, bit
/// for bit, as if it had not been stopped.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{AFTER_HELP}\n\n{}", exit::text()))]
pub struct Args {
    /// The preset to start from; `convnn info` lists them
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// A TOML file of configuration keys; `convnn info PRESET --toml` prints one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a configuration key, such as layer.branch_ratio=0.5 or batch_size=64; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// A folder of pictures (train/CLASS/*.png, with test/CLASS or a part set aside), a folder with the official files of
    /// --dataset, `sample` for the few images built into this program, or `hub` for the Hugging Face hub (in builds with
    /// `--features hub`) [default: CONVNN_DATA, the user's cache folder, or the hub]
    #[arg(long, value_name = "DIR|sample|hub")]
    data: Option<String>,
    /// cifar10, cifar100, mnist, fashion_mnist, or folder for pictures of your own [default: cifar10, or
    /// `folder` if --data holds pictures]
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// Hold out N training images, the same share of every class, for validation
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    holdout: Option<i64>,
    /// Number of passes over the training images
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    epochs: Option<i64>,
    /// Seed of all random numbers
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    seed: Option<i64>,
    /// The run folder [default: the first free one of runs/PRESET-1, runs/PRESET-2, …]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Resume the run in --out, or start a new one. Without --preset or --config, the run keeps its configuration. A
    /// larger --epochs extends it
    #[arg(long)]
    resume: bool,
    /// With --resume, learning_rate and the keys of its schedule may have other values from here on
    #[arg(long = "override", requires = "resume")]
    override_keys: bool,
    /// With --resume, go on with other images, on another instruction set, or from a checkpoint of another version
    #[arg(long, requires = "resume")]
    force: bool,
    /// Print the resolved configuration and stop; as a file for --config it reproduces the run
    #[arg(long)]
    print_config: bool,
    /// Time a few training steps, print what the run would need (memory, disk, hours), and stop
    #[arg(long, conflicts_with_all = ["print_config", "resume"])]
    dry_run: bool,
    /// Print what the run would need as JSON
    #[arg(long, requires = "dry_run")]
    json: bool,
    /// Number of threads; results do not depend on it [default: RAYON_NUM_THREADS, or one per processor]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

const AFTER_HELP: &str = "\
Examples:
  convnn train --preset vgg11_compact --data sample --epochs 2
  convnn train --preset vgg11_compact --set layer.branch_ratio=1 --data ~/cifar --out runs/ratio1
  convnn train --out runs/ratio1 --resume

A second signal, a second or more after the first, stops the run at once. CONVNN_LOG selects what is logged: warn, info or
debug.";

/// Trains, and prints the result.
pub fn run(args: Args) -> Result<()> {
    let progress = Progress::stderr();
    output::start_log(&progress);
    set_threads(args.threads)?;
    let (mut config, batch_size_is_given) = args.resolve()?;
    if args.print_config {
        // Without its data, a run cannot be started; what it would be started with can still be said.
        if let (false, Ok(data)) = (batch_size_is_given, images::of_run(&config)) {
            config.batch_size = config.batch_size_for(data.train.len());
        }
        return output::print(config.to_toml()?.trim_end());
    }
    if let (false, Some(path)) = (batch_size_is_given, &args.out)
        && holds_run(path)?
    {
        config.batch_size = stored_config(path)?.batch_size;
    }
    let allowed = Allowed { override_keys: args.override_keys, force: args.force };
    let interrupted = if args.resume { Interrupted::Resume(allowed) } else { Interrupted::Refuse };
    let found = match &args.out {
        Some(path) if !args.dry_run => RunFolder::find(path, &config, interrupted)?,
        _ => Found::Nothing,
    };
    if let (Found::Finished(result), Some(path)) = (&found, &args.out) {
        tracing::info!("{} is already finished", path.display());
        return output::print(&summary(result, path));
    }
    let data = images::of_run(&config)?;
    if !batch_size_is_given && matches!(found, Found::Nothing) {
        config.batch_size = config.batch_size_for(data.train.len());
    }
    config.check_validation(data.validation.is_some())?;
    room::check(&config, data.train.len())?;
    let session = Session::new(&config.model, config.seed)?;
    if args.dry_run {
        return dry_run(&config, &data, &session, args.json);
    }
    let stop = StopRequest::on_signals()?;
    let folder = match (found, &args.out) {
        (Found::Unfinished(folder), _) => folder,
        (_, Some(path)) => RunFolder::create(path, &config)?,
        (_, None) => RunFolder::create_numbered(Path::new("runs"), &config)?,
    };
    let path = folder.path();
    let threads = rayon::current_num_threads();
    tracing::info!("{} on {}, {}", config.preset, config.dataset, data.origin);
    tracing::info!(
        "{} parameters, {}, into {}",
        grouped(session.parameters.count() as u64),
        counted(threads, "thread"),
        printable(&path.display().to_string())
    );
    let images = data.train.images().len() + data.test.images().len();
    tracing::info!("{}", Expected::of(&config, images as u64)?.line());
    let command = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let run = Run { config: &config, data: &data, folder: &folder, allowed, stop: &stop, progress: &progress, command };
    let trained = run.train(&session);
    progress.finish();
    if let Err(error) = &trained {
        note_error(path, error);
    }
    output::print(&summary(&trained?, path))
}

/// Prints what the run would need.
fn dry_run(config: &RunConfig, data: &Dataset, session: &Session, json: bool) -> Result<()> {
    let (train, test) = (data.train.len(), data.test.len());
    let expected = Expected::of(config, (data.train.images().len() + data.test.images().len()) as u64)?;
    let seconds = timing::seconds_per_epoch(session, data, config)?;
    let (parameters, gflops) = (session.parameters.count() as u64, config.model.flops()? as f64 / 1e9);
    if json {
        let needs = serde_json::json!({
            "parameters": parameters, "gflops": gflops, "train_images": train, "test_images": test,
            "memory_bytes": expected.memory, "disk_bytes": expected.disk, "seconds_per_epoch": seconds,
        });
        return output::print(&needs.to_string());
    }
    let threads = rayon::current_num_threads();
    output::print(&format!(
        "model    {} parameters, {gflops:.3} GFLOPs per image\n\
         images   {} to train on, {} to test on\n\
         memory   {} at batch size {}\n\
         disk     {} ({} per checkpoint)\n\
         time     {} on {}: {} of {}",
        grouped(parameters),
        grouped(train as u64),
        grouped(test as u64),
        bytes(expected.memory),
        config.batch_size,
        bytes(expected.disk),
        bytes(expected.checkpoint),
        duration(seconds * config.epochs as f64),
        counted(threads, "thread"),
        counted(config.epochs, "epoch"),
        duration(seconds),
    ))
}

/// `1 epoch`, `2 epochs`
fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

impl Args {
    /// The configuration, and whether it is the user who asks for its batch size.
    fn resolve(&self) -> Result<(RunConfig, bool)> {
        let mut overrides = self.set.iter().map(|text| Assignment::parse(text)).collect::<Result<Vec<_>>>()?;
        let mut option = |key: &str, value: Option<toml::Value>| {
            overrides.extend(value.map(|value| {
                let place = format!("--{key} {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
                Assignment::new(key, value, place)
            }));
        };
        option("data", self.data.clone().map(toml::Value::String));
        option("dataset", self.dataset.clone().map(toml::Value::String));
        option("holdout", self.holdout.map(toml::Value::Integer));
        option("epochs", self.epochs.map(toml::Value::Integer));
        option("seed", self.seed.map(toml::Value::Integer));
        let stored = self.stored_config()?;
        let file = self.config.as_deref().or(stored.as_deref());
        let sources = Sources { preset: self.preset.as_deref(), file, overrides };
        let (config, set) = sources.resolve_with_keys()?;
        Ok((config, set.contains("batch_size")))
    }

    /// The configuration in the run folder, if the run is to be resumed and no other configuration is given.
    fn stored_config(&self) -> Result<Option<PathBuf>> {
        if !self.resume {
            return Ok(None);
        }
        // Without --out, a new folder would be numbered, and a new run begin.
        let Some(out) = &self.out else {
            let expected = "--out DIR, the folder of the run".to_owned();
            return Err(Error::Value {
                key: "--resume".to_owned(),
                found: "given without a folder".to_owned(),
                expected,
            });
        };
        if self.preset.is_some() || self.config.is_some() {
            return Ok(None);
        }
        match holds_run(out)? {
            true => Ok(Some(out.join("config.toml"))),
            false => Err(Error::Folder {
                folder: out.clone(),
                found: "holds no run to resume".to_owned(),
                expected: "a run folder, or --preset to start one".to_owned(),
            }),
        }
    }
}

/// Leaves the message of an error in the run folder, for `convnn runs`. What is refused changes nothing.
fn note_error(path: &Path, error: &Error) {
    let is_failure = !matches!(error, Error::Stopped { .. }) && error.exit_code() != exit::Exit::Input.code();
    // If setup failed, the folder has been cleaned up and must stay empty.
    if is_failure && path.join("config.toml").exists() {
        // The error itself is what matters; it may be that nothing can be written.
        let _ = std::fs::write(path.join(runs::ERROR), format!("{error}\n"));
    }
}
