//! The trainer, `convnn`, as a process.

use std::env;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::files::shown;
use crate::plan::{Run, RunSettings};
use crate::run_folder::State;
use crate::workspace;

/// The trainer's binary and how to start it.
#[derive(Clone, Debug)]
pub struct Trainer {
    /// The binary.
    pub program: PathBuf,
    /// The folder of the full data sets; without it the trainer searches its usual places.
    pub data: Option<PathBuf>,
    /// The number of threads of a run; without it the trainer uses all cores.
    pub threads: Option<usize>,
}

/// What the trainer says about a configuration, by `convnn info PRESET --json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Described {
    /// The resolved configuration.
    pub config: serde_json::Value,
    /// Trainable parameters.
    pub params: u64,
    /// GFLOPs of the forward pass of an image.
    pub gflops: f64,
    /// Peak memory in bytes.
    pub memory_bytes: u64,
}

/// What a run needs on this machine, by `convnn train --dry-run --json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Needs {
    /// GFLOPs of the forward pass of an image.
    pub gflops: f64,
    /// Most disk space at a time in bytes.
    pub disk_bytes: u64,
    /// Seconds of an epoch with its evaluation.
    pub seconds_per_epoch: f64,
}

impl Trainer {
    /// The trainer at `program`, or one built now.
    pub fn new(program: Option<&Path>) -> Result<Self> {
        let program = match program {
            Some(program) => std::path::absolute(program)?,
            None => build()?,
        };
        Ok(Self { program, data: None, threads: None })
    }

    /// What each configuration is in full. The seed is of no account.
    pub fn describe(&self, settings: &[RunSettings]) -> Result<Vec<Described>> {
        let describe = |settings: &RunSettings| -> Result<Described> {
            let mut command = Command::new(&self.program);
            command.arg("info").arg(&settings.preset).arg("--json");
            for assignment in settings.assignments() {
                command.arg("--set").arg(assignment);
            }
            self.json(&mut command)
        };
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let share = settings.len().div_ceil(workers).max(1);
        thread::scope(|scope| {
            let chunks = settings.chunks(share);
            let started: Vec<_> =
                chunks.map(|chunk| scope.spawn(move || chunk.iter().map(describe).collect())).collect();
            let mut all = Vec::new();
            for worker in started {
                let chunk: Result<Vec<Described>> = worker.join().unwrap_or_else(|_| bail!("a thread panicked"));
                all.extend(chunk?);
            }
            Ok(all)
        })
    }

    /// Measures what a run needs. Fails with the trainer's words if its images are not there.
    pub fn needs(&self, settings: &RunSettings) -> Result<Needs> {
        let mut command = Command::new(&self.program);
        command.args(settings.arguments(self.data.as_deref())).args(["--dry-run", "--json"]);
        if let Some(threads) = self.threads {
            command.arg("--threads").arg(threads.to_string());
        }
        self.json(&mut command)
    }

    /// The trainer's arguments for `run` in `folder`, resuming from its last checkpoint if there is one.
    pub fn arguments(&self, run: &Run, folder: &Path) -> Vec<std::ffi::OsString> {
        let mut arguments = run.settings.arguments(self.data.as_deref());
        arguments.extend(["--out".into(), folder.into()]);
        if let Some(threads) = self.threads {
            arguments.extend(["--threads".into(), threads.to_string().into()]);
        }
        arguments
    }

    /// Starts `run` in `folder`. What the trainer writes to stderr is appended to `log`.
    pub fn start(&self, run: &Run, folder: &Path, log: &Path) -> Result<Child> {
        let mut command = Command::new(&self.program);
        command.args(self.arguments(run, folder));
        if State::of(folder) == State::Interrupted {
            command.arg("--resume");
        }
        let parent = log.parent().map_or(Ok(()), fs::create_dir_all);
        let file = parent.and_then(|()| OpenOptions::new().create(true).append(true).open(log));
        let file = file.with_context(|| format!("cannot write {}", shown(log)))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        command.spawn().with_context(|| format!("cannot start {}", shown(&self.program)))
    }

    /// Runs a command of the trainer that prints JSON.
    pub fn json<T: DeserializeOwned>(&self, command: &mut Command) -> Result<T> {
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let Output { status, stdout, stderr } =
            command.output().with_context(|| format!("cannot start {}", shown(&self.program)))?;
        if !status.success() {
            let text = String::from_utf8_lossy(&stderr);
            let text = text.find("error: ").map_or(text.as_ref(), |start| &text[start + "error: ".len()..]);
            bail!(
                "{}",
                if text.is_empty() { format!("the trainer ended with {status}") } else { text.trim_end().to_owned() }
            );
        }
        serde_json::from_slice(&stdout)
            .with_context(|| format!("{} printed something other than JSON", shown(&self.program)))
    }
}

/// Builds the release binary, and returns its path. If the build fails, cargo has printed why.
pub fn build() -> Result<PathBuf> {
    let mut command = workspace::cargo();
    command.args(["build", "--release", "--package", "convnn-train", "--bin", "convnn"]);
    command.args(["--message-format", "json-render-diagnostics"]);
    let output = command.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "the trainer does not build");
    let messages = String::from_utf8_lossy(&output.stdout);
    let executable = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        (message["target"]["name"] == "convnn").then_some(())?;
        message["executable"].as_str().map(PathBuf::from)
    });
    executable.context("cargo did not report the path of the binary `convnn`")
}

/// Threads of a run unless told otherwise: `RAYON_NUM_THREADS`, or as many as there are processors.
pub fn cores() -> usize {
    let given = env::var("RAYON_NUM_THREADS").ok().and_then(|text| text.parse().ok()).filter(|&threads| threads > 0);
    given.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from))
}
