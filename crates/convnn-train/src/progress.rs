//! Progress on standard error: a bar on a terminal, otherwise plain lines.

use crate::results::EpochMetrics;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Shows images per second, the loss, and the time left.
pub struct Progress {
    shown: Shown,
    bar: ProgressBar,
    pace: RefCell<Pace>,
}

/// How progress is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Bar,
    Lines,
    Nothing,
}

/// The current work.
struct Pace {
    label: String,
    images: usize,
    /// Number of images in later epochs.
    later: usize,
    /// Number of images seen by an earlier process.
    before: u64,
    started: Instant,
    reported: Instant,
}

/// Seconds between plain lines within an epoch.
const LINE_SECONDS: u64 = 30;

impl Progress {
    /// A bar if standard error is a terminal, else lines.
    pub fn stderr() -> Self {
        Self::new(if std::io::stderr().is_terminal() { Shown::Bar } else { Shown::Lines })
    }

    /// Shows nothing.
    pub fn hidden() -> Self {
        Self::new(Shown::Nothing)
    }

    fn new(shown: Shown) -> Self {
        let now = Instant::now();
        let pace = Pace { label: String::new(), images: 0, later: 0, before: 0, started: now, reported: now };
        Self { shown, bar: ProgressBar::hidden().with_style(style()), pace: RefCell::new(pace) }
    }

    /// The bar, to be suspended while other lines are written.
    pub fn bar(&self) -> ProgressBar {
        self.bar.clone()
    }

    /// Begins work called `label` on `images` images, of which `seen` are done; `later` more follow in other work.
    pub fn begin(&self, label: String, images: usize, seen: u64, later: usize) {
        let now = Instant::now();
        self.bar.reset();
        self.bar.set_length(images as u64);
        self.bar.set_position(seen);
        self.bar.set_prefix(label.clone());
        self.bar.set_message("");
        if self.shown == Shown::Bar && self.bar.is_hidden() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.pace.replace(Pace { label, images, later, before: seen, started: now, reported: now });
    }

    /// Shows that `seen` images are done, with mean loss `loss`.
    pub fn step(&self, seen: u64, loss: f64) {
        let mut pace = self.pace.borrow_mut();
        let rate = (seen - pace.before) as f64 / pace.started.elapsed().as_secs_f64().max(1e-9);
        let left = duration((pace.images + pace.later).saturating_sub(seen as usize) as f64 / rate.max(1e-9));
        let text = format!("loss {loss:.3}  {rate:.0} images/s  {left} left");
        if self.shown == Shown::Lines && pace.reported.elapsed() >= Duration::from_secs(LINE_SECONDS) {
            pace.reported = Instant::now();
            self.line(&format!("{}  {seen}/{} images  {text}", pace.label, pace.images));
        }
        self.bar.set_message(text);
        self.bar.set_position(seen);
    }

    /// Shows that the evaluation of the epoch begins.
    pub fn begin_evaluation(&self) {
        self.bar.set_message("evaluating");
    }

    /// Shows the metrics of an epoch.
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

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn line(&self, text: &str) {
        match self.shown {
            Shown::Bar => self.bar.println(text),
            // Training continues if nobody reads the log any more.
            Shown::Lines => drop(writeln!(std::io::stderr(), "{text}")),
            Shown::Nothing => {}
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
