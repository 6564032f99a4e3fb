//! `convnn eval`.

use super::output::{print, start_log, write};
use super::set_threads;
use candle_core::DType;
use convnn_data::{DatasetName, Loader, picture_classes};
use convnn_train::config::is_folder;
use convnn_train::evaluation::Evaluation;
use convnn_train::images;
use convnn_train::precision::Precision;
use convnn_train::progress::Progress;
use convnn_train::room;
use convnn_train::text::{Table, printable};
use convnn_train::view::View;
use convnn_train::weights::Weights;
use convnn_train::{Error, Result};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Evaluate trained weights on the test images: overall and per-class accuracy, loss, confusion matrix, calibration error
///
/// Nothing is written unless --csv or --svg asks for it, so a run folder may be read-only.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run folder (its newest checkpoint is used), a checkpoint folder, a weights folder, or hub:OWNER/NAME, optionally
    /// with @REVISION
    path: PathBuf,
    /// A folder of pictures or of the official files, `sample`, or `hub` [default: as in the run, or else CONVNN_DATA,
    /// the user's cache folder, or the hub]
    #[arg(long, value_name = "DIR|sample|hub")]
    data: Option<PathBuf>,
    /// cifar10, cifar100, mnist, fashion_mnist or folder [default: as in the run, folder if --data is one of pictures, or else
    /// the one with as many classes as the model]
    #[arg(long, value_name = "NAME")]
    dataset: Option<DatasetName>,
    /// Average the class probabilities of every image and its mirror image; takes twice as long
    #[arg(long)]
    flips: bool,
    /// Evaluate in f64 too, and show how many neighbors and classes depend on rounding; takes several times as long
    #[arg(long, conflicts_with = "flips")]
    f64: bool,
    /// Number of images per batch; it changes the speed, not the accuracy
    #[arg(long, value_name = "N", default_value_t = 100)]
    batch_size: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write the confusion matrix: a row per true class, a column per predicted one
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write a picture of the confusion matrix
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Number of threads [default: RAYON_NUM_THREADS, or one per processor]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// Evaluates, and prints the result.
pub fn run(args: &Args) -> Result<()> {
    let progress = Progress::stderr();
    start_log(&progress);
    set_threads(args.threads)?;
    let weights = Weights::open(&args.path)?;
    let named = args.data.as_deref().or(weights.data.as_deref().map(Path::new));
    let dataset = dataset(args.dataset, named, &weights)?;
    let data = images::open(named, dataset, &weights.config, weights.test_share)?;
    weights.check_classes(&data)?;
    room::check_evaluation(&weights.config, args.batch_size, data.test.len())?;
    let session = weights.session()?;
    let loader = session.test_loader_for(&weights, &data, args.batch_size)?;
    let started = Instant::now();
    progress.begin("evaluating".to_owned(), loader.images(), 0, 0);
    let view = if args.flips { View::Flips } else { View::Image };
    let mut evaluation = Evaluation::new(weights.config.classes());
    let tally = session.predict(&loader, view, |tally, logits, labels| {
        evaluation.add(logits, labels)?;
        progress.step(tally);
        Ok(true)
    })?;
    progress.finish();
    evaluation.tally = tally.unwrap_or_default();
    let seconds = started.elapsed().as_secs_f64();
    let precision = args.f64.then(|| in_f64(&weights, &loader, &progress)).transpose()?;
    let names = class_names(&data.classes, weights.config.classes());
    let about = About { dataset, data: &data.origin, weights: &weights.origin, seconds, precision };
    print(&if args.json { json(&evaluation, &names, &about) } else { text(&evaluation, &names, &about) })?;
    if let Some(path) = &args.csv {
        write(path, evaluation.csv(&names))?;
    }
    if let Some(path) = &args.svg {
        let title = format!(
            "{}: {} test images, {:.2} % right",
            dataset.title(),
            evaluation.tally.images,
            evaluation.tally.top1_percent()
        );
        write(path, evaluation.svg(&names, &title)?)?;
    }
    Ok(())
}

/// What was evaluated.
struct About<'a> {
    dataset: DatasetName,
    data: &'a str,
    weights: &'a Path,
    seconds: f64,
    precision: Option<Precision>,
}

/// The test images in f32 and in f64, without mirror images.
fn in_f64(weights: &Weights, loader: &Loader, progress: &Progress) -> Result<Precision> {
    let [narrow, wide] = [weights.model(DType::F32)?, weights.model(DType::F64)?];
    let mut precision = Precision::default();
    progress.begin("evaluating in f64".to_owned(), loader.images(), 0, 0);
    for batch in loader.epoch(0)? {
        let batch = batch?;
        precision.add([&narrow, &wide], &batch.images, &batch.labels)?;
        progress.step(&precision.tally);
    }
    progress.finish();
    Ok(precision)
}

