//! `convnn train`.

use super::summary::summary;
use super::{output, set_threads};
use convnn_data::Search;
use convnn_train::config::{Assignment, RunConfig, Sources};
use convnn_train::engine::Run;
use convnn_train::expected::Expected;
use convnn_train::notice::Notice;
use convnn_train::progress::Progress;
use convnn_train::run_folder::{Found, Interrupted, RunFolder, holds_run};
use convnn_train::runs;
use convnn_train::session::Session;
use convnn_train::stop::StopRequest;
use convnn_train::text::{grouped, printable};
use convnn_train::{Error, Result};
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Train a model, reproducibly, into a run folder
///
/// The configuration starts from a preset; keys of --config override it, and --set and the options below override both.
/// --resume continues a run that was stopped by Ctrl-C, a signal or a power failure; it ends with the same weights, bit
/// for bit, as if it had not been stopped.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
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
    /// A folder with the official binary files, `sample` for the few images built into this program, or `hub` for the
    /// Hugging Face hub (in builds with `--features hub`) [default: CONVNN_DATA, the cache folder of the user, or the hub]
    #[arg(long, value_name = "DIR|sample|hub")]
    data: Option<String>,
    /// cifar10 or cifar100
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// Number of passes over the training images
    #[arg(long, value_name = "N")]
    epochs: Option<i64>,
    /// Seed of all random numbers
    #[arg(long, value_name = "N")]
    seed: Option<i64>,
    /// The run folder [default: the first free one of runs/PRESET-1, runs/PRESET-2, …]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Continue the run in --out, or start it. Without --preset and --config, the run keeps its configuration. More
    /// --epochs than before extend it
    #[arg(long)]
    resume: bool,
    /// Number of threads; results do not depend on it [default: RAYON_NUM_THREADS, or one per processor]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

const AFTER_HELP: &str = "\
Examples:
  convnn train --preset vgg11_compact --data sample --epochs 2
  convnn train --preset vgg11_compact --set layer.branch_ratio=1 --data ~/cifar --out runs/ratio1
  convnn train --out runs/ratio1 --resume

Exit codes: 0 success, 1 failure, 2 unusable input, 130 and 143 stopped by Ctrl-C and SIGTERM after everything was
saved (a second signal stops at once). CONVNN_LOG selects what is logged: warn, info or debug.";

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
            tracing::info!("{} is already finished", path.display());
            return output::print(&summary(&result, &path));
        }
        Found::Unfinished(folder) => Some(folder),
        Found::Nothing => None,
    };
    let named = (config.data != "search").then(|| Path::new(&config.data));
    let data = Search::new(named, |name: &str| std::env::var_os(name)).open(config.dataset)?;
    let session = Session::new(&config.model, config.seed)?;
    // All input has been checked; from here on files are written.
    let folder = match found {
        Some(folder) => {
            folder.reopen(&config)?;
            folder
        }
        None => RunFolder::create(&path, &config)?,
    };
    let stop = StopRequest::default();
    catch_signals(&stop)?;
    let threads = rayon::current_num_threads();
    tracing::info!("{} on {}, {}", config.preset, config.dataset, data.origin);
    tracing::info!(
        "{} parameters, {threads} thread{}, into {}",
        grouped(session.parameters.count() as u64),
        if threads == 1 { "" } else { "s" },
        printable(&path.display().to_string())
    );
    let images = data.train.images().len() + data.test.images().len();
    tracing::info!("{}", Expected::of(&config, images as u64)?.line());
    let command = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let run = Run { config: &config, data: &data, folder: &folder, stop: &stop, progress: &progress, command };
    forget_error(&path);
    let trained = {
        let _notice = Notice::watch(&stop, progress.bar());
        run.train(&session)
    };
    progress.finish();
    if let Err(error) = &trained {
        note_error(&path, error);
    }
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

    /// The configuration in the run folder, if the run is to be resumed and no other configuration is given.
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

/// Leaves the message of an error in the run folder, for `convnn runs`.
fn note_error(path: &Path, error: &Error) {
    if !matches!(error, Error::Stopped { .. }) {
        // The error itself is what matters; it may be that nothing can be written.
        let _ = std::fs::write(path.join(runs::ERROR), format!("{error}\n"));
    }
}

/// Removes what [`note_error`] left before.
fn forget_error(path: &Path) {
    let _ = std::fs::remove_file(path.join(runs::ERROR));
}

/// The first signal asks the run to stop, the second ends the process. Exceeding a file size limit becomes an error.
fn catch_signals(stop: &StopRequest) -> Result<()> {
    let asked = Arc::new(AtomicBool::new(false));
    let catch = || {
        for signal in [SIGINT, SIGTERM] {
            // Handlers run in the order of registration, so that a second signal finds `asked` set.
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&asked))?;
            signal_hook::flag::register(signal, Arc::clone(&asked))?;
            signal_hook::flag::register_usize(signal, stop.flag(), signal as usize)?;
        }
        signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map(|_| ())
    };
    catch().map_err(Error::io("catch signals of", Path::new("this process")))
}
