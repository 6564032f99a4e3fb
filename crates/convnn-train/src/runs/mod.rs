//! Looking at run folders from outside: what state they are in, and how they compare.
//!
//! Nothing is written, and nothing is trusted: a run may be starting, writing or damaged at this moment.

mod compare;
mod page;

pub use compare::{differing_keys, table as compare_table};
pub use page::page;

use crate::config::flatten;
use crate::curves::RunPoint;
use crate::lock;
use crate::statistics::wilson_of_percent;
use crate::text::printable;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The file that holds the message of the error that ended a run.
pub const ERROR: &str = "error.txt";

/// How far below a folder runs are looked for.
const DEPTH: usize = 3;

/// How a run ended, if it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// A process is working on it.
    Running,
    /// It was stopped, or its process is gone.
    Stopped,
    /// An error ended it.
    Failed,
    /// It is complete.
    Done,
}

impl State {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Done => "done",
        }
    }
}

/// What a run folder tells.
#[derive(Clone, Debug)]
pub struct RunView {
    /// The folder.
    pub path: PathBuf,
    /// How the run ended, if it has.
    pub state: State,
    /// The configuration by keys such as `layer.neighbors`; empty if it cannot be read.
    pub keys: BTreeMap<String, String>,
    /// The finished epochs.
    pub points: Vec<RunPoint>,
    /// Number of test images, if known.
    pub test_images: Option<u64>,
    /// Seconds since something in the folder changed.
    pub age: f64,
    /// The error that ended it.
    pub error: Option<String>,
}

impl RunView {
    /// Reads what there is in the run folder `path`; `None` if it holds no run.
    pub fn read(path: &Path, now: SystemTime) -> Option<Self> {
        let config = fs::read_to_string(path.join("config.toml")).ok()?;
        let word = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let values = config.parse::<toml::Table>().map(|table| flatten(&table)).unwrap_or_default();
        let keys: BTreeMap<String, String> = values.into_iter().map(|(key, value)| (key, word(value))).collect();
        let error = fs::read_to_string(path.join(ERROR)).ok().and_then(|text| text.lines().next().map(str::to_owned));
        let planned: Option<u64> = keys.get("epochs").and_then(|epochs| epochs.parse().ok());
        let result = json(&path.join("result.json")).and_then(|result| result.get("epochs")?.as_u64());
        // The result of a run that is being extended is that of fewer epochs.
        let is_whole = path.join("DONE").exists() && result.zip(planned).is_none_or(|(found, all)| found == all);
        let state = match (is_whole, lock::is_held(path), &error) {
            (true, ..) => State::Done,
            (_, true, _) => State::Running,
            (_, _, Some(_)) => State::Failed,
            _ => State::Stopped,
        };
        let environment = json(&path.join("environment.json"));
        let test_images = environment.as_ref().and_then(|value| value.get("test_images")?.as_u64());
        Some(Self {
            path: path.to_owned(),
            state,
            keys,
            points: points(&path.join("metrics.jsonl")),
            test_images,
            age: age(path, now),
            error: error.filter(|_| state == State::Failed),
        })
    }

    /// The number of epochs that it is to have.
    pub fn epochs(&self) -> Option<&str> {
        self.keys.get("epochs").map(String::as_str)
    }

    /// The last finished epoch.
    pub fn last(&self) -> Option<&RunPoint> {
        self.points.last()
    }

    /// Test top-1 of the last epoch in percent.
    pub fn top1(&self) -> Option<f64> {
        self.last()?.test_top1
    }

    /// Validation top-1 of the last epoch in percent, if images were held out.
    pub fn validation_top1(&self) -> Option<f64> {
        self.last()?.validation_top1
    }

    /// Test top-1 of the best epoch, with the epoch: the one with the highest validation top-1, or with the highest test
    /// top-1 where no images were held out.
    pub fn best(&self) -> Option<(f64, i32)> {
        let scored =
            |point: &RunPoint| Some((point.validation_top1.or(point.test_top1)?, point.test_top1?, point.epoch));
        let best = self.points.iter().filter_map(scored).reduce(|best, next| if next.0 > best.0 { next } else { best });
        best.map(|(_, top1, epoch)| (top1, epoch))
    }

    /// The 95 % interval of [`Self::top1`].
    pub fn interval(&self) -> Option<(f64, f64)> {
        wilson_of_percent(self.top1()?, self.test_images?)
    }

    /// `3/10`, or `3` if the whole is not known.
    pub fn progress(&self) -> String {
        let done = self.last().map_or(0, |point| point.epoch);
        self.epochs().map_or_else(|| done.to_string(), |epochs| format!("{done}/{epochs}"))
    }

    /// All of it as JSON.
    pub fn json(&self) -> Value {
        serde_json::json!({
            "path": self.path.display().to_string(),
            "state": self.state,
            "epoch": self.last().map_or(0, |point| point.epoch),
            "epochs": self.epochs().and_then(|text| text.parse::<u64>().ok()),
            "top1": self.top1(),
            "interval": self.interval().map(|(low, high)| [low, high]),
            "validation_top1": self.validation_top1(),
            "best_top1": self.best().map(|best| best.0),
            "best_epoch": self.best().map(|best| best.1),
            "test_images": self.test_images,
            "age_seconds": self.age.round(),
            "error": self.error,
            "config": self.keys,
        })
    }
}

/// The curves of runs as a standalone picture.
///
/// # Errors
/// If they cannot be drawn.
pub fn svg(runs: &[RunView]) -> crate::Result<String> {
    page::svg(runs, convnn_chart::Medium::File)
}

