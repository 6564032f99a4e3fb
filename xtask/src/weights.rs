//! `cargo xtask weights`: the trained models in `weights/`, made and checked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use convnn_chart::{Group, Means, Medium, Point, means};
use serde::Deserialize;

use crate::files::{list, read_json, read_toml, shown, write};
use crate::terminal::{print, say};
use crate::trainer::Trainer;
use crate::workspace::{data_folder, root};

/// Arguments of `weights`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(clap::Subcommand)]
enum Task {
    /// Evaluate every model in weights/ again, and compare with its model card
    ///
    /// Exit codes: 0 all agree, 1 one does not, 2 one could not be evaluated.
    Verify(Options),
    /// Draw the accuracy of the models in weights/, from their cards, as docs/results/weights.svg
    Chart,
    /// Train the models of weights/ again, and export them
    ///
    /// Interrupted runs resume, finished ones are only exported.
    Train {
        #[command(flatten)]
        options: Options,
        /// Where to put the run folders [default: runs/weights in the workspace]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Where to put the weights folders [default: weights in the workspace]
        #[arg(long, value_name = "DIR")]
        weights: Option<PathBuf>,
    },
}

#[derive(clap::Args)]
struct Options {
    /// The folder with the official files of CIFAR [default: CONVNN_DATA, or the user's cache folder]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Only these models
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Use this trainer instead of building one
    #[arg(long, value_name = "PROGRAM")]
    trainer: Option<PathBuf>,
}

impl Args {
    /// Runs the command.
    pub fn run(self) -> Result<ExitCode> {
        match self.task {
            Task::Verify(options) => options.verify(),
            Task::Chart => {
                let path = root().join(CHART);
                write(&path, &chart()?)?;
                print(&format!("{}\n", shown(&path)))?;
                Ok(ExitCode::SUCCESS)
            }
            Task::Train { options, out, weights } => {
                let out = out.unwrap_or_else(|| root().join("runs/weights"));
                options.train(&out, &weights.unwrap_or_else(|| root().join("weights")))
            }
        }
    }
}

/// What `evaluation.json` of a weights folder, and `convnn eval --json`, say of the test images.
#[derive(Debug, Deserialize, PartialEq)]
struct Evaluation {
    top1: f64,
    images: u64,
    #[serde(default)]
    top1_flips: Option<f64>,
}

/// The picture of all models.
const CHART: &str = "docs/results/weights.svg";

/// Test accuracy of the models in weights/, with 95 % intervals.
fn chart() -> Result<String> {
    let mut chart = Means {
        title: "The models in weights/, on 10,000 test images".to_owned(),
        y_label: "test top-1 (%)".to_owned(),
        ..Means::default()
    };
    let mut points = Vec::new();
    for name in folders(&root().join("weights"))? {
        let card: Card = read_json(&root().join("weights").join(&name).join("evaluation.json"))?;
        let x = chart.names.len() as f64;
        points.push(Point {
            x,
            mean: card.top1,
            sd: Some((card.interval[1] - card.interval[0]) / 2.0),
            values: Vec::new(),
        });
        chart.names.push(name.replace('_', " "));
    }
    let label = "top-1 with its 95 % interval".to_owned();
    chart.groups = vec![Group { label, points, ..Group::default() }];
    Ok(means(&[chart], 1, Medium::File)?)
}

/// What the card of a model says, in its `evaluation.json`.
#[derive(Debug, Deserialize)]
pub struct Card {
    /// Top-1 on all test images, in percent.
    pub top1: f64,
    /// Its 95 % interval.
    pub interval: [f64; 2],
    /// The data set.
    pub dataset: String,
}

/// Percentage points that an evaluation may differ from the card by: one test image of 10,000, and rounding.
const TOLERANCE: f64 = 0.01 + 1e-6;

impl Options {
    fn verify(&self) -> Result<ExitCode> {
        let names = self.named(&folders(&root().join("weights"))?, "folder in weights/")?;
        let trainer = self.trainer()?;
        let mut differs = false;
        let width = names.iter().map(String::len).max().unwrap_or(0);
        print(&format!("{:<width$}  {:>7}  {:>7}  {:>7}  {:>7}\n", "model", "card %", "now %", "flips %", "now %"))?;
        for name in names {
            let folder = root().join("weights").join(&name);
            let card: Evaluation = read_json(&folder.join("evaluation.json"))?;
            let now = evaluate(&trainer, &folder, false)?;
            ensure!(now.images == card.images, "{name}: {} test images; the card has {}", now.images, card.images);
            let mut pairs = vec![(card.top1, now.top1)];
            if let Some(flips) = card.top1_flips {
                pairs.push((flips, evaluate(&trainer, &folder, true)?.top1));
            }
            let agrees = pairs.iter().all(|(card, now)| (card - now).abs() <= TOLERANCE);
            differs |= !agrees;
            let cells: String = pairs.iter().map(|(card, now)| format!("  {card:>7.2}  {now:>7.2}")).collect();
            print(&format!("{name:<width$}{cells}{}\n", if agrees { "" } else { "  differs" }))?;
        }
        Ok(ExitCode::from(u8::from(differs)))
    }

