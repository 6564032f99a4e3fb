//! What is printed after a run: its results, where they lie, and what to do next.

use convnn_train::curves::CURVES;
use convnn_train::results::{RunResult, Score};
use convnn_train::statistics::wilson_of_percent;
use convnn_train::text::{Table, duration, grouped, printable, shell_word};
use std::path::Path;

/// The table and the next commands.
pub fn summary(result: &RunResult, path: &Path) -> String {
    let mut table = Table::new(&["test images", "epoch", "top-1 %", "95 % interval", "top-5 %", "loss"]);
    let mut row = |name: &str, epoch: String, score: &Score| {
        let interval = wilson_of_percent(score.top1, result.test_images);
        table.row(vec![
            name.to_owned(),
            epoch,
            format!("{:.2}", score.top1),
            interval.map_or_else(|| "–".to_owned(), |(low, high)| format!("{low:.1} – {high:.1}")),
            format!("{:.2}", score.top5),
            format!("{:.4}", score.loss),
        ]);
    };
    row("last epoch", result.last.epoch.to_string(), &result.last);
    let averaged = result.last.epoch.min(5);
    let first = result.last.epoch + 1 - averaged;
    match averaged {
        0 | 1 => {}
        5 => row("mean of the last five", format!("{first}–{}", result.last.epoch), &result.last5),
        all => row(&format!("mean of all {all}"), format!("{first}–{}", result.last.epoch), &result.last5),
    }
    row("best epoch *", result.best.epoch.to_string(), &result.best);

    let folder = shell_word(&path.display().to_string());
    let inside = |name: &str| shell_word(&path.join(name).display().to_string());
    let shown = |name: &str| printable(&path.join(name).display().to_string());
    let longer = 2 * result.epochs;
    let mut lines = table.lines();
    lines.extend([
        match result.validation_images {
            0 => "* chosen on the test images, so it flatters the model".to_owned(),
            images => format!("* chosen on {} validation images", grouped(images)),
        },
        String::new(),
        format!(
            "time     {} ({} per epoch, including evaluation)",
            duration(result.seconds_per_epoch * result.last.epoch as f64),
            seconds(result.seconds_per_epoch)
        ),
        format!("model    {} parameters, {:.3} GFLOPs per image", grouped(result.params as u64), result.gflops),
        format!("weights  {}", shown("weights")),
        format!("curves   {}", shown(CURVES)),
        String::new(),
        "next:".to_owned(),
        format!("  convnn eval {folder}    # accuracy by class, confusions"),
    ]);
    // A run that stopped early has nothing more to learn.
    if result.last.epoch == result.epochs {
        lines.push(format!("  convnn train --out {folder} --resume --epochs {longer}"));
    }
    lines.push(format!("  tensorboard --logdir {}", inside("tensorboard")));
    if let Some(runs) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        lines.push(format!("  convnn runs {}", shell_word(&runs.display().to_string())));
    }
    lines.join("\n")
}

/// Seconds with a decimal if there are few.
fn seconds(seconds: f64) -> String {
    if seconds < 10.0 { format!("{seconds:.1} s") } else { duration(seconds) }
}
