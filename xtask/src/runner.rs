//! Trains runs as processes, several at a time, and survives whatever ends them.

use std::collections::VecDeque;
use std::fs;
use std::io::{IsTerminal, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::files::{read_json_lines, shown};
use crate::plan::Run;
use crate::run_folder::{Epoch, Record, State};
use crate::terminal::{duration, say};
use crate::trainer::Trainer;

/// Trains runs into folders of `out`.
pub struct Runner<'a> {
    /// The trainer.
    pub trainer: &'a Trainer,
    /// Where the folders of runs are.
    pub out: &'a Path,
    /// How many runs are trained at a time.
    pub jobs: usize,
}

/// How the runs ended.
#[derive(Default)]
pub struct Tally {
    /// The runs that failed, in order.
    pub failed: Vec<Failure>,
    /// Whether a signal ended the work early.
    pub interrupted: bool,
}

/// A run that failed.
pub struct Failure {
    /// Its label.
    pub label: String,
    /// The last lines that it wrote, and its exit status.
    pub why: String,
    /// Whether it refused its input.
    pub invalid_input: bool,
}

/// A run that is being trained.
struct Active<'a> {
    run: &'a Run,
    number: usize,
    child: Child,
    started: Instant,
    /// Epochs that were done when it was started.
    before: usize,
    /// Epochs that were shown.
    shown: usize,
    line: ProgressBar,
}

/// The folder of a run below the output folder.
pub fn folder(out: &Path, run: &Run) -> PathBuf {
    out.join("runs").join(&run.id)
}

/// Where the trainer's messages about a run are kept.
pub fn log(out: &Path, run: &Run) -> PathBuf {
    out.join("logs").join(format!("{}.log", run.id))
}

