//! `convnn export`.

use super::output::{print, start_log};
use super::set_threads;
use convnn_train::Result;
use convnn_train::export::{Epoch, Export};
use convnn_train::progress::Progress;
use convnn_train::text::{grouped, shell_word};
use std::path::PathBuf;

/// Make a weights folder to publish from a finished run: weights, model card, accuracy, curves, checksums
///
/// The test accuracy is that of the weights as they are stored, after rounding. A weights folder is replaced; other files
/// in it stay.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  convnn export runs/mine weights/mine --half --flips
  convnn push weights/mine OWNER/NAME")]
pub struct Args {
    /// The folder of a finished run
    run: PathBuf,
    /// The weights folder to write: one to replace, an empty folder, or a new one
    dir: PathBuf,
    /// The weights of the last epoch, or of the best one that was kept
    #[arg(long, value_name = "EPOCH", value_enum, default_value_t = Chosen::Final)]
    weights: Chosen,
    /// Store numbers as f16, in half the space
    #[arg(long)]
    half: bool,
    /// A folder of pictures or of the official files, `sample`, or `hub` [default: as in the run]
    #[arg(long, value_name = "DIR|sample|hub")]
    data: Option<PathBuf>,
    /// Also measure the mean over every image and its mirror image
    #[arg(long)]
    flips: bool,
    /// Add the model as a PyTorch program, model.py, with logits that `python model.py --check` compares
    #[arg(long, value_name = "FORMAT", value_enum)]
    to: Option<Format>,
    /// The license of the weights, as model hubs name it, such as apache-2.0
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    license: Option<String>,
    /// Number of threads [default: RAYON_NUM_THREADS, or one per processor]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Chosen {
    Final,
    Best,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    Pytorch,
}

/// Exports, and prints the accuracy.
pub fn run(args: &Args) -> Result<()> {
    let progress = Progress::stderr();
    start_log(&progress);
    set_threads(args.threads)?;
    let export = Export {
        run: &args.run,
        epoch: match args.weights {
            Chosen::Final => Epoch::Last,
            Chosen::Best => Epoch::Best,
        },
        half: args.half,
        data: args.data.as_deref(),
        flips: args.flips,
        pytorch: matches!(args.to, Some(Format::Pytorch)),
        license: args.license.as_deref(),
    };
    let measured = export.write(&args.dir, &progress)?;
    let ([low, high], images) = (measured.interval, grouped(measured.images));
    let mut lines =
        vec![format!("top-1    {:.2} %   95 % interval {low:.2} – {high:.2} %, {images} test images", measured.top1)];
    lines.extend(measured.top1_flips.map(|top1| format!("flips    {top1:.2} %")));
    lines.push(format!("weights  {}", shell_word(&args.dir.display().to_string())));
    print(&lines.join("\n"))
}
