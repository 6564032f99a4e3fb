//! Training curves as pictures: `curves.svg` of a run folder, and those of several runs side by side.

use crate::results::EpochMetrics;
use crate::{Error, Result};
use convnn_chart::{Line, Medium, Panel, curves};
use convnn_models::files::write_durably;
use std::path::Path;

/// The picture in a run folder.
pub const CURVES: &str = "curves.svg";

/// A value of an epoch, `None` if it was not measured.
type Value<'a> = &'a dyn Fn(&EpochMetrics) -> Option<f64>;

/// Draws loss, accuracy and learning rate of a run into `folder`. The file is replaced as a whole.
///
/// # Errors
/// If it cannot be written.
pub fn draw(folder: &Path, title: &str, history: &[EpochMetrics]) -> Result<()> {
    let path = folder.join(CURVES);
    let line = |label: &str, value: Value<'_>| Line {
        label: label.to_owned(),
        solid: vec![history.iter().filter_map(|epoch| Some((epoch.epoch as i32, value(epoch)?))).collect()],
        ..Line::default()
    };
    let panel = |name: &str, y_label: &str, lines| Panel {
        title: format!("{title}: {name}"),
        x_label: "epoch".to_owned(),
        y_label: y_label.to_owned(),
        lines,
        dashed_label: None,
    };
    let held_out = history.iter().any(|epoch| epoch.validation_top1.is_some());
    let lines = |test: Value<'_>, train: Value<'_>, validation: Value<'_>| {
        let mut lines = vec![line("test", test), line("training, during the epoch", train)];
        if held_out {
            lines.push(line("validation", validation));
        }
        lines
    };
    let panels = [
        panel("accuracy", "top-1 (%)", lines(&|m| Some(m.test_top1), &|m| Some(m.train_top1), &|m| m.validation_top1)),
        panel("loss", "loss", lines(&|m| Some(m.test_loss), &|m| Some(m.train_loss), &|m| m.validation_loss)),
        panel("learning rate", "learning rate", vec![line("last step of the epoch", &|m| Some(m.learning_rate))]),
    ];
    let text = curves(&panels, panels.len(), Medium::File).map_err(|error| unwritable(&path, &error))?;
    write_durably(&path, text.as_bytes()).map_err(Error::io("write", &path))
}

/// Test accuracy, test loss and training loss of several runs, each a name with its points (epoch, top-1, test loss,
/// training loss).
///
/// # Errors
/// If it cannot be drawn.
pub fn compare(runs: &[(String, Vec<RunPoint>)], medium: Medium) -> Result<String> {
    let panel = |name: &str, y_label: &str, value: fn(&RunPoint) -> Option<f64>| Panel {
        title: name.to_owned(),
        x_label: "epoch".to_owned(),
        y_label: y_label.to_owned(),
        lines: runs
            .iter()
            .map(|(name, points)| Line {
                label: name.clone(),
                solid: vec![points.iter().filter_map(|point| Some((point.epoch, value(point)?))).collect()],
                ..Line::default()
            })
            .collect(),
        dashed_label: None,
    };
    let panels = [
        panel("test accuracy", "top-1 (%)", |point| point.test_top1),
        panel("test loss", "cross entropy (nats)", |point| point.test_loss),
        panel("training loss", "loss", |point| point.train_loss),
    ];
    curves(&panels, panels.len(), medium).map_err(|error| unwritable(Path::new("the picture"), &error))
}

/// What is known of an epoch of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunPoint {
    /// The epoch, counted from 1.
    pub epoch: i32,
    /// Test top-1 in percent.
    pub test_top1: Option<f64>,
    /// Top-1 in percent on the images held out for validation.
    pub validation_top1: Option<f64>,
    /// Mean test loss.
    pub test_loss: Option<f64>,
    /// Mean training loss.
    pub train_loss: Option<f64>,
}

fn unwritable(path: &Path, error: &convnn_chart::Error) -> Error {
    Error::Damaged { path: path.to_owned(), message: error.to_string() }
}
