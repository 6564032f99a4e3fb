//! `convnn neighbors`.

use super::eval::dataset;
use super::output::{print, start_log, write};
use super::predict::{name, picture};
use super::set_threads;
use candle_core::{DType, Tensor};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use convnn_core::Similarity;
use convnn_models::{Model, Preprocessing};
use convnn_train::neighbors::drawing::{Panel, sheet};
use convnn_train::neighbors::page::{Exploration, page};
use convnn_train::neighbors::statistics::{LayerStatistics, Statistics};
use convnn_train::neighbors::{Scene, Seen, Selector, observe, rechosen};
use convnn_train::progress::Progress;
use convnn_train::text::printable;
use convnn_train::weights::Weights;
use convnn_train::{Error, Result, images};
use std::path::{Path, PathBuf};

/// Show which neighbors the layers of a model choose: as a picture, an interactive page or statistics
///
/// A pixel of the picture is drawn with its neighbors, colored from the nearest to the farthest, beside the window of a
/// convolution. The neighbors are those of the layers themselves; --k, --lambda and --similarity choose others among the
/// features that the layers see, from position (λ = 0, a convolution) to features (λ = 1).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  convnn neighbors cat.jpg
  convnn neighbors cat.jpg --layer 2 --at 12,20 --out cat.svg
  convnn neighbors cat.jpg --lambda 0.3 --k 16
  convnn neighbors cat.jpg --html cat.html
  convnn neighbors --statistics --data DIR --svg statistics.svg")]
pub struct Args {
    /// A picture: PNG, JPEG or WebP, or - for standard input
    #[arg(value_name = "IMAGE", required_unless_present = "statistics")]
    image: Option<PathBuf>,
    /// A run folder, a checkpoint folder, a weights folder, or hub:OWNER/NAME, optionally with @REVISION [default: the
    /// built-in model]
    #[arg(long, value_name = "DIR")]
    weights: Option<PathBuf>,
    /// Draw one layer, counted from 1 [default: a sheet with all layers]
    #[arg(long, value_name = "N")]
    layer: Option<usize>,
    /// Draw all layers; --layer then sets the layer that the page opens with
    #[arg(long)]
    sheet: bool,
    /// The pixel, column and row from 0 at the model's image size [default: the center]
    #[arg(long, value_name = "X,Y", value_parser = pixel)]
    at: Option<(usize, usize)>,
    /// The head to draw in a multi-head layer, counted from 1
    #[arg(long, value_name = "N", default_value_t = 1)]
    head: usize,
    /// Choose this number of neighbors
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..))]
    k: Option<u16>,
    /// Compare a blend of positions (0) and features (1)
    #[arg(long, value_name = "λ", value_parser = share)]
    lambda: Option<f64>,
    /// Compare by this similarity; with positions alone, only a distance selects a square window [default: that of the
    /// layers, or euclidean with --lambda]
    #[arg(long, value_name = "NAME", value_parser = similarities())]
    similarity: Option<Similarity>,
    /// The picture to write, .png or .svg [default: neighbors.png, or none with --html]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write an interactive page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Measure how far away the neighbors are over many test images
    #[arg(long, conflicts_with_all = ["image", "layer", "sheet", "at", "head", "out", "html"])]
    statistics: bool,
    /// The images of the statistics: a folder of pictures or of the official files, or `sample`
    #[arg(long, value_name = "DIR|sample", requires = "statistics", conflicts_with = "image")]
    data: Option<PathBuf>,
    /// Number of test images of the statistics
    #[arg(long, value_name = "N", requires = "statistics", conflicts_with = "image", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    images: u32,
    /// Write the statistics as CSV
    #[arg(long, value_name = "FILE", requires = "statistics", conflicts_with = "image")]
    csv: Option<PathBuf>,
    /// Write curves of the statistics over the layers
    #[arg(long, value_name = "FILE", requires = "statistics", conflicts_with = "image")]
    svg: Option<PathBuf>,
    /// Number of threads [default: RAYON_NUM_THREADS, or one per processor]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

fn pixel(text: &str) -> std::result::Result<(usize, usize), String> {
    let parts = text.split_once(',').and_then(|(x, y)| Some((x.trim().parse().ok()?, y.trim().parse().ok()?)));
    parts.ok_or_else(|| "expected a column and a row, such as 12,20".to_owned())
}

fn share(text: &str) -> std::result::Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

fn similarities() -> impl TypedValueParser<Value = Similarity> {
    let names = Selector::SIMILARITIES.map(Similarity::name);
    // Only these names get here.
    let find = |name: String| Similarity::ALL.into_iter().find(|similarity| similarity.name() == name).ok_or("");
    PossibleValuesParser::new(names).try_map(find)
}

