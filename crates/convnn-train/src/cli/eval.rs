//! `convnn eval`.

use super::output::{print, start_log};
use super::set_threads;
use convnn_data::{DatasetName, picture_classes};
use convnn_train::images;
use convnn_train::progress::Progress;
use convnn_train::text::printable;
use convnn_train::view::View;
use convnn_train::weights::Weights;
use convnn_train::{Error, Result};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Evaluate trained weights on the test images: loss, top-1 and top-5
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run folder (its newest checkpoint is used), a checkpoint folder, or a weights folder
    path: PathBuf,
    /// A folder of pictures or of the official files, `sample`, or `hub` [default: as in the run, or else CONVNN_DATA, the
    /// cache folder of the user, or the hub]
    #[arg(long, value_name = "DIR|sample|hub")]
    data: Option<PathBuf>,
    /// cifar10, cifar100, mnist, fashion_mnist or folder [default: as in the run, folder if --data is one of pictures, or else
    /// the one with as many classes as the model]
    #[arg(long, value_name = "NAME")]
    dataset: Option<DatasetName>,
    /// Average the class probabilities of every image and its mirror image; takes twice as long
    #[arg(long)]
    flips: bool,
    /// Number of images per batch; it changes the speed, not the accuracy
    #[arg(long, value_name = "N", default_value_t = 100)]
    batch_size: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
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
    let dataset = dataset(args, named, &weights)?;
    let data = images::open(named, dataset, &weights.config, weights.test_share)?;
    weights.check_classes(&data)?;
    let session = weights.session()?;
    let loader = session.test_loader(&data, args.batch_size)?;
    let started = Instant::now();
    progress.begin("evaluating".to_owned(), loader.images(), 0, 0);
    let view = if args.flips { View::Flips } else { View::Image };
    let tally = session.evaluate_with(&loader, view, |tally| {
        progress.step(tally.images, tally.mean_loss());
        true
    })?;
    progress.finish();
    let tally = tally.unwrap_or_default();
    let seconds = started.elapsed().as_secs_f64();
    let (top1, top5, loss) = (tally.top1_percent(), tally.top5_percent(), tally.mean_loss());
    print(&match args.json {
        true => serde_json::json!({
            "top1": top1,
            "top5": top5,
            "loss": loss,
            "images": tally.images,
            "seconds": seconds,
            "dataset": dataset,
            "data": data.origin,
            "weights": weights.origin.display().to_string(),
        })
        .to_string(),
        false => format!(
            "top-1 {top1:.2} %   top-5 {top5:.2} %   loss {loss:.4}   {} test images of {} in {seconds:.1} s\n{}",
            tally.images,
            dataset.title(),
            printable(&weights.origin.display().to_string())
        ),
    })
}

/// The data set requested, which must have as many classes as the model, or else the one that has.
fn dataset(args: &Args, named: Option<&Path>, weights: &Weights) -> Result<DatasetName> {
    let classes = weights.config.classes();
    let fits = |name: &DatasetName| name.classes().is_none_or(|found| found == classes);
    let wrong = |found: String| Error::Value {
        key: "--dataset".to_owned(),
        found,
        expected: format!("a data set of {classes} classes, the number of the model in {}", weights.origin.display()),
    };
    let pictures = named.and_then(picture_classes).map(|_| DatasetName::Folder);
    match args.dataset.or(pictures).or(weights.dataset) {
        Some(name) if fits(&name) => Ok(name),
        Some(name) => Err(wrong(name.to_string())),
        None => DatasetName::ALL.into_iter().find(fits).ok_or_else(|| wrong("missing".to_owned())),
    }
}
