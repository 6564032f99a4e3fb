//! The runs of a preset, with stable ids.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Result, bail, ensure};

use crate::experiment::{Data, Experiments, Family, Preset, Row, Settings};

/// All runs of one preset.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The preset's name.
    pub name: &'a str,
    /// What the preset is for.
    pub preset: &'a Preset,
    /// The runs, by family and row in the order of the report.
    pub runs: Vec<Run<'a>>,
}

/// One run of the trainer.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// `FAMILY/ROW/seed_N`: the run's folder below the output folder.
    pub id: String,
    /// The family it belongs to.
    pub family: &'a Family,
    /// The row it belongs to.
    pub row: &'a Row,
    /// The trainer's preset.
    pub base: String,
    /// What it is trained on.
    pub data: Data,
    /// Epochs.
    pub epochs: u32,
    /// Seed.
    pub seed: u32,
    /// Settings of the family and the row; the row's take precedence.
    pub set: Settings,
}

impl<'a> Plan<'a> {
    /// Plans the preset `name`, with `seeds` runs per row instead of the preset's number. An unknown name is an error
    /// that lists the presets.
    pub fn new(experiments: &'a Experiments, name: &str, seeds: Option<u32>) -> Result<Self> {
        let Some((name, preset)) = experiments.presets.get_key_value(name) else {
            let known = (experiments.presets.iter()).map(|(name, preset)| format!("\n  {name}: {}", preset.summary));
            bail!("no preset `{name}`; available presets:{}", known.collect::<String>());
        };
        let mut runs = Vec::new();
        for family in &experiments.families {
            let Some(training) = family.presets.get(name) else {
                continue;
            };
            for row in &family.rows {
                let mut set = training.set.clone();
                set.extend(row.set.clone());
                for seed in 1..=seeds.unwrap_or(training.seeds) {
                    runs.push(Run {
                        id: format!("{}/{}/seed_{seed}", family.id, row.id),
                        family,
                        row,
                        base: match &row.variant {
                            Some(variant) => format!("{}_{variant}", training.base),
                            None => training.base.clone(),
                        },
                        data: training.data,
                        epochs: training.epochs,
                        seed,
                        set: set.clone(),
                    });
                }
            }
        }
        Ok(Self { name, preset, runs })
    }

    /// The runs whose id contains `only`. If there are none, an error lists all ids.
    pub fn select(&self, only: Option<&str>) -> Result<Vec<&Run<'a>>> {
        let wanted = only.unwrap_or_default();
        let selected: Vec<_> = self.runs.iter().filter(|run| run.id.contains(wanted)).collect();
        let ids = || (self.runs.iter()).map(|run| format!("\n  {}", run.id)).collect::<String>();
        ensure!(!selected.is_empty(), "no run of `{}` has `{wanted}` in its id; available runs:{}", self.name, ids());
        Ok(selected)
    }

    /// The families with runs in this plan, in order.
    pub fn families(&self) -> Vec<&'a Family> {
        let mut families: Vec<_> = self.runs.iter().map(|run| run.family).collect();
        families.dedup_by_key(|family| &family.id);
        families
    }
}

impl Run<'_> {
    /// The trainer's arguments except `--out` and `--resume`. `data` is the folder of the full data set.
    pub fn arguments(&self, data: Option<&Path>) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["train".into(), "--preset".into(), (&self.base).into()];
        for (key, value) in &self.set {
            arguments.extend(["--set".into(), format!("{key}={}", setting(value)).into()]);
        }
        match self.data {
            Data::Sample => arguments.extend(["--data".into(), "sample".into()]),
            Data::Cifar10 => arguments.extend(["--dataset".into(), "cifar10".into()]),
            Data::Cifar100 => arguments.extend(["--dataset".into(), "cifar100".into()]),
        }
        if let (Some(folder), false) = (data, self.data == Data::Sample) {
            arguments.extend(["--data".into(), folder.into()]);
        }
        arguments.extend(["--epochs".into(), self.epochs.to_string().into()]);
        arguments.extend(["--seed".into(), self.seed.to_string().into()]);
        arguments
    }

    /// The command that repeats this run, without its folder.
    pub fn command(&self) -> String {
        let words = self.arguments(None);
        let words = words.iter().map(|word| quoted(&word.to_string_lossy()));
        format!("convnn {}", words.collect::<Vec<_>>().join(" "))
    }
}

/// A value as the trainer's `--set` expects it: text without quotes, everything else as in TOML.
fn setting(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `word`, quoted for a shell if necessary.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::workspace::data_folder;

    fn experiments() -> Experiments {
        Experiments::read(&data_folder("experiments"), &data_folder("paper")).unwrap()
    }

    #[test]
    fn ids_are_unique_and_seeds_count_from_one() {
        let experiments = experiments();
        let one = Plan::new(&experiments, "quick", Some(1)).unwrap();
        let three = Plan::new(&experiments, "quick", Some(3)).unwrap();
        assert_eq!(three.runs.len(), 3 * one.runs.len());
        for run in &one.runs {
            assert_eq!(three.runs.iter().filter(|other| other.id == run.id).count(), 1);
        }
        assert_eq!(three.runs[2].seed, 3);
        assert_eq!(three.families().len(), experiments.families.len());
    }

    #[test]
    fn the_command_names_every_setting() {
        let experiments = experiments();
        let plan = Plan::new(&experiments, "quick", None).unwrap();
        let run = plan.select(Some("convnn_random/seed_1")).unwrap()[0];
        let command = run.command();
        assert!(command.starts_with("convnn train --preset vit_compact_random "), "{command}");
        assert!(command.ends_with("--dataset cifar10 --epochs 5 --seed 1"), "{command}");
    }

    #[test]
    fn settings_are_written_as_the_trainer_expects_them() {
        let experiments = experiments();
        let plan = Plan::new(&experiments, "quick", None).unwrap();
        let mut run = plan.runs[0].clone();
        run.set = toml::from_str("'layer.candidates' = { random = { n = 16 } }\n'layer.similarity' = 'dot'").unwrap();
        let expected = "--set 'layer.candidates={ random = { n = 16 } }' --set layer.similarity=dot ";
        assert!(run.command().contains(expected), "{}", run.command());
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_available() {
        let experiments = experiments();
        let error = Plan::new(&experiments, "smok", None).unwrap_err().to_string();
        assert!(error.contains("\n  smoke: "), "{error}");
        let plan = Plan::new(&experiments, "smoke", None).unwrap();
        let error = plan.select(Some("resnet")).unwrap_err().to_string();
        assert!(error.contains("\n  vgg_branch_ratio/ratio_0/seed_1"), "{error}");
    }
}
