//! What a model card says of a run.

use super::Measured;
use crate::Result;
use crate::config::RunConfig;
use crate::curves::CURVES;
use crate::metrics::Tally;
use crate::statistics::wilson;
use crate::text::grouped;

/// Where weights come from.
pub(super) struct Origin<'a> {
    pub config: &'a RunConfig,
    /// The epoch of the weights.
    pub epoch: usize,
    /// Whether they are those of the best epoch.
    pub best: bool,
    /// Where the training images came from.
    pub trained_on: &'a str,
    /// What was changed when the run was resumed.
    pub changes: &'a [String],
    /// Number of training images.
    pub images: usize,
    /// Number of validation images.
    pub validation_images: u64,
    pub half: bool,
    /// Whether the PyTorch program is there.
    pub pytorch: bool,
    pub has_curves: bool,
}

impl Origin<'_> {
    /// The rows of the table.
    pub fn rows(&self, measured: &Measured, flips: Option<&Tally>) -> Vec<(String, String)> {
        let config = self.config;
        let row = |what: &str, value: String| (what.to_owned(), value);
        let interval = |low: f64, high: f64| format!("95 % interval {low:.2} – {high:.2} %");
        let [low, high] = measured.interval;
        let images = grouped(measured.images);
        let title = config.dataset.title();
        let mut rows = vec![
            row("trained on", format!("{title}, {} images", grouped(self.images as u64))),
            row("epochs, seed", format!("{} of {}, {}", self.epoch, config.epochs, config.seed)),
            row("numbers stored as", if self.half { "f16" } else { "f32" }.to_owned()),
            row("test top-1", format!("**{:.2} %** on {images} images, {}", measured.top1, interval(low, high))),
        ];
        if let Some(tally) = flips {
            let interval = wilson(tally.top1, tally.images).map(|(low, high)| format!(", {}", interval(low, high)));
            let text = format!("{:.2} %{}", tally.top1_percent(), interval.unwrap_or_default());
            rows.push(row("test top-1 with mirror images", text));
        }
        rows
    }

    /// The sections after the table.
    pub fn sections(&self, license: Option<&str>) -> Result<String> {
        let config = self.config;
        let mut text = format!(
            "\n```console\n$ convnn predict picture.jpg --weights FOLDER\n$ convnn eval FOLDER --dataset {}{}\n```\n\n\
             ## Training\n\n```console\n$ {}\n```\n\n",
            config.dataset,
            if config.has_folder() { " --data DIR" } else { "" },
            config.command(self.images)?,
        );
        let version = env!("CARGO_PKG_VERSION");
        text += &match self.changes {
            [] => format!(
                "This command trained the weights, with convnn {version} and seed {}; on one kind of processor it gives the \
                 same bits again.",
                config.seed
            ),
            changes => format!(
                "The run had this configuration at its end, with convnn {version} and seed {}. It was changed on the way, so \
                 the command gives other weights: {}.",
                config.seed,
                changes.join("; ")
            ),
        };
        if config.has_folder() {
            text += " `DIR` is the folder with the images.";
        }
        text += " `config.toml` holds every key, `metrics.jsonl` every epoch.\n";
        if config.ema_decay.is_some() {
            text += "The weights are the moving average that the run evaluated.\n";
        }
        if self.pytorch {
            text += "\n## PyTorch\n\n```console\n$ python model.py --check\n$ python model.py picture.jpg\n```\n\n`model.py` is \
                     the model in plain PyTorch; `--check` compares its logits with those in `reference.safetensors`. In \
                     f32, near ties can lead to different neighbors; the script prints how many.\n";
        }
        if self.has_curves {
            text += &format!("\n## Curves\n\n![Accuracy, loss and learning rate over the epochs]({CURVES})\n");
        }
        text += "\n## Accuracy\n\nMeasured with the numbers in `model.safetensors`, after rounding; `evaluation.json` has \
                 it in machine-readable form. The interval is Wilson's: it covers the choice of test images, not the seed.\n";
        text += "\n## Limits\n\n";
        if self.best {
            text += &match self.validation_images {
                0 => "- The test images chose the epoch, so the accuracy flatters the model.\n".to_owned(),
                images => format!("- {} validation images chose the epoch.\n", grouped(images)),
            };
        }
        if self.trained_on == "embedded sample" {
            text += "- It was trained on a few hundred images, to show that every part works.\n";
        }
        text += &format!(
            "- It sees {side}×{side} pixels, and answers with one of {classes} classes whatever a picture shows.\n\
             - It is one run with one seed, for research; it has not been evaluated for bias or adversarial robustness.\n",
            side = config.model.image_size(),
            classes = config.model.classes(),
        );
        text += "\n## License\n\n";
        text += &match license {
            Some(name) => format!("The weights are licensed under `{name}`."),
            None => "No license of the weights was stated.".to_owned(),
        };
        text += " convnn, which trained them, is licensed under MIT or Apache-2.0, at your option; the images have their \
                 own terms.\n";
        Ok(text)
    }
}
