//! `convnn eval`.

use super::output::{print, start_log};
use super::set_threads;
use convnn_data::{DatasetName, Search};
use convnn_train::progress::Progress;
use convnn_train::text::printable;
use convnn_train::weights::Weights;
use convnn_train::{Error, Result};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Evaluate trained weights on the test images: loss, top-1 and top-5
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run folder (its newest checkpoint is used), a checkpoint folder, or a weights folder
    path: PathBuf,
    /// A folder with the official binary files, `sample`, or `hub` [default: as in the run, or else CONVNN_DATA, the cache
    /// folder of the user, or the hub]
    #[arg(long, value_name = "DIR|sample|hub")]
    data: Option<PathBuf>,
    /// cifar10 or cifar100 [default: the one with as many classes as the model]
    #[arg(long, value_name = "NAME")]
    dataset: Option<DatasetName>,
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
    let dataset = dataset(args, &weights)?;
    let named = args.data.as_deref().or(weights.data.as_deref().map(Path::new));
    let data = Search::new(named, |name: &str| std::env::var_os(name)).open(dataset)?;
    let session = weights.session()?;
    let loader = session.test_loader(&data, args.batch_size)?;
    let started = Instant::now();
    progress.begin("evaluating".to_owned(), loader.images(), 0, 0);
    let tally = session.evaluate(&loader, |tally| {
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
fn dataset(args: &Args, weights: &Weights) -> Result<DatasetName> {
    let classes = weights.config.classes();
    let fits = |name: &DatasetName| name.classes() == classes;
    let wrong = |found: String| Error::Value {
        key: "--dataset".to_owned(),
        found,
        expected: format!("a data set of {classes} classes, the number of the model in {}", weights.origin.display()),
    };
    match args.dataset {
        Some(name) if fits(&name) => Ok(name),
        Some(name) => Err(wrong(name.to_string())),
        None => DatasetName::ALL.into_iter().find(fits).ok_or_else(|| wrong("missing".to_owned())),
    }
}
