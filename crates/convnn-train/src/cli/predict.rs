//! `convnn predict`.

use super::output::{print, start_log};
use super::set_threads;
use convnn_image::{Picture, PictureError};
use convnn_train::prediction::{CONFIDENT, Candidate, Classifier};
use convnn_train::progress::Progress;
use convnn_train::text::printable;
use convnn_train::view::View;
use convnn_train::weights::Weights;
use convnn_train::{Error, Result};
use rayon::prelude::*;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Classify pictures with the built-in model or your own weights
///
/// Pictures are PNG, JPEG or WebP files of any size; the shorter side is resized and the center is kept. The built-in
/// model knows the ten classes of CIFAR-10.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  convnn predict cat.jpg
  convnn predict photos/ --top 1
  convnn predict cat.jpg --weights runs/mine --json
  curl -s https://example.org/cat.jpg | convnn predict -")]
pub struct Args {
    /// Pictures, folders of pictures, or - for a picture on standard input
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// A run folder, a checkpoint folder, a weights folder, or hub:OWNER/NAME, optionally with @REVISION [default: the
    /// built-in model]
    #[arg(long, value_name = "DIR")]
    weights: Option<PathBuf>,
    /// Number of classes to show per picture
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// Average the class probabilities of every picture and its mirror image; takes twice as long
    #[arg(long)]
    flips: bool,
    /// Print one JSON object per picture
    #[arg(long)]
    json: bool,
    /// Number of pictures per batch
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch_size: u32,
    /// Number of threads [default: RAYON_NUM_THREADS, or one per processor]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// Up to this number of pictures, each gets bars; more get a line each.
const WITH_BARS: usize = 8;

/// Predicts, and prints the classes of every picture.
pub fn run(args: &Args) -> Result<()> {
    start_log(&Progress::stderr());
    set_threads(args.threads)?;
    let images = list(&args.images)?;
    let weights = match &args.weights {
        Some(path) => Weights::open(path)?,
        None => Weights::embedded()?,
    };
    let classifier = Classifier::new(weights, if args.flips { View::Flips } else { View::Image })?;
    let mut unreadable = 0;
    for batch in images.chunks(args.batch_size as usize) {
        let read = |path: &PathBuf| picture(path).map(|picture| classifier.prepare(&picture));
        let read: Vec<_> = batch.par_iter().map(read).collect();
        let (mut names, mut prepared) = (Vec::new(), Vec::new());
        for (path, planes) in batch.iter().zip(read) {
            match planes {
                Ok(planes) => {
                    names.push(name(path));
                    prepared.push(planes);
                }
                Err(source) => {
                    let error = Error::Picture { name: name(path), source };
                    if images.len() == 1 {
                        return Err(error);
                    }
                    unreadable += 1;
                    tracing::error!("{error}");
                }
            }
        }
        if !prepared.is_empty() {
            for (name, candidates) in names.iter().zip(classifier.predict(&prepared)?) {
                let shown = &candidates[..candidates.len().min(args.top as usize)];
                print(&match (args.json, images.len() <= WITH_BARS) {
                    (true, _) => json(name, shown),
                    (false, true) => bars(name, shown),
                    (false, false) => line(name, shown),
                })?;
            }
        }
    }
    match unreadable {
        0 => Ok(()),
        _ => Err(Error::Pictures { unreadable, pictures: images.len() }),
    }
}

/// The pictures that the arguments name, those of a folder by name.
fn list(arguments: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut images = Vec::new();
    for path in arguments {
        if !path.is_dir() {
            images.push(path.clone());
            continue;
        }
        let entries = fs::read_dir(path).map_err(Error::io("read", path))?;
        let mut found: Vec<PathBuf> = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .filter(|path| path.as_ref().map_or(true, |path| is_picture(path)))
            .collect::<io::Result<_>>()
            .map_err(Error::io("read", path))?;
        if found.is_empty() {
            return Err(Error::Folder {
                folder: path.clone(),
                found: "holds no pictures".to_owned(),
                expected: "files that end in .png, .jpg, .jpeg or .webp".to_owned(),
            });
        }
        found.sort();
        images.append(&mut found);
    }
    Ok(images)
}

/// Whether a folder's file is one of its pictures: hidden ones, such as macOS's `._cat.jpg`, are not.
fn is_picture(path: &Path) -> bool {
    if path.is_dir() || path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
        return false;
    }
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    extension.is_some_and(|extension| ["png", "jpg", "jpeg", "webp"].contains(&&*extension))
}