fn json(evaluation: &Evaluation, names: &[String], about: &About<'_>) -> String {
    let tally = &evaluation.tally;
    let classes: Vec<_> = evaluation
        .classes()
        .into_iter()
        .zip(names)
        .map(|(class, name)| {
            serde_json::json!({
                "name": name,
                "images": class.images,
                "recall": percent(class.right, class.images),
                "precision": percent(class.right, class.predicted),
            })
        })
        .collect();
    serde_json::json!({
        "top1": tally.top1_percent(),
        "top1_interval": evaluation.interval().map(|(low, high)| [low, high]),
        "top5": tally.top5_percent(),
        "loss": tally.mean_loss(),
        "calibration_error": evaluation.calibration_percent(),
        "images": tally.images,
        "seconds": about.seconds,
        "dataset": about.dataset,
        "data": about.data,
        "weights": about.weights.display().to_string(),
        "classes": classes,
        "confusion": evaluation.confusion,
        "f64": about.precision.as_ref().map(|found| serde_json::json!({
            "top1": found.tally.top1_percent(),
            "reclassified": found.reclassified,
            "other_neighbors": found
                .layers
                .iter()
                .map(|layer| serde_json::json!({"layer": layer.number, "percent": layer.other_percent()}))
                .collect::<Vec<_>>(),
        })),
    })
    .to_string()
}

fn text(evaluation: &Evaluation, names: &[String], about: &About<'_>) -> String {
    let tally = &evaluation.tally;
    let share = |right: u64, of: u64| percent(right, of).map_or_else(|| "–".to_owned(), |value| format!("{value:.1}"));
    let mut table = Table::new(&["class", "images", "recall %", "precision %", "most often taken for"]).left(4);
    for (class, name) in evaluation.classes().into_iter().zip(names) {
        let confused = class.confused_with.and_then(|(other, count)| Some((names.get(other)?, count)));
        table.row(vec![
            printable(name),
            class.images.to_string(),
            share(class.right, class.images),
            share(class.right, class.predicted),
            confused.map_or_else(String::new, |(other, count)| format!("{} ({count}×)", printable(other))),
        ]);
    }
    let interval = evaluation
        .interval()
        .map_or_else(String::new, |(low, high)| format!("   95 % interval {low:.2} – {high:.2} %"));
    let mut lines = table.lines();
    let precision = about.precision.as_ref().map_or_else(Vec::new, |found| {
        let layers = found.layers.iter().map(|layer| format!("{:.2}", layer.other_percent())).collect::<Vec<_>>();
        let mut lines = vec![format!(
            "top-1 in f64       {:.2} %   {} of {} images change class",
            found.tally.top1_percent(),
            found.reclassified,
            found.tally.images
        )];
        if !layers.is_empty() {
            lines.push(format!("neighbors in f64   {} % differ, layer by layer", layers.join(", ")));
        }
        lines
    });
    lines.extend([
        String::new(),
        format!("top-1              {:.2} %{interval}", tally.top1_percent()),
        format!("top-5              {:.2} %", tally.top5_percent()),
        format!("loss               {:.4}", tally.mean_loss()),
        format!(
            "calibration error  {:.2} %   mean distance of confidence and accuracy",
            evaluation.calibration_percent()
        ),
    ]);
    lines.extend(precision);
    lines.extend([
        format!(
            "evaluated          {} test images of {} in {:.1} s",
            tally.images,
            about.dataset.title(),
            about.seconds
        ),
        format!("weights            {}", printable(&about.weights.display().to_string())),
    ]);
    lines.join("\n")
}

fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| 100.0 * part as f64 / whole as f64)
}

/// The names of the classes, or their numbers.
fn class_names(names: &[String], classes: usize) -> Vec<String> {
    match names.len() == classes {
        true => names.to_vec(),
        false => (0..classes).map(|class| class.to_string()).collect(),
    }
}

/// The data set requested, which must have as many classes as the model, or else the one that has.
pub(super) fn dataset(requested: Option<DatasetName>, named: Option<&Path>, weights: &Weights) -> Result<DatasetName> {
    let classes = weights.config.classes();
    let fits = |name: &DatasetName| name.classes().is_none_or(|found| found == classes);
    let wrong = |found: String| Error::Value {
        key: "--dataset".to_owned(),
        found,
        expected: format!("a data set of {classes} classes, the number of the model in {}", weights.origin.display()),
    };
    let folder = named.filter(|path| path.to_str().is_none_or(is_folder));
    let pictures = folder.and_then(picture_classes).map(|_| DatasetName::Folder);
    match requested.or(pictures).or(weights.dataset) {
        Some(name) if fits(&name) => Ok(name),
        Some(name) => Err(wrong(name.to_string())),
        None => DatasetName::ALL.into_iter().find(fits).ok_or_else(|| wrong("missing".to_owned())),
    }
}
