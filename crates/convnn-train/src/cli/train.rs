//! `convnn train`.

use super::{output, set_threads};
use convnn_data::Search;
use convnn_train::config::{Assignment, RunConfig, Sources};
use convnn_train::engine::Run;
use convnn_train::progress::Progress;
use convnn_train::results::RunResult;
use convnn_train::run_folder::{Found, Interrupted, RunFolder, holds_run};
use convnn_train::session::Session;
use convnn_train::stop::StopRequest;
use convnn_train::{Error, Result};
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Train a model into a run folder, reproducibly
///
/// The configuration starts from a preset, then takes the keys of --config, then those of --set and the options below.
/// A run that was stopped, by Ctrl-C, a signal or a power failure, goes on with --resume and ends with the same
/// weights, bit for bit.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The preset to start from; `convnn info` lists them
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// A TOML file with configuration keys; `convnn info PRESET` prints one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a configuration key, such as layer.branch_ratio, layer.neighbors, batch_size; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// A folder with the official binary files, `sample` for the embedded images, or `hub` for the Hugging Face hub (in
    /// builds with `--features hub`) [default: CONVNN_DATA, then the user's cache folder, then the hub]
    #[arg(long, value_name = "DIR|sample|hub")]
    data: Option<String>,
    /// cifar10 or cifar100
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// Passes over the training images
    #[arg(long, value_name = "N")]
    epochs: Option<i64>,
    /// Seed of every random stream
    #[arg(long, value_name = "N")]
    seed: Option<i64>,
    /// The run folder [default: runs/PRESET-N, the first that is free]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with the run in --out where it stopped, or start it; without --preset and --config, with its own
    /// configuration. More --epochs than before lengthen it
    #[arg(long)]
    resume: bool,
    /// Threads; results do not depend on them [default: RAYON_NUM_THREADS, else all processors]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

const AFTER_HELP: &str = "\
Examples:
  convnn train --preset vgg11_compact --data sample --epochs 2
  convnn train --preset vgg11_compact --set layer.branch_ratio=1 --data ~/cifar --out runs/ratio1
  convnn train --out runs/ratio1 --resume

Exit codes: 0 done, 1 failed, 2 input that cannot be used, 130 and 143 stopped by Ctrl-C and by SIGTERM with
everything saved (a second one ends at once). CONVNN_LOG chooses what is logged: warn, info, debug.";

/// Trains, and prints the result.
pub fn run(args: Args) -> Result<()> {
    let progress = Progress::stderr();
    output::start_log(&progress);
    set_threads(args.threads)?;
    let config = args.resolve()?;
    let path = match &args.out {
        Some(path) => path.clone(),
        None => free_folder(Path::new("runs"), &config.preset)?,
    };
    let interrupted = if args.resume { Interrupted::Resume } else { Interrupted::Refuse };
    let found = match RunFolder::find(&path, &config, interrupted)? {
        Found::Finished(_, result) => {
            tracing::info!("{} is done already", path.display());
            return output::print(&summary(&result, &path));
        }
        Found::Unfinished(folder) => Some(folder),
        Found::Nothing => None,
    };
    let named = (config.data != "search").then(|| Path::new(&config.data));
    let data = Search::new(named, |name: &str| std::env::var_os(name)).open(config.dataset)?;
    let session = Session::new(&config.model, config.seed)?;
    // Everything that can be wrong with the input has been seen: from here on files are written.
    let folder = match found {
        Some(folder) => {
            folder.reopen(&config)?;
            folder
        }
        None => RunFolder::create(&path, &config)?,
    };
    let stop = StopRequest::default();
    catch_signals(&stop)?;
    tracing::info!(
        "{} on {} ({}), {} parameters, {} threads, into {}",
        config.preset,
        config.dataset,
        data.origin,
        session.parameters.count(),
        rayon::current_num_threads(),
        path.display()
    );
    let command = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let run = Run { config: &config, data: &data, folder: &folder, stop: &stop, progress: &progress, command };
    let trained = run.train(&session);
    progress.finish();
    output::print(&summary(&trained?, &path))
}

impl Args {
    fn resolve(&self) -> Result<RunConfig> {
        let mut overrides = self.set.iter().map(|text| Assignment::parse(text)).collect::<Result<Vec<_>>>()?;
        let mut option = |key: &str, value: Option<toml::Value>| {
            overrides.extend(value.map(|value| {
                let place = format!("--{key} {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
                Assignment::new(key, value, place)
            }));
        };
        option("data", self.data.clone().map(toml::Value::String));
        option("dataset", self.dataset.clone().map(toml::Value::String));
        option("epochs", self.epochs.map(toml::Value::Integer));
        option("seed", self.seed.map(toml::Value::Integer));
        let stored = self.stored_config()?;
        let file = self.config.as_deref().or(stored.as_deref());
        Sources { preset: self.preset.as_deref(), file, overrides }.resolve()
    }

    /// The configuration in the run folder, where a resume names no other.
    fn stored_config(&self) -> Result<Option<PathBuf>> {
        if !self.resume || self.preset.is_some() || self.config.is_some() {
            return Ok(None);
        }
        let Some(out) = &self.out else {
            let expected = "a run folder with --out".to_owned();
            return Err(Error::Value { key: "--resume".to_owned(), found: "without a folder".to_owned(), expected });
        };
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

/// The first of `PRESET-1`, `PRESET-2`, … that does not exist.
fn free_folder(runs: &Path, preset: &str) -> Result<PathBuf> {
    let mut number = 1;
    loop {
        let path = runs.join(format!("{preset}-{number}"));
        if !path.try_exists().map_err(Error::io("read", &path))? {
            return Ok(path);
        }
        number += 1;
    }
}

/// The first signal asks the run to stop, the second ends the process. A file size limit becomes an error.
fn catch_signals(stop: &StopRequest) -> Result<()> {
    let asked = Arc::new(AtomicBool::new(false));
    let catch = || {
        for signal in [SIGINT, SIGTERM] {
            // In the order of registration: a second signal finds `asked` set.
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&asked))?;
            signal_hook::flag::register(signal, Arc::clone(&asked))?;
            signal_hook::flag::register_usize(signal, stop.flag(), signal as usize)?;
        }
        signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map(|_| ())
    };
    catch().map_err(Error::io("catch signals of", Path::new("this process")))
}

fn summary(result: &RunResult, path: &Path) -> String {
    let row = |name: &str, score: &convnn_train::results::Score| {
        format!("{name:<13} top-1 {:6.2} %   top-5 {:6.2} %   loss {:.4}", score.top1, score.top5, score.loss)
    };
    [
        row(&format!("epoch {}", result.last.epoch), &result.last),
        row("last five", &result.last5),
        row(&format!("best ({})", result.best.epoch), &result.best),
        format!(
            "{} parameters, {:.3} GFLOPs an image, {:.1} s an epoch; {}",
            result.params,
            result.gflops,
            result.seconds_per_epoch,
            path.display()
        ),
    ]
    .join("\n")
}
