//! Progress on standard error: a bar on a terminal, plain lines elsewhere.

use crate::results::EpochMetrics;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Shows images a second, the loss and the time left.
pub struct Progress {
    bar: ProgressBar,
    plain: bool,
    pace: RefCell<Pace>,
}

/// Where the epoch under way stands.
struct Pace {
    epoch: usize,
    epochs: usize,
    images: usize,
    /// Images seen by an earlier process.
    before: u64,
    started: Instant,
    reported: Instant,
    /// Seconds of the last evaluation and checkpoint.
    overhead: f64,
    trained: Option<Instant>,
}

/// Seconds between two plain lines in the middle of an epoch.
const LINE_SECONDS: u64 = 30;

impl Progress {
    /// A bar where standard error is a terminal, else lines.
    pub fn stderr() -> Self {
        let plain = !std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if plain {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar.set_style(style());
        Self::new(bar, plain)
    }

    /// Shows nothing.
    pub fn hidden() -> Self {
        Self::new(ProgressBar::hidden(), false)
    }

    fn new(bar: ProgressBar, plain: bool) -> Self {
        let now = Instant::now();
        let pace = Pace {
            epoch: 0,
            epochs: 0,
            images: 0,
            before: 0,
            started: now,
            reported: now,
            overhead: 0.0,
            trained: None,
        };
        Self { bar, plain, pace: RefCell::new(pace) }
    }

    /// The bar, which writers of other lines have to suspend.
    pub fn bar(&self) -> ProgressBar {
        self.bar.clone()
    }

    /// An epoch, counted from 0, begins with `seen` of its images done.
    pub fn begin_epoch(&self, epoch: usize, epochs: usize, images: usize, seen: u64) {
        let now = Instant::now();
        let mut pace = self.pace.borrow_mut();
        pace.overhead = pace.trained.take().map_or(pace.overhead, |trained| trained.elapsed().as_secs_f64());
        *pace = Pace { epoch, epochs, images, before: seen, started: now, reported: now, ..*pace };
        self.bar.reset();
        self.bar.set_length(images as u64);
        self.bar.set_position(seen);
        self.bar.set_prefix(format!("epoch {}/{epochs}", epoch + 1));
        self.bar.set_message("");
    }

    /// A step is done; `seen` and `loss` are of the epoch so far.
    pub fn step(&self, seen: u64, loss: f64) {
        let mut pace = self.pace.borrow_mut();
        let rate = (seen - pace.before) as f64 / pace.started.elapsed().as_secs_f64().max(1e-9);
        let epochs_left = (pace.epochs - pace.epoch - 1) as f64;
        let images_left = (pace.images as f64 - seen as f64) + epochs_left * pace.images as f64;
        let left = duration(images_left / rate.max(1e-9) + (epochs_left + 1.0) * pace.overhead);
        let text = format!("loss {loss:.3}  {rate:.0} images/s  {left} left");
        if self.plain && pace.reported.elapsed() >= Duration::from_secs(LINE_SECONDS) {
            pace.reported = Instant::now();
            self.line(&format!("epoch {}/{}  {seen}/{} images  {text}", pace.epoch + 1, pace.epochs, pace.images));
        }
        self.bar.set_message(text);
        self.bar.set_position(seen);
    }

    /// The evaluation of the epoch begins.
    pub fn begin_evaluation(&self) {
        self.pace.borrow_mut().trained = Some(Instant::now());
        self.bar.set_message("evaluating");
    }

    /// The epoch is evaluated.
    pub fn end_epoch(&self, metrics: &EpochMetrics, epochs: usize) {
        self.line(&format!(
            "epoch {}/{epochs}  train loss {:.4} top-1 {:.2} %  test loss {:.4} top-1 {:.2} % top-5 {:.2} %  \
             {}  {:.0} images/s",
            metrics.epoch,
            metrics.train_loss,
            metrics.train_top1,
            metrics.test_loss,
            metrics.test_top1,
            metrics.test_top5,
            duration(metrics.seconds),
            metrics.images_per_second,
        ));
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn line(&self, text: &str) {
        if self.plain {
            // A reader of the log that went away does not stop the training.
            let _ = writeln!(std::io::stderr(), "{text}");
        } else {
            self.bar.println(text);
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len}  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// `40 s`, `12 min`, `3 h 05 min`.
fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    match (seconds / 3600, seconds / 60) {
        (0, 0..=1) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {:02} min", minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (seconds, text) in [(0.4, "0 s"), (119.0, "119 s"), (120.0, "2 min"), (11_100.0, "3 h 05 min")] {
            assert_eq!(duration(seconds), text);
        }
    }
}
