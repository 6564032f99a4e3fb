//! Progress on standard error: a bar on a terminal, otherwise plain lines.
//!
//! Nothing here can stop a run: what cannot be written, to a closed pipe or a full device, is dropped.

use crate::metrics::Tally;
use crate::results::EpochMetrics;
use crate::text::duration;
use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::RefCell;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Shows loss, accuracy, images per second, and the time left.
pub struct Progress {
    shown: Shown,
    bar: ProgressBar,
    pace: RefCell<Pace>,
}

/// How the bar looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Style {
    colored: bool,
    /// Narrow terminals get the most important numbers without the bar, because a wrapped line cannot be redrawn.
    narrow: bool,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Bar(Style),
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
    /// Whether the time of the whole run has been said.
    forecast: bool,
    style: Style,
}

/// Columns that a bar and all numbers fit in.
const BAR_COLUMNS: u16 = 80;

/// Seconds between plain lines within an epoch.
const LINE_SECONDS: u64 = 30;

/// When the speed is believed: after this time, or this share of an epoch.
const FORECAST_SECONDS: f64 = 20.0;
const FORECAST_SHARE: f64 = 0.2;

impl Progress {
    /// A bar if standard error is a terminal that can move its cursor, else lines. `NO_COLOR` turns colors off.
    pub fn stderr() -> Self {
        Self::new(shown(std::io::stderr().is_terminal(), |name| std::env::var_os(name)))
    }

    /// Shows nothing.
    pub fn hidden() -> Self {
        Self::new(Shown::Nothing)
    }

    fn new(shown: Shown) -> Self {
        let now = Instant::now();
        let style = match shown {
            Shown::Bar(style) => style,
            _ => Style { colored: false, narrow: false },
        };
        let pace = Pace {
            label: String::new(),
            images: 0,
            later: 0,
            before: 0,
            started: now,
            reported: now,
            forecast: false,
            style,
        };
        Self { shown, bar: ProgressBar::hidden().with_style(style.template()), pace: RefCell::new(pace) }
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
        let Pace { forecast, style, .. } = *self.pace.borrow();
        self.pace.replace(Pace { label, images, later, before: seen, started: now, reported: now, forecast, style });
        self.fit();
        if matches!(self.shown, Shown::Bar(_)) && self.bar.is_hidden() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            // The first step may take long.
            self.bar.tick();
        }
    }

    /// Takes the style that fits the terminal, which may have changed its size.
    fn fit(&self) {
        let mut pace = self.pace.borrow_mut();
        let narrow = matches!(self.shown, Shown::Bar(_)) && Term::stderr().size().1 < BAR_COLUMNS;
        if narrow != pace.style.narrow {
            pace.style.narrow = narrow;
            self.bar.set_style(pace.style.template());
        }
    }

    /// Shows the sums over the images done.
    pub fn step(&self, tally: &Tally) {
        self.fit();
        let mut pace = self.pace.borrow_mut();
        let seen = tally.images;
        let seconds = pace.started.elapsed().as_secs_f64();
        let done = seen.saturating_sub(pace.before) as f64;
        let rate = done / seconds.max(1e-9);
        let left = (pace.images + pace.later).saturating_sub(seen as usize) as f64 / rate.max(1e-9);
        let text = format!(
            "loss {:.3}  top-1 {:.1} %  {rate:.0} images/s  {} left",
            tally.mean_loss(),
            tally.top1_percent(),
            duration(left)
        );
        let believed = seconds >= FORECAST_SECONDS || done >= FORECAST_SHARE * pace.images as f64;
        if pace.later > 0 && believed && !pace.forecast {
            pace.forecast = true;
            self.line(&format!("expected: {} more, at {rate:.0} images/s and without the evaluations", duration(left)));
        }
        if self.shown == Shown::Lines && pace.reported.elapsed() >= Duration::from_secs(LINE_SECONDS) {
            pace.reported = Instant::now();
            self.line(&format!("{}  {seen}/{} images  {text}", pace.label, pace.images));
        }
        self.bar.set_message(match pace.style.narrow {
            true => format!("loss {:.3}  {:.1} %  {} left", tally.mean_loss(), tally.top1_percent(), duration(left)),
            false => text,
        });
        self.bar.set_position(seen);
    }

    /// Shows that the evaluation of the epoch begins.
    pub fn begin_evaluation(&self) {
        self.bar.set_message("evaluating");
    }

    /// Shows the metrics of an epoch: one line of at most 80 columns.
    pub fn end_epoch(&self, metrics: &EpochMetrics, epochs: usize) {
        let width = epochs.to_string().len();
        self.line(&format!(
            "epoch {:>width$}/{epochs}  train {:.3} {:5.2} %  test {:.3} {:5.2} %  {}  {:.0} images/s",
            metrics.epoch,
            metrics.train_loss,
            metrics.train_top1,
            metrics.test_loss,
            metrics.test_top1,
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
            Shown::Bar(_) => self.bar.suspend(|| drop(writeln!(std::io::stderr(), "{text}"))),
            // Training continues if nobody reads the log any more.
            Shown::Lines => drop(writeln!(std::io::stderr(), "{text}")),
            Shown::Nothing => {}
        }
    }
}

fn shown(terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> Shown {
    // https://no-color.org: set and not empty, whatever the value.
    let colored = variable("NO_COLOR").is_none_or(|value| value.is_empty());
    match terminal && variable("TERM").is_none_or(|term| term != "dumb") {
        true => Shown::Bar(Style { colored, narrow: false }),
        false => Shown::Lines,
    }
}

impl Style {
    fn template(self) -> ProgressStyle {
        let template = match self {
            Self { narrow: true, .. } => "{prefix} {wide_msg}",
            Self { colored: true, .. } => "{prefix} {wide_bar:.cyan/blue} {msg}",
            Self { colored: false, .. } => "{prefix} {wide_bar} {msg}",
        };
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_needs_a_terminal_that_moves_its_cursor() {
        let with = |name: &'static str, value: &'static str| move |asked: &str| (asked == name).then(|| value.into());
        let bar = |colored| Shown::Bar(Style { colored, narrow: false });
        assert_eq!(shown(true, |_| None), bar(true));
        assert_eq!(shown(false, |_| None), Shown::Lines);
        assert_eq!(shown(true, with("TERM", "dumb")), Shown::Lines);
        assert_eq!(shown(true, with("TERM", "xterm-256color")), bar(true));
        assert_eq!(shown(true, with("NO_COLOR", "1")), bar(false));
        assert_eq!(shown(true, with("NO_COLOR", "")), bar(true));
    }
}