impl Runner<'_> {
    /// Trains the runs that are not finished. One that fails does not keep the others from being trained.
    ///
    /// Ctrl-C, SIGTERM and SIGHUP are passed on, so that every run saves a checkpoint; a second one ends this process at once.
    /// Runs that receive a second one themselves, as from a terminal, end without saving.
    pub fn train(&self, runs: &[Run]) -> Result<Tally> {
        let signal = caught()?;
        let mut tally = Tally::default();
        let mut waiting: VecDeque<(usize, &Run)> = VecDeque::new();
        for (index, run) in runs.iter().enumerate() {
            match (State::of(&folder(self.out, run)), Record::read(&folder(self.out, run), run)) {
                (State::Done, Err(error)) => {
                    let why = format!("{error:#}\nremove {} to train it again", shown(&folder(self.out, run)));
                    tally.failed.push(Failure { label: run.label.clone(), why, invalid_input: false });
                }
                (State::Done, Ok(_)) => {}
                _ => waiting.push_back((index + 1, run)),
            }
        }
        let planned = waiting.len();
        if planned < runs.len() {
            say(format_args!("{} of {} runs are already done", runs.len() - planned - tally.failed.len(), runs.len()));
        }
        let display = MultiProgress::new();
        let mut active: Vec<Active> = Vec::new();
        let mut passed_on = false;
        let began = Instant::now();
        let mut finished = 0;
        let overall = line(&display);
        while !(active.is_empty() && (waiting.is_empty() || signal.load(Ordering::Relaxed) != 0)) {
            let asked = signal.load(Ordering::Relaxed);
            if asked != 0 && !passed_on {
                passed_on = true;
                active.iter().for_each(|active| pass_on(asked, active.child.id()));
            }
            while active.len() < self.jobs && asked == 0 {
                let Some((number, run)) = waiting.pop_front() else { break };
                match self.start(run, (number, runs.len()), &display) {
                    Ok(one) => active.push(one),
                    Err(error) => {
                        let (label, why) = (run.label.clone(), format!("{error:#}"));
                        tally.failed.push(Failure { label, why, invalid_input: false });
                    }
                }
            }
            let mut going_on = Vec::new();
            for mut one in active {
                match one.child.try_wait()? {
                    Some(status) => {
                        self.advance(&mut one, runs.len());
                        one.line.finish_and_clear();
                        finished += 1;
                        self.finish(&one, status, asked, runs.len(), &mut tally);
                    }
                    None => {
                        self.advance(&mut one, runs.len());
                        going_on.push(one);
                    }
                }
            }
            active = going_on;
            let left =
                began.elapsed().as_secs_f64() / f64::from(finished.max(1)) * (planned as f64 - f64::from(finished));
            let rest = if finished == 0 { String::new() } else { format!(", about {} left", duration(left)) };
            overall.set_message(format!("{finished} of {planned} runs, {} failed{rest}", tally.failed.len()));
            thread::sleep(Duration::from_millis(50));
        }
        overall.finish_and_clear();
        tally.interrupted = signal.load(Ordering::Relaxed) != 0;
        Ok(tally)
    }

    fn start<'a>(&self, run: &'a Run, place: (usize, usize), display: &MultiProgress) -> Result<Active<'a>> {
        let target = folder(self.out, run);
        let what = if State::of(&target) == State::Interrupted { "resuming" } else { "starting" };
        let before = epochs(&target).len();
        let child = self.trainer.start(run, &target, &log(self.out, run))?;
        let line = line(display);
        line.set_message(format!("[{}/{}] {}: {what}", place.0, place.1, run.label));
        if !std::io::stderr().is_terminal() {
            say(format_args!("[{}/{}] {}: {what}", place.0, place.1, run.label));
        }
        Ok(Active { run, number: place.0, child, started: Instant::now(), before, shown: before, line })
    }

    /// Shows the epochs that a run has completed since the last time.
    fn advance(&self, active: &mut Active, all: usize) {
        let epochs = epochs(&folder(self.out, active.run));
        let (Some(last), true) = (epochs.last(), epochs.len() > active.shown) else { return };
        active.shown = epochs.len();
        let planned = active.run.settings.epochs as usize;
        let each = active.started.elapsed().as_secs_f64() / (epochs.len() - active.before).max(1) as f64;
        let left = duration(each * planned.saturating_sub(epochs.len()) as f64);
        let text = format!(
            "[{}/{all}] {}: epoch {}/{planned}, test top-1 {:.2} %, {left} left",
            active.number,
            active.run.label,
            epochs.len(),
            last.test_top1
        );
        active.line.set_message(text.clone());
        if !std::io::stderr().is_terminal() {
            say(text);
        }
    }

    fn finish(&self, active: &Active, status: ExitStatus, asked: usize, all: usize, tally: &mut Tally) {
        let (run, number) = (active.run, active.number);
        let result = match status.success() {
            true => Record::read(&folder(self.out, run), run).map_err(|error| format!("{error:#}")),
            false => Err(format!("{}{status}", last_lines(&log(self.out, run)))),
        };
        let text = match result {
            Ok(record) => format!(
                "[{number}/{all}] {}: done in {}, test top-1 {:.2} %",
                run.label,
                duration(active.started.elapsed().as_secs_f64()),
                record.result.last.top1
            ),
            Err(_) if asked != 0 => format!("[{number}/{all}] {}: interrupted", run.label),
            Err(why) => {
                let invalid_input = status.code() == Some(2);
                tally.failed.push(Failure { label: run.label.clone(), why, invalid_input });
                format!("[{number}/{all}] {}: failed", run.label)
            }
        };
        active.line.suspend(|| say(text));
    }
}

/// A line of the live table; nothing without a terminal.
fn line(display: &MultiProgress) -> ProgressBar {
    let bar = display.add(ProgressBar::new_spinner());
    bar.set_style(ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar
}

/// The signal that asked to stop, or 0.
fn caught() -> Result<Arc<AtomicUsize>> {
    let (signal, again) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    // Under nohup, SIGHUP stays ignored, here and in the runs.
    for number in [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|&number| number != SIGHUP || !is_ignored(number)) {
        signal_hook::flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&again))?;
        signal_hook::flag::register(number, Arc::clone(&again))?;
        signal_hook::flag::register_usize(number, Arc::clone(&signal), number as usize)?;
    }
    Ok(signal)
}

/// Whether this process was started with `signal` ignored; only Linux tells.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Sends a signal to a trainer. Ctrl-C in a terminal reaches it directly as well; it takes both for one.
fn pass_on(signal: usize, process: u32) {
    let mut kill = Command::new("kill");
    // The process may have just ended.
    let _ = kill.arg(format!("-{signal}")).arg(process.to_string()).stderr(Stdio::null()).status();
}

/// The epochs that the run in `folder` has completed, as far as they can be read.
fn epochs(folder: &Path) -> Vec<Epoch> {
    read_json_lines(&folder.join("metrics.jsonl")).unwrap_or_default()
}

/// The last lines of a log.
fn last_lines(path: &Path) -> String {
    const KEPT: usize = 8;
    let read = || -> Result<String> {
        let mut file = fs::File::open(path).context("open")?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(4096)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(KEPT)..].iter().map(|line| format!("{line}\n")).collect()
}