/// The path of a run as it is shown.
pub(crate) fn name(run: &RunView) -> String {
    printable(&run.path.display().to_string())
}

/// The runs in `folder` and below, by path; it may be a run itself.
pub fn find(folder: &Path, now: SystemTime) -> Vec<RunView> {
    let mut found = Vec::new();
    search(folder, DEPTH, now, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn search(folder: &Path, depth: usize, now: SystemTime, found: &mut Vec<RunView>) {
    if let Some(run) = RunView::read(folder, now) {
        found.push(run);
        return;
    }
    let Some(depth) = depth.checked_sub(1) else { return };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        // Links are not followed, so that the search ends.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            search(&entry.path(), depth, now, found);
        }
    }
}

/// Seconds since the newest change of an entry of `path`.
fn age(path: &Path, now: SystemTime) -> f64 {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let times = entries.filter_map(|entry| entry.metadata().ok()?.modified().ok());
    times.max().and_then(|time| now.duration_since(time).ok()).unwrap_or_default().as_secs_f64()
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// The epochs in `metrics.jsonl`; a line that is not complete is left out.
fn points(path: &Path) -> Vec<RunPoint> {
    let text = fs::read(path).unwrap_or_default();
    let lines = text.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let point = |line: Value| {
        let number = |key: &str| line.get(key).and_then(Value::as_f64);
        Some(RunPoint {
            epoch: i32::try_from(line.get("epoch")?.as_u64()?).ok()?,
            test_top1: number("test_top1"),
            validation_top1: number("validation_top1"),
            test_loss: number("test_loss"),
            train_loss: number("train_loss"),
        })
    };
    lines.filter_map(point).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const METRICS: &str = "{\"epoch\": 1, \"test_top1\": 30.0, \"test_loss\": 2.0, \"train_loss\": 2.1}\n\
                           {\"epoch\": 2, \"test_top1\": 25.0, \"test_loss\": 1.9}\n{\"epoch\": 3, \"test_t";

    fn run(folder: &Path, config: &str) -> PathBuf {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("config.toml"), config).unwrap();
        fs::write(folder.join("metrics.jsonl"), METRICS).unwrap();
        folder.to_owned()
    }

    #[test]
    fn a_half_written_run_is_read_as_far_as_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = run(&folder.path().join("a"), "epochs = 5\n[layer]\nneighbors = 9\n");
        fs::write(path.join("environment.json"), "{\"test_images\": 200}").unwrap();
        let view = RunView::read(&path, SystemTime::now()).unwrap();
        assert_eq!((view.state, view.progress().as_str()), (State::Stopped, "2/5"));
        assert_eq!((view.top1(), view.best()), (Some(25.0), Some((30.0, 1))));
        assert_eq!(view.interval(), crate::statistics::wilson(50, 200));
        assert_eq!(view.keys["layer.neighbors"], "9");
        assert_eq!(view.points[1].train_loss, None);

        for (file, bytes) in
            [("config.toml", &b"epochs = "[..]), ("environment.json", b"{"), ("metrics.jsonl", b"\xff\n[]\n7")]
        {
            fs::write(path.join(file), bytes).unwrap();
        }
        let view = RunView::read(&path, SystemTime::now()).unwrap();
        assert_eq!((view.progress().as_str(), view.top1(), view.interval()), ("0", None, None));
        assert!(RunView::read(folder.path(), SystemTime::now()).is_none());
    }

    #[test]
    fn validation_images_choose_the_best_epoch() {
        let folder = tempfile::tempdir().unwrap();
        let path = run(folder.path(), "epochs = 3");
        let line = |epoch: i32, test: f64, validation: f64| {
            format!("{{\"epoch\": {epoch}, \"test_top1\": {test}, \"validation_top1\": {validation}}}\n")
        };
        fs::write(path.join("metrics.jsonl"), line(1, 30.0, 20.0) + &line(2, 25.0, 22.0) + &line(3, 28.0, 21.0))
            .unwrap();
        let view = RunView::read(&path, SystemTime::now()).unwrap();
        assert_eq!((view.best(), view.validation_top1()), (Some((25.0, 2)), Some(21.0)));
        assert_eq!(view.json()["validation_top1"], 21.0);
    }

    #[test]
    fn states() {
        let folder = tempfile::tempdir().unwrap();
        let path = run(&folder.path().join("deep/er/b"), "epochs = 2");
        let state = || find(folder.path(), SystemTime::now()).first().map(|run| run.state);
        assert_eq!(state(), Some(State::Stopped));
        fs::write(path.join(ERROR), "the loss is NaN\n").unwrap();
        assert_eq!(state(), Some(State::Failed));

        fs::write(path.join(".lock"), format!("{}\n", std::process::id())).unwrap();
        assert_eq!(state(), Some(State::Failed));
        let lock = fs::File::open(path.join(".lock")).unwrap();
        lock.try_lock().unwrap();
        assert_eq!(state(), Some(State::Running));
        drop(lock);

        fs::write(path.join("DONE"), "").unwrap();
        assert_eq!(state(), Some(State::Done));

        // Whether a process of another host runs cannot be told.
        fs::write(path.join("result.json"), "{\"epochs\": 1}").unwrap();
        fs::write(path.join(".lock"), "7 elsewhere\n").unwrap();
        assert_eq!(state(), Some(State::Running), "it is being extended");
        fs::write(path.join("result.json"), "{\"epochs\": 2}").unwrap();
        assert_eq!(state(), Some(State::Done));
    }
}