    fn train(&self, out: &Path, weights: &Path) -> Result<ExitCode> {
        let recipes = list(&data_folder("weights"), "toml")?;
        let stem = |path: &PathBuf| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let names = self.named(&recipes.iter().map(stem).collect::<Vec<_>>(), "file in xtask/weights/")?;
        let trainer = self.trainer()?;
        for name in names {
            let (recipe, run) = (data_folder("weights").join(format!("{name}.toml")), out.join(&name));
            say(format_args!("{name}: {}", shown(&run)));
            let random = draws_candidates(&read_toml(&recipe)?);
            let mut train = command(&trainer, "train");
            Self::finish(train.arg("--config").arg(recipe).arg("--out").arg(&run).arg("--resume"), &name)?;
            let mut export = command(&trainer, "export");
            export.arg(&run).arg(weights.join(&name));
            export.args(["--half", "--flips", "--license", "MIT OR Apache-2.0"]);
            // What is drawn here cannot be drawn in PyTorch.
            export.args(if random { &[][..] } else { &["--to", "pytorch"] });
            Self::finish(&mut export, &name)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The names that were asked for, or all.
    fn named(&self, known: &[String], what: &str) -> Result<Vec<String>> {
        ensure!(!known.is_empty(), "found no {what}");
        for name in &self.only {
            ensure!(known.contains(name), "--only {name}: no such {what}; expected {}", known.join(", "));
        }
        Ok(known.iter().filter(|name| self.only.is_empty() || self.only.contains(name)).cloned().collect())
    }

    fn trainer(&self) -> Result<Trainer> {
        let data = self.data.as_deref().map(std::path::absolute).transpose()?;
        Ok(Trainer { data, ..Trainer::new(self.trainer.as_deref())? })
    }

    /// Runs the trainer; its messages go to our streams.
    fn finish(command: &mut Command, name: &str) -> Result<()> {
        let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
        if !status.success() {
            // Repeating does not help against invalid input.
            bail!("{name}: {status}{}", if status.code() == Some(2) { "" } else { "; repeat the command to continue" });
        }
        Ok(())
    }
}

/// Evaluates a weights folder.
fn evaluate(trainer: &Trainer, folder: &Path, flips: bool) -> Result<Evaluation> {
    let mut command = command(trainer, "eval");
    command.arg(folder).arg("--json").args(flips.then_some("--flips"));
    trainer.json(&mut command).with_context(|| format!("{} cannot be evaluated", shown(folder)))
}

/// A command of the trainer that needs the data.
fn command(trainer: &Trainer, name: &str) -> Command {
    let mut command = Command::new(&trainer.program);
    command.arg(name);
    if let Some(data) = &trainer.data {
        command.arg("--data").arg(data);
    }
    command
}

/// Whether the candidates of a recipe's layers are random.
fn draws_candidates(recipe: &toml::Table) -> bool {
    let preset = recipe.get("preset").and_then(toml::Value::as_str).unwrap_or_default();
    let candidates = recipe.get("layer").and_then(|layer| layer.get("candidates"));
    let is_random = |candidates: &toml::Value| match candidates {
        toml::Value::String(text) => text.starts_with("random"),
        other => other.get("random").is_some(),
    };
    candidates.map_or(preset.ends_with("_random"), is_random)
}

/// The names of the weights folders in `folder`, sorted.
pub fn folders(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", shown(folder)))? {
        let entry = entry?;
        if entry.path().join("evaluation.json").exists() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn only(names: &[&str]) -> Options {
        Options { data: None, only: names.iter().map(|&name| name.to_owned()).collect(), trainer: None }
    }

    #[test]
    fn models_are_chosen_by_name() {
        let known = ["a".to_owned(), "b".to_owned()];
        assert_eq!(only(&[]).named(&known, "folder").unwrap(), known);
        assert_eq!(only(&["b"]).named(&known, "folder").unwrap(), ["b"]);
        let error = only(&["c"]).named(&known, "folder").unwrap_err().to_string();
        assert_eq!(error, "--only c: no such folder; expected a, b");
        assert_eq!(only(&[]).named(&[], "folder").unwrap_err().to_string(), "found no folder");
    }

    #[test]
    fn random_candidates_are_noticed() {
        for (recipe, expected) in [
            ("preset = 'vit_compact_random'", true),
            ("preset = 'vit_compact_random'\n[layer]\ncandidates = 'all'", false),
            ("preset = 'vgg7'\n[layer]\ncandidates = 'random:16'", true),
            ("preset = 'vgg7'\n[layer.candidates.random]\nn = 16", true),
            ("preset = 'vgg7'\n[layer]\nbranch_ratio = 1.0", false),
        ] {
            assert_eq!(draws_candidates(&toml::from_str(recipe).unwrap()), expected, "{recipe}");
        }
    }

    #[test]
    fn the_chart_is_that_of_the_cards() {
        let drawn = crate::files::read(&root().join(CHART)).unwrap();
        assert_eq!(drawn, chart().unwrap(), "{CHART} is stale; draw it with `cargo xtask weights chart`");
    }

    #[test]
    fn every_model_has_its_recipe() {
        let recipes = list(&data_folder("weights"), "toml").unwrap();
        let recipes: Vec<_> = recipes.iter().map(|path| path.file_stem().unwrap().to_string_lossy()).collect();
        for name in folders(&root().join("weights")).unwrap() {
            assert!(recipes.contains(&name.as_str().into()), "weights/{name} has no recipe in xtask/weights");
            let recipe: toml::Table = read_toml(&data_folder("weights").join(format!("{name}.toml"))).unwrap();
            let trained: toml::Table = read_toml(&root().join("weights").join(&name).join("config.toml")).unwrap();
            for (key, value) in &recipe {
                match value.as_table() {
                    None => assert_eq!(trained.get(key), Some(value), "weights/{name} was not trained with `{key}`"),
                    Some(table) => {
                        for (name_of, value) in table {
                            assert_eq!(trained[key].get(name_of), Some(value), "weights/{name}: {key}.{name_of}");
                        }
                    }
                }
            }
        }
    }
}