const STDIN: &str = "-";

/// The most bytes of a picture on standard input.
const MOST_BYTES: u64 = 256 << 20;

/// The picture in a file, or on standard input.
pub(super) fn picture(path: &Path) -> std::result::Result<Picture, PictureError> {
    if path.as_os_str() != STDIN {
        return Picture::open(path);
    }
    let mut bytes = Vec::new();
    io::stdin().lock().take(MOST_BYTES).read_to_end(&mut bytes)?;
    Picture::decode(&bytes)
}

/// A picture's name in messages.
pub(super) fn name(path: &Path) -> String {
    if path.as_os_str() == STDIN { "standard input".to_owned() } else { path.display().to_string() }
}

fn is_confident(candidates: &[Candidate]) -> bool {
    candidates.first().is_some_and(|first| first.probability >= CONFIDENT)
}

fn json(name: &str, candidates: &[Candidate]) -> String {
    let confident = is_confident(candidates);
    serde_json::json!({ "image": name, "predictions": candidates, "confident": confident }).to_string()
}

fn bars(name: &str, candidates: &[Candidate]) -> String {
    let widest = candidates.iter().map(|candidate| printable(&candidate.label).chars().count()).max().unwrap_or(0);
    let mut lines = vec![printable(name)];
    for Candidate { label, probability, .. } in candidates {
        let bar = bar(*probability);
        lines.push(format!("  {:<widest$}  {bar:<BAR$}  {:5.1} %", printable(label), 100.0 * probability));
    }
    if !is_confident(candidates) {
        lines.push("  Low confidence: the picture may show none of the classes that the model knows.".to_owned());
    }
    lines.join("\n")
}

/// Width of a full bar.
const BAR: usize = 30;

/// A bar in steps of an eighth of a character.
fn bar(probability: f32) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (probability.clamp(0.0, 1.0) * (8 * BAR) as f32).round() as usize;
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

fn line(name: &str, candidates: &[Candidate]) -> String {
    let classes: Vec<_> = candidates
        .iter()
        .map(|Candidate { label, probability, .. }| format!("{} {:.1} %", printable(label), 100.0 * probability))
        .collect();
    let doubt = if is_confident(candidates) { "" } else { "   low confidence" };
    format!("{}: {}{doubt}", printable(name), classes.join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bars_are_as_long_as_the_probability() {
        assert_eq!(bar(0.0), "");
        assert_eq!(bar(1.0), "█".repeat(BAR));
        assert_eq!(bar(0.5), "█".repeat(15));
        assert_eq!(bar(1.0 / 240.0), "▏");
        assert_eq!(bar(f32::NAN).chars().count(), 0);
    }

    #[test]
    fn low_confidence_is_said() {
        let candidate = |probability| Candidate { class: 3, label: "cat\n".to_owned(), probability };
        let (sure, unsure) = ([candidate(0.5)], [candidate(0.4)]);
        assert!(bars("a", &unsure).contains("Low confidence") && !bars("a", &sure).contains("confidence"));
        assert_eq!(line("a", &unsure), "a: cat\\n 40.0 %   low confidence");
        let value: serde_json::Value = serde_json::from_str(&json("a", &sure)).unwrap();
        assert_eq!((value["confident"].as_bool(), value["predictions"][0]["class"].as_u64()), (Some(true), Some(3)));
    }
}
