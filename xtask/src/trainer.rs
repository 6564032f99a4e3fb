//! Builds the trainer, `convnn`, and runs it as a process.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::plan::Run;
use crate::run_folder::State;
use crate::workspace;

/// The trainer's binary and how to start it.
pub struct Trainer {
    /// The binary.
    pub program: PathBuf,
    /// The folder of the full data set; without it the trainer searches its usual places.
    pub data: Option<PathBuf>,
    /// The number of threads; without it the trainer uses all cores.
    pub threads: Option<u16>,
    /// The signal that interrupted us, or 0; the trainer gets it too.
    signal: Arc<AtomicUsize>,
}

/// How a run ended.
pub enum Outcome {
    /// It finished.
    Done,
    /// It failed.
    Failed(Failure),
    /// Ctrl-C, SIGTERM or SIGHUP interrupted it; it can be resumed.
    Interrupted,
}

/// Why a run failed.
pub struct Failure {
    /// The last lines it wrote, and its exit status.
    pub why: String,
    /// Whether it rejected its input before training.
    pub invalid_input: bool,
}

impl Trainer {
    /// A trainer that saves a checkpoint when Ctrl-C, SIGTERM or SIGHUP interrupts us. A second signal ends this process
    /// at once; the trainer still saves.
    pub fn new(program: PathBuf) -> Result<Self> {
        let (signal, interrupted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        for caught in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register_conditional_shutdown(caught, 128 + caught, Arc::clone(&interrupted))?;
            signal_hook::flag::register(caught, Arc::clone(&interrupted))?;
            signal_hook::flag::register_usize(caught, Arc::clone(&signal), caught as usize)?;
        }
        Ok(Self { program, data: None, threads: None, signal })
    }

    /// Trains `run` in `folder`, resuming from its last checkpoint if there is one. Whatever the trainer writes to
    /// stderr is copied to our stderr and to `log.txt` in the folder.
    ///
    /// If the run is finished, the trainer only compares the folder with the configuration of `run`.
    pub fn train(&self, run: &Run, folder: &Path) -> Result<Outcome> {
        let mut command = self.command(run, folder);
        match State::of(folder) {
            State::New => {}
            State::Interrupted => {
                command.arg("--resume");
            }
            State::Done => return self.verify(&mut command),
        }
        let mut child = self.start(&mut command)?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let log = Log::new(folder);
        let copying = thread::spawn(move || log.copy(stderr));
        let status = self.wait(&mut child)?;
        let last_lines = match copying.join() {
            Ok(lines) => lines.with_context(|| format!("cannot write the log of {}", run.id))?,
            Err(_) => bail!("the log of {} was lost", run.id),
        };
        Ok(match status {
            _ if self.signal.load(Ordering::Relaxed) != 0 => Outcome::Interrupted,
            status if status.success() => Outcome::Done,
            status => Outcome::Failed(Failure::new(&last_lines, status)),
        })
    }

    fn verify(&self, command: &mut Command) -> Result<Outcome> {
        let output = self.start(command)?.wait_with_output()?;
        if output.status.success() {
            return Ok(Outcome::Done);
        }
        Ok(Outcome::Failed(Failure::new(&String::from_utf8_lossy(&output.stderr), output.status)))
    }

    fn command(&self, run: &Run, folder: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.args(run.arguments(self.data.as_deref()));
        command.arg("--out").arg(folder);
        if let Some(threads) = self.threads {
            command.arg("--threads").arg(threads.to_string());
        }
        command
    }

    fn start(&self, command: &mut Command) -> Result<Child> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().with_context(|| format!("cannot start {}", self.program.display()))
    }

    /// Waits for the process to exit, and sends it the signal that interrupts us.
    ///
    /// Ctrl-C in a terminal reaches the trainer directly as well; it takes both for one.
    fn wait(&self, child: &mut Child) -> Result<ExitStatus> {
        let mut sent = false;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            let signal = self.signal.load(Ordering::Relaxed);
            if signal != 0 && !sent {
                let mut kill = Command::new("kill");
                kill.arg(format!("-{signal}")).arg(child.id().to_string()).stderr(Stdio::null());
                // The process may have just ended.
                kill.status().context("cannot start `kill`")?;
                sent = true;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Failure {
    fn new(last_lines: &str, status: ExitStatus) -> Self {
        Self { why: format!("{last_lines}{status}"), invalid_input: status.code() == Some(2) }
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

/// Copies the trainer's stderr to ours and to the log in the run's folder.
struct Log {
    folder: PathBuf,
    file: Option<File>,
    /// Lines written before the run folder exists: invalid input creates no folder, and so no log.
    waiting: Vec<u8>,
    last: VecDeque<String>,
}

impl Log {
    fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), file: None, waiting: Vec::new(), last: VecDeque::new() }
    }

    /// Copies everything, and returns the last lines.
    fn copy(mut self, from: ChildStderr) -> io::Result<String> {
        const KEPT: usize = 8;
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line)? > 0 {
            // A closed terminal must not end the run.
            let _ = io::stderr().write_all(&line);
            self.write(&line)?;
            if self.last.len() == KEPT {
                self.last.pop_front();
            }
            self.last.push_back(String::from_utf8_lossy(&line).into_owned());
            line.clear();
        }
        self.write(&[])?;
        Ok(self.last.into_iter().collect())
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        self.waiting.extend_from_slice(line);
        if self.file.is_none() && State::of(&self.folder) != State::New {
            let path = self.folder.join("log.txt");
            self.file = Some(OpenOptions::new().create(true).append(true).open(path)?);
        }
        if let Some(file) = &mut self.file {
            file.write_all(&self.waiting)?;
            self.waiting.clear();
        }
        Ok(())
    }
}