/// Draws, writes the page, or counts.
pub fn run(args: &Args) -> Result<()> {
    start_log(&Progress::stderr());
    set_threads(args.threads)?;
    let drawn = match &args.out {
        Some(path) => Some(Drawn::new(path)?),
        None if args.html.is_none() => Some(Drawn::new(Path::new("neighbors.png"))?),
        None => None,
    };
    let weights = match &args.weights {
        Some(path) => Weights::open(path)?,
        None => Weights::embedded()?,
    };
    match &args.image {
        Some(image) => show(args, weights, image, drawn),
        None => count(args, weights),
    }
}

/// The file of the picture, and its format.
struct Drawn {
    path: PathBuf,
    vector: bool,
}

impl Drawn {
    fn new(path: &Path) -> Result<Self> {
        let vector = match path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).as_deref() {
            Some("png") => false,
            Some("svg") => true,
            _ => {
                return Err(Error::Value {
                    key: "--out".to_owned(),
                    found: path.display().to_string(),
                    expected: "a file that ends in .png or .svg".to_owned(),
                });
            }
        };
        Ok(Self { path: path.to_owned(), vector })
    }

    fn write(&self, scene: &Scene) -> Result<()> {
        match self.vector {
            true => write(&self.path, scene.svg()?),
            false => write(&self.path, scene.png()?),
        }
    }
}

impl Args {
    /// How neighbors are chosen instead of by the layers; `None` if the layers choose.
    fn selector(&self, of_model: Selector) -> Option<Selector> {
        if self.k.is_none() && self.lambda.is_none() && self.similarity.is_none() {
            return None;
        }
        Some(Selector {
            neighbors: self.k.map_or(of_model.neighbors, usize::from),
            lambda: self.lambda.unwrap_or(of_model.lambda),
            similarity: self.similarity.unwrap_or(match self.lambda {
                None => of_model.similarity,
                Some(_) => Similarity::Euclidean,
            }),
            ..of_model
        })
    }
}

/// A model with what is known of it.
struct Subject {
    model: Model,
    preprocessing: Preprocessing,
    origin: PathBuf,
    kind: &'static str,
    /// What the options ask for.
    selector: Option<Selector>,
    /// What comes closest to the layers.
    of_model: Selector,
}

impl Subject {
    fn new(args: &Args, weights: Weights) -> Result<Self> {
        let preprocessing = weights.known_preprocessing()?;
        let of_model = Selector::of_model(&weights.config);
        let (origin, kind) = (weights.origin.clone(), weights.config.layer_kind());
        Ok(Self {
            model: weights.model(DType::F32)?,
            preprocessing,
            origin,
            kind,
            selector: args.selector(of_model),
            of_model,
        })
    }

    /// What the layers see of images (B, 3, S, S), and what they or the options choose.
    fn observe(&self, images: &Tensor) -> Result<Vec<Seen>> {
        let layers = observe(&self.model, images)?;
        match &self.selector {
            Some(selector) => rechosen(layers, selector),
            None => Ok(layers),
        }
    }

    fn chooses_nothing(&self) -> Error {
        Error::Folder {
            folder: self.origin.clone(),
            found: format!("holds a model whose layers (`{}`) choose no neighbors", self.kind),
            expected: "one with ConvNN layers, or --k, --lambda or --similarity to choose among its features"
                .to_owned(),
        }
    }
}

fn value(key: &str, found: impl ToString, expected: String) -> Error {
    Error::Value { key: key.to_owned(), found: found.to_string(), expected }
}

/// Draws the neighbors in a picture and writes the page.
fn show(args: &Args, weights: Weights, image: &Path, drawn: Option<Drawn>) -> Result<()> {
    let read = picture(image).map_err(|source| Error::Picture { name: name(image), source })?;
    let subject = Subject::new(args, weights)?;
    let size = subject.preprocessing.size;
    let at = args.at.unwrap_or((size / 2, size / 2));
    if at.0 >= size || at.1 >= size {
        let expected = format!("0,0 to {0},{0}, a pixel of the picture at the model's size", size - 1);
        return Err(value("--at", format!("{},{}", at.0, at.1), expected));
    }
    let planes = read.center(size);
    let name = name(image);
    let input = subject.preprocessing.tensor(&planes)?;
    let mut layers = subject.observe(&input)?;
    if let Some(layer) = args.layer {
        if !layers.iter().any(|seen| seen.number == layer) {
            return Err(value("--layer", layer, format!("1 to {}, a layer of the model", layers.len())));
        }
        layers.retain(|seen| args.sheet || seen.number == layer);
    }
    let mut lines = Vec::new();
    let scene = drawn.as_ref().map(|_| draw(args, &subject, &planes, &layers, at, &mut lines)).transpose()?;
    let exploration = match &args.html {
        None => None,
        Some(path) => {
            // A page holds every layer, whichever is drawn.
            let all = observe(&subject.model, &input)?;
            let walk = Selector { similarity: Similarity::Euclidean, ..subject.of_model };
            let selector = subject.selector.unwrap_or(walk);
            let exploration = Exploration {
                name: &name,
                planes: &planes,
                image: &input,
                layers: &all,
                selector,
                at,
                layer: args.layer,
            };
            Some((path, page(&exploration)?))
        }
    };
    if let (Some(drawn), Some(scene)) = (drawn, scene) {
        drawn.write(&scene)?;
        lines.push(format!("written to {}", drawn.path.display()));
    }
    if let Some((path, page)) = exploration {
        write(path, page.html)?;
        lines.push(format!("page written to {}", path.display()));
        for layer in page.left_out {
            tracing::warn!("the features of layer {layer} are too large for a page of 2 MB and were left out");
        }
    }
    print(&lines.iter().map(|line| printable(line)).collect::<Vec<_>>().join("\n"))
}

