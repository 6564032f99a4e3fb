//! What the smallest reproduction shows beside its runs: exact equivalences, and the shipped models on a few test images.

use std::process::Command;

use anyhow::{Result, ensure};
use serde::Deserialize;

use crate::files::{read_json, shown};
use crate::terminal::{aligned, print as show};
use crate::trainer::Trainer;
use crate::weights::{self, Card};
use crate::workspace::root;

/// A line of `convnn equivalences --json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Equivalence {
    /// The operation.
    pub operation: String,
    /// What ConvNN chooses to compute it.
    pub choices: String,
    /// The largest difference in f64.
    pub f64: f64,
    /// The largest difference in f32.
    pub f32: f64,
}

/// A shipped model on the embedded test images, and on the full test set as its card says.
#[derive(Clone, Debug)]
pub struct Shipped {
    /// Its folder in `weights/`.
    pub name: String,
    /// Top-1 on the embedded images, with its 95 % interval.
    pub here: (f64, [f64; 2]),
    /// The number of embedded images.
    pub images: u64,
    /// Top-1 on the full test set, with its 95 % interval.
    pub card: (f64, [f64; 2]),
}

#[derive(Deserialize)]
struct Evaluated {
    top1: f64,
    top1_interval: [f64; 2],
    images: u64,
}

/// Measures the equivalences.
pub fn equivalences(trainer: &Trainer) -> Result<Vec<Equivalence>> {
    trainer.json(Command::new(&trainer.program).args(["equivalences", "--json"]))
}

/// Evaluates the shipped models for CIFAR-10 on the embedded test images.
pub fn shipped(trainer: &Trainer) -> Result<Vec<Shipped>> {
    let mut all = Vec::new();
    for name in weights::folders(&root().join("weights"))? {
        let folder = root().join("weights").join(&name);
        let card: Card = read_json(&folder.join("evaluation.json"))?;
        if card.dataset != "cifar10" {
            continue;
        }
        let mut command = Command::new(&trainer.program);
        command.arg("eval").arg(&folder).args(["--data", "sample", "--json"]);
        let now: Evaluated = trainer.json(&mut command)?;
        all.push(Shipped {
            name,
            here: (now.top1, now.top1_interval),
            images: now.images,
            card: (card.top1, card.interval),
        });
    }
    Ok(all)
}

/// How much the results of an operation and of its equivalent may differ, in f64 and in f32: the rounding of sums.
const EQUAL: (f64, f64) = (1e-9, 1e-3);

/// Prints both.
///
/// # Errors
/// If an operation differs from ConvNN by more than rounding, or a shipped model cannot be evaluated.
pub fn print(trainer: &Trainer) -> Result<()> {
    let mut lines = vec![["operation", "as ConvNN", "off by (f64)", "(f32)"].map(str::to_owned).to_vec()];
    let equivalences = equivalences(trainer)?;
    for found in &equivalences {
        let Equivalence { operation, f64, f32, .. } = found;
        ensure!(*f64 <= EQUAL.0 && *f32 <= EQUAL.1, "{operation} is off by {f64:.1e} in f64 and {f32:.1e} in f32");
    }
    for found in equivalences {
        let off = |value: f64| if value == 0.0 { "0".to_owned() } else { format!("{value:.1e}") };
        lines.push(vec![found.operation, found.choices, off(found.f64), off(found.f32)]);
    }
    let mut text = format!("\nConvolution and attention are ConvNN\n{}", aligned(&lines));
    let models = shipped(trainer)?;
    if let Some(first) = models.first() {
        let embedded = format!("{} embedded images", first.images);
        let heading = ["shipped model", &embedded, "all 10,000 (card)"];
        let mut lines = vec![heading.map(str::to_owned).to_vec()];
        let cell = |(top1, [low, high]): (f64, [f64; 2])| format!("{top1:.1} % ({low:.1}–{high:.1})");
        for model in &models {
            lines.push(vec![model.name.clone(), cell(model.here), cell(model.card)]);
        }
        text += &format!(
            "\nThe models in {}, top-1 with its 95 % interval\n{}",
            shown(&root().join("weights")),
            aligned(&lines)
        );
    }
    Ok(show(&text)?)
}