/// The drawing of the layers that choose neighbors, and a line about each.
fn draw(
    args: &Args,
    subject: &Subject,
    planes: &[u8],
    layers: &[Seen],
    at: (usize, usize),
    lines: &mut Vec<String>,
) -> Result<Scene> {
    let size = subject.preprocessing.size;
    let mut panels = Vec::new();
    for layer in layers {
        let Some(choice) = &layer.choice else { continue };
        if !(1..=choice.rows()).contains(&args.head) {
            let expected = format!("1 to {}, a head of layer {}", choice.rows(), layer.number);
            return Err(value("--head", args.head, expected));
        }
        let (grid, row) = (choice.grid(), args.head - 1);
        let title = match choice.rows() {
            1 => format!("layer {}, {}×{}", layer.number, grid.width, grid.height),
            _ => format!("layer {}, head {}, {}×{}", layer.number, args.head, grid.width, grid.height),
        };
        let cell = choice.cell(at, size);
        let mut statistics = LayerStatistics::default();
        statistics.add_cell(choice, row, cell);
        lines.push(format!(
            "{title}: {} neighbors of {},{}: {:.0} % in the 3×3 window, {:.0} % padding, mean distance {:.1}",
            choice.count(),
            cell.0,
            cell.1,
            100.0 * statistics.inside(),
            100.0 * statistics.padding(),
            statistics.mean_distance(),
        ));
        panels.push(Panel { title, choice, row, at: cell });
    }
    if panels.is_empty() {
        return Err(match args.layer {
            Some(layer) => value(
                "--layer",
                format!("{layer}, a layer `{}` that chooses no neighbors", subject.kind),
                "a layer that does, or --k, --lambda or --similarity to choose among its features".to_owned(),
            ),
            None => subject.chooses_nothing(),
        });
    }
    let mut title = format!("pixel {},{}", at.0, at.1);
    if let Some(Selector { neighbors, lambda, similarity, .. }) = &subject.selector {
        title += &format!(", K = {neighbors}, λ = {lambda}, {}", similarity.name());
    }
    let description = format!("Neighbors of {title} in the picture. {}.", lines.join(". "));
    Ok(sheet(planes, &panels, &title, description))
}

/// Images observed at once.
const BATCH: usize = 16;

/// Counts over test images, and prints the table.
fn count(args: &Args, weights: Weights) -> Result<()> {
    let named = args.data.as_deref().or(weights.data.as_deref().map(Path::new));
    let dataset = dataset(None, named, &weights)?;
    let data = images::open(named, dataset, &weights.config, weights.test_share)?;
    let loader = weights.session()?.test_loader_for(&weights, &data, BATCH)?;
    let subject = Subject::new(args, weights)?;
    let wanted = data.test.len().min(args.images as usize);
    let progress = Progress::stderr();
    let mut statistics = Statistics::default();
    progress.begin("counting".to_owned(), wanted, 0, 0);
    for batch in loader.epoch(0)? {
        let images = batch?.images;
        let count = images.dim(0)?.min(wanted - statistics.images);
        if count == 0 {
            break;
        }
        statistics.add(&subject.observe(&images.narrow(0, 0, count)?)?, count);
        if statistics.layers.is_empty() {
            progress.finish();
            return Err(subject.chooses_nothing());
        }
    }
    progress.finish();
    let mut lines = statistics.table();
    lines.extend([
        String::new(),
        format!("{} test images of {}; distances in cells of the layer's map,", statistics.images, dataset.title()),
        "entropy of where neighbors are in bits (3×3 window: 3.17)".to_owned(),
    ]);
    print(&lines.join("\n"))?;
    if let Some(path) = &args.csv {
        write(path, statistics.csv())?;
    }
    if let Some(path) = &args.svg {
        write(path, statistics.svg()?)?;
    }
    Ok(())
}
