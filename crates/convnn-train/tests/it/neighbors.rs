//! `convnn neighbors`: pictures, the page and statistics.

use crate::bad_input::refused;
use crate::command::{contents, convnn, finish, succeed, tiny_vgg, tiny_vit};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use candle_core::{DType, Device, Tensor};
use convnn_core::{Compare, ConvNn2d, ConvNn2dConfig, Grid, Pass, Similarity};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A folder with a picture of 40×32 pixels: a colored ramp with a uniform square, so that some similarities are equal.
fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture.png");
    let mut rgb = Vec::new();
    for (y, x) in (0..32u32).flat_map(|y| (0..40u32).map(move |x| (y, x))) {
        let color = match (x, y) {
            (8..12, 4..8) => [200, 180, 40],
            _ => [(x * 6) as u8, (y * 7) as u8, ((x * x * 3 + y * 31) % 251) as u8],
        };
        rgb.extend(color);
    }
    let mut encoder = png::Encoder::new(std::fs::File::create(&path).unwrap(), 40, 32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(&rgb).unwrap();
    (folder, path)
}

fn neighbors(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = convnn();
    command.current_dir(folder).arg("neighbors").args(arguments);
    command
}

#[test]
fn pictures_of_one_layer_and_of_all() {
    let (folder, _) = folder();
    let stdout = succeed(&mut neighbors(&folder, &["picture.png"])).stdout;
    assert!(stdout.contains("layer 1, 32×32: 9 neighbors of 16,16") && stdout.ends_with("written to neighbors.png\n"));
    let decoder =
        png::Decoder::new(std::io::BufReader::new(std::fs::File::open(folder.path().join("neighbors.png")).unwrap()));
    let sheet = decoder.read_info().unwrap();
    assert!(sheet.info().width > 800 && sheet.info().height > 400, "{:?}", sheet.info());

    let one = ["picture.png", "--layer", "1", "--at", "3,4", "--lambda", "0", "--k", "9", "--out", "one.svg"];
    let stdout = succeed(&mut neighbors(&folder, &one)).stdout;
    assert!(stdout.contains("9 neighbors of 3,4: 100 % in the 3×3 window, 0 % padding"), "{stdout}");
    let svg = std::fs::read_to_string(folder.path().join("one.svg")).unwrap();
    assert!(
        svg.starts_with("<svg ") && svg.contains("data:image/png;base64,") && svg.contains("pixel 3,4, K = 9, λ = 0")
    );
    assert!(!svg.contains("http://") || svg.matches("http").count() == 1, "only the name space of SVG");

    // In the corner five of nine positions are padding, which the picture says.
    let corner = ["picture.png", "--layer", "1", "--at", "0,0", "--lambda", "0", "--out", "corner.svg"];
    let stdout = succeed(&mut neighbors(&folder, &corner)).stdout;
    assert!(stdout.contains("44 % in the 3×3 window, 56 % padding"), "{stdout}");
    assert!(std::fs::read_to_string(folder.path().join("corner.svg")).unwrap().contains("4 of 9 in 3×3, 5 padding"));
}

#[test]
fn layers_without_neighbors_say_so() {
    let (folder, _) = folder();
    let run = folder.path().join("run");
    succeed(tiny_vgg(&run, 1).args(["--set", "layer.kind=conv2d"]));
    let before = contents(folder.path());
    refused(&mut neighbors(&folder, &["picture.png", "--weights", "run"]), &["`conv2d`", "no neighbors", "--k"]);
    refused(
        &mut neighbors(&folder, &["picture.png", "--weights", "run", "--layer", "2"]),
        &["`--layer` is 2", "`conv2d`"],
    );
    let statistics = ["--statistics", "--data", "sample", "--images", "2", "--weights", "run"];
    refused(&mut neighbors(&folder, &statistics), &["`conv2d`", "no neighbors"]);
    assert_eq!(contents(folder.path()), before, "something was written");
    let chosen = ["picture.png", "--weights", "run", "--layer", "2", "--k", "4", "--similarity", "manhattan"];
    let stdout = succeed(&mut neighbors(&folder, &chosen)).stdout;
    assert!(stdout.contains("layer 2, 4×4: 4 neighbors of 2,2"), "{stdout}");
}

#[test]
fn transformers_show_patches_heads_and_the_class_token() {
    let (folder, _) = folder();
    let run = folder.path().join("run");
    succeed(tiny_vit(&run, 1).args([
        "--set",
        "layer.heads=2",
        "--set",
        "layer.candidates=all",
        "--set",
        "layer.neighbors=17",
    ]));
    let weights = ["picture.png", "--weights", "run", "--layer", "2", "--head", "2", "--out", "v.svg"];
    let stdout = succeed(&mut neighbors(&folder, &weights)).stdout;
    assert!(stdout.contains("layer 2, head 2, 4×4: 17 neighbors of 2,2"), "{stdout}");
    // All 17 tokens are neighbors, and the class token is one of them.
    assert!(std::fs::read_to_string(folder.path().join("v.svg")).unwrap().contains(">class token</text>"));
    let third = ["picture.png", "--weights", "run", "--head", "3"];
    refused(&mut neighbors(&folder, &third), &["`--head` is 3", "1 to 2"]);
}

#[test]
fn unusable_arguments_write_nothing() {
    let (folder, _) = folder();
    std::fs::write(folder.path().join("text.png"), "no picture").unwrap();
    let before = contents(folder.path());
    let refuses = |arguments: &[&str], parts: &[&str]| {
        refused(&mut neighbors(&folder, arguments), parts);
        assert_eq!(contents(folder.path()), before, "something was written");
    };
    refuses(&["text.png"], &["text.png"]);
    refuses(&["none.png"], &["none.png", "No such file"]);
    refuses(&[], &["<IMAGE>"]);
    refuses(&["picture.png", "--layer", "99"], &["`--layer` is 99", "expected 1 to "]);
    refuses(&["picture.png", "--layer", "0"], &["`--layer` is 0"]);
    refuses(&["picture.png", "--at", "32,0"], &["`--at` is 32,0", "0,0 to 31,31"]);
    refuses(&["picture.png", "--at", "3"], &["--at", "such as 12,20"]);
    refuses(&["picture.png", "--k", "1157"], &["`--k` is 1157", "at most 1156", "layer 1"]);
    refuses(&["picture.png", "--k", "0"], &["--k"]);
    refuses(&["picture.png", "--lambda", "1.5"], &["--lambda", "0 to 1"]);
    refuses(&["picture.png", "--lambda", "nan"], &["--lambda", "0 to 1"]);
    refuses(&["picture.png", "--similarity", "dot"], &["--similarity", "euclidean"]);
    refuses(&["picture.png", "--out", "a.gif"], &["`--out` is a.gif", ".png or .svg"]);
    refuses(&["picture.png", "--weights", "nowhere"], &["nowhere", "not a folder"]);
    refuses(&["picture.png", "--csv", "a.csv"], &["--csv", "IMAGE"]);
    refuses(&["--csv", "a.csv"], &["--statistics"]);
    refuses(&["--statistics", "--layer", "1"], &["--layer"]);
}

#[test]
fn statistics_of_test_images() {
    let (folder, _) = folder();
    let files = ["--csv", "a.csv", "--svg", "a.svg"];
    let sample = ["--statistics", "--data", "sample", "--images", "20"];
    let stdout = succeed(neighbors(&folder, &sample).args(files)).stdout;
    assert!(stdout.contains("20 test images of CIFAR-10") && stdout.starts_with("layer"), "{stdout}");
    let csv = std::fs::read_to_string(folder.path().join("a.csv")).unwrap();
    let rows: Vec<Vec<f64>> =
        csv.lines().skip(1).map(|line| line.split(',').map(|cell| cell.parse().unwrap()).collect()).collect();
    assert!(!rows.is_empty());
    for row in &rows {
        let [_, width, height, distance, window, inside, overlap, padding, entropy] = row[..] else { panic!("{csv}") };
        assert!(width == height && distance > 0.0 && window > 0.9 && window < 1.1, "{csv}");
        assert!(
            [inside, overlap, padding].iter().all(|share| (0.0..=1.0).contains(share)) && inside >= 1.0 / 9.0,
            "{csv}"
        );
        assert!(entropy > 0.0, "{csv}");
    }
    let svg = std::fs::read_to_string(folder.path().join("a.svg")).unwrap();
    assert!(svg.contains("prefers-color-scheme") && svg.contains("3×3 convolution") && !svg.contains("epoch"));

    // By position the neighbors are the window, whatever the images.
    let position = ["--lambda", "0", "--k", "9", "--csv", "b.csv"];
    succeed(neighbors(&folder, &sample).args(position));
    let csv = std::fs::read_to_string(folder.path().join("b.csv")).unwrap();
    for line in csv.lines().skip(1) {
        assert_eq!(line.split(',').nth(6), Some("1.000000"), "{csv}");
    }
}

/// Queries, and how neighbors are chosen for them.
const CASES: [(f64, usize); 7] = [(1.0, 1), (1.0, 9), (1.0, 40), (0.5, 9), (0.03, 16), (0.9, 25), (0.0, 9)];
const SIMILARITIES: [Similarity; 3] = [Similarity::Cosine, Similarity::Euclidean, Similarity::Manhattan];

const DRIVER: &str = "
const fs = require('fs');
const page = fs.readFileSync(process.argv[2], 'utf8');
const script = (start) => page.split(start)[1].split('</script>')[0];
const data = JSON.parse(script('<script id=\"data\" type=\"application/json\">'));
const Neighbors = new Function(script('<script id=\"choose\">') + '; return Neighbors;')();
const cases = JSON.parse(process.argv[3]);
const found = data.spaces.map(Neighbors.prepare).map((space) => cases.map((options) => {
    const rows = [];
    for (let y = 0; y < space.height; y++)
        for (let x = 0; x < space.width; x++) rows.push(Neighbors.choose(space, x, y, options).places);
    return rows;
}));
console.log(JSON.stringify(found));
";

/// The page chooses what the library chooses among the same features: for every pixel of every layer.
///
/// Where the library compares exactly, both agree exactly. Elsewhere a neighbor may differ only where rounding decides:
/// its score is that of the other up to 1e-9.
#[test]
fn the_page_chooses_as_the_library_does() {
    if Command::new("node").arg("--version").output().is_err() {
        eprintln!("SKIPPED the_page_chooses_as_the_library_does: node is not installed");
        return;
    }
    let (folder, _) = folder();
    succeed(&mut neighbors(&folder, &["picture.png", "--html", "a.html"]));
    assert!(!folder.path().join("neighbors.png").exists(), "--html alone draws no picture");
    let page = std::fs::read_to_string(folder.path().join("a.html")).unwrap();
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
    for outside in ["http://", "https://", " src=", "@import", "url("] {
        assert!(!page.contains(outside), "the page must not load anything: {outside}");
    }
    let cases: Vec<(Similarity, f64, usize)> = SIMILARITIES
        .into_iter()
        .flat_map(|similarity| CASES.into_iter().map(move |(lambda, k)| (similarity, lambda, k)))
        .collect();
    let options: Vec<Value> = cases
        .iter()
        .map(|(similarity, lambda, k)| json!({ "similarity": similarity.name(), "lambda": lambda, "k": k }))
        .collect();
    let driver = folder.path().join("driver.js");
    std::fs::write(&driver, DRIVER).unwrap();
    let mut node = Command::new("node");
    node.arg(&driver).arg(folder.path().join("a.html")).arg(Value::from(options).to_string());
    let finished = finish(&mut node);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let found: Vec<Vec<Vec<Vec<u32>>>> = serde_json::from_str(&finished.stdout).unwrap();

    let spaces = spaces(&page);
    assert!(spaces.len() > 1 && spaces.len() == found.len());
    let (mut compared, mut rounded) = (0, 0);
    for (space, found) in spaces.iter().zip(&found) {
        for (&case, found) in cases.iter().zip(found) {
            let excused = space.compare(case, found);
            // Whole numbers: nothing is rounded.
            if case.1 == 0.0 || (case.1 == 1.0 && case.0 != Similarity::Cosine) {
                assert_eq!(excused, 0, "{case:?}");
            }
            compared += found.len();
            rounded += excused;
        }
    }
    eprintln!("{compared} choices compared; rounding decided in {rounded}");
    assert!(rounded * 50 < compared, "rounding decides too often: {rounded} of {compared}");
}

/// Moves the sliders of the page as a person would, and writes down what a person sees: the sentence below the picture, the
/// value beside the slider, and the picture itself.
const MOVES: &str = r#"<script>
const moved = [];
function move(id, value) {
  $(id).value = value;
  $(id).dispatchEvent(new Event("input", { bubbles: true }));
  moved.push([$("said").textContent, $(`${id}Value`).textContent, canvas.toDataURL()]);
}
function moveAll() {
  moved.push(["", "", canvas.toDataURL()]);
  for (const [id, value] of [["k", 9], ["lambda", 0], ["lambda", 1], ["k", 4], ["k", 9], ["lambda", 0]]) move(id, value);
  const found = document.createElement("pre");
  found.id = "found";
  found.textContent = JSON.stringify(moved);
  document.body.append(found);
}
if (picture.complete) setTimeout(moveAll); else picture.addEventListener("load", () => setTimeout(moveAll));
</script>"#;

/// In a browser, the neighbors on the page follow the sliders.
#[test]
fn the_page_follows_its_sliders_in_a_browser() {
    let is_there =
        |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    let Some(browser) = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(is_there) else {
        eprintln!("SKIPPED the_page_follows_its_sliders_in_a_browser: chromium is not installed");
        return;
    };
    let (folder, _) = folder();
    succeed(&mut neighbors(&folder, &["picture.png", "--html", "a.html"]));
    let page = std::fs::read_to_string(folder.path().join("a.html")).unwrap();
    assert_eq!(page.matches("</body>").count(), 1);
    let driven = folder.path().join("driven.html");
    std::fs::write(&driven, page.replace("</body>", &format!("{MOVES}</body>"))).unwrap();
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000", "--dump-dom"]);
    command.arg(format!("--user-data-dir={}", folder.path().join("browser").display()));
    let finished = finish(command.arg(format!("file://{}", driven.display())));
    let found = finished.stdout.split("<pre id=\"found\">").nth(1).unwrap_or_else(|| panic!("{finished:?}"));
    let found: Vec<[String; 3]> = serde_json::from_str(found.split("</pre>").next().unwrap()).unwrap();

    let [_, _, position, features, fewer, more, again] = &found[..] else { panic!("{} steps", found.len()) };
    let [said, value, picture] = position;
    // By position alone, the neighbors of a pixel within the picture are the window around it.
    assert!(said.contains("of 9 neighbors 9 in the 3×3 window") && value == "0.00", "{position:?}");
    assert!(features[0].contains("of 9 neighbors") && features[0] != *said && features[1] == "1.00", "{features:?}");
    assert!(fewer[0].contains("of 4 neighbors") && fewer[1] == "4", "{fewer:?}");
    assert!(picture.len() > 1000 && features[2] != *picture && fewer[2] != features[2], "the picture stays the same");
    assert_eq!((more, again), (&[features[0].clone(), "9".to_owned(), features[2].clone()], position));
}

/// The features of a page, read from it.
struct Space {
    grid: Grid,
    padding: usize,
    /// (1, H·W, C), f64.
    features: Tensor,
}

fn spaces(page: &str) -> Vec<Space> {
    let start = "<script id=\"data\" type=\"application/json\">";
    let json = page.split(start).nth(1).unwrap().split("</script>").next().unwrap();
    let data: Value = serde_json::from_str(json).unwrap();
    let space = |space: &Value| {
        let number = |key: &str| space[key].as_u64().unwrap() as usize;
        let bytes = BASE64_STANDARD.decode(space["values"].as_str().unwrap()).unwrap();
        let scale = space["scale"].as_f64().unwrap();
        let values = bytes.as_chunks::<2>().0.iter().map(|&pair| f64::from(i16::from_le_bytes(pair)) * scale).collect();
        let grid = Grid::new(number("height"), number("width"));
        let features = Tensor::from_vec(values, (1, grid.tokens(), number("channels")), &Device::Cpu).unwrap();
        Space { grid, padding: number("padding"), features }
    };
    data["spaces"].as_array().unwrap().iter().map(space).collect()
}

impl Space {
    /// Compares the places that the page found with those of the layer `conv_nn_2d`; returns for how many cells rounding
    /// decided.
    fn compare(&self, (similarity, lambda, k): (Similarity, f64, usize), found: &[Vec<u32>]) -> usize {
        // Small maps have fewer candidates.
        let k = k.min(self.grid.padded(self.padding).tokens());
        let compare = match lambda {
            0.0 => Compare::Position,
            1.0 => Compare::Features,
            lambda => Compare::Blend(lambda),
        };
        let config =
            ConvNn2dConfig { neighbors: k, padding: self.padding, similarity, compare, ..ConvNn2dConfig::default() };
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F64, &Device::Cpu).unwrap();
        let channels = self.features.dims()[2];
        let layer = ConvNn2d::from_tensors(&config, zeros(&[1, channels, k]), zeros(&[1])).unwrap();
        let chosen = layer.neighbors_of_tokens(&self.features, self.grid, &Pass::evaluation()).unwrap();
        let index = chosen.index().squeeze(0).unwrap().to_vec2::<u32>().unwrap();
        let tokens = self.grid.tokens();
        assert_eq!((found.len(), index.len()), (tokens, tokens));
        let rows = self.rows();
        let mut rounded = 0;
        for (token, (places, expected)) in found.iter().zip(&index).enumerate() {
            let mut row: Vec<u32> = places.iter().map(|&place| rows[place as usize]).collect();
            let mut distinct = places.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), k, "a place was chosen twice");
            if lambda == 0.0 {
                // These come in the order of their places.
                row = distinct.iter().map(|&place| rows[place as usize]).collect();
            }
            if row == *expected {
                continue;
            }
            rounded += 1;
            assert!(lambda > 0.0, "{similarity:?} {lambda} {k}, token {token}: {row:?} instead of {expected:?}");
            let scores = |row: &[u32], places: Option<&[u32]>| -> Vec<f64> {
                (0..k).map(|rank| self.score(similarity, lambda, token, row[rank], places.map(|p| p[rank]))).collect()
            };
            // The library does not tell which of the padding it chose, so only scores without positions are known there.
            let (ours, theirs) = (scores(&row, Some(places)), scores(expected, None));
            for (rank, (a, b)) in ours.iter().zip(&theirs).enumerate() {
                let close = (a - b).abs() <= 1e-9 * a.abs().max(1.0) || b.is_nan();
                assert!(close, "{similarity:?} λ = {lambda} K = {k}, token {token}, rank {rank}: {a} and {b}");
            }
        }
        rounded
    }

    /// Row among the tokens of each place of the padded map; H·W for padding.
    fn rows(&self) -> Vec<u32> {
        let (outer, p) = (self.grid.padded(self.padding), self.padding);
        let row = |place: usize| {
            let (x, y) = (place % outer.width, place / outer.width);
            let inside = (p..p + self.grid.width).contains(&x) && (p..p + self.grid.height).contains(&y);
            if inside { ((y - p) * self.grid.width + x - p) as u32 } else { self.grid.tokens() as u32 }
        };
        (0..outer.tokens()).map(row).collect()
    }

    /// The score of a pair by the definition; NaN for padding whose place is not known, unless positions do not count.
    fn score(&self, similarity: Similarity, lambda: f64, token: usize, row: u32, place: Option<u32>) -> f64 {
        let outer = self.grid.padded(self.padding);
        let place_of =
            |row: usize| (row / self.grid.width + self.padding) * outer.width + row % self.grid.width + self.padding;
        let row = row as usize;
        let place = match place {
            Some(place) => Some(place as usize),
            None => (row < self.grid.tokens()).then(|| place_of(row)),
        };
        if place.is_none() && lambda < 1.0 {
            return f64::NAN;
        }
        let features = self.features.squeeze(0).unwrap();
        let feature = |row: usize| -> Vec<f64> {
            match row < self.grid.tokens() {
                true => features.get(row).unwrap().to_vec1().unwrap(),
                false => vec![0.0; self.features.dims()[2]],
            }
        };
        let vector = |row: usize, place: usize| -> Vec<f64> {
            if lambda == 1.0 {
                return feature(row);
            }
            let linspace = |i: usize, side: usize| 2.0 * i as f64 / (side - 1) as f64 - 1.0;
            let position = [linspace(place % outer.width, outer.width), linspace(place / outer.width, outer.height)];
            let factor = lambda / self.deviation();
            feature(row).iter().map(|value| value * factor).chain(position.map(|at| at * (1.0 - lambda))).collect()
        };
        let (x, y) = (vector(token, place_of(token)), vector(row, place.unwrap_or(0)));
        let sum = |term: fn(f64, f64) -> f64| -> f64 { x.iter().zip(&y).map(|(&a, &b)| term(a, b)).sum() };
        let norm = |v: &[f64]| v.iter().map(|a| a * a).sum::<f64>().sqrt().max(1e-12);
        match similarity {
            Similarity::Euclidean => -sum(|a, b| (a - b).powi(2)),
            Similarity::Manhattan => -sum(|a, b| (a - b).abs()),
            _ => sum(|a, b| a * b) / (norm(&x) * norm(&y)),
        }
    }

    fn deviation(&self) -> f64 {
        let values = self.features.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let count = (self.grid.padded(self.padding).tokens() * self.features.dims()[2]) as f64;
        let mean = values.iter().sum::<f64>() / count;
        let zeros = (count - values.len() as f64) * mean * mean;
        ((values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() + zeros) / (count - 1.0)).sqrt() + 1e-6
    }
}

/// Too large for a page as a whole, the features of some layers are left out; the page stays below 2 MB.
#[test]
fn large_models_make_small_pages() {
    let (folder, picture) = folder();
    for (class, number) in ["a", "b"].into_iter().flat_map(|class| (0..5).map(move |number| (class, number))) {
        let class = folder.path().join("data").join(class);
        std::fs::create_dir_all(&class).unwrap();
        std::fs::copy(&picture, class.join(format!("{number}.png"))).unwrap();
    }
    let mut train = convnn();
    train.current_dir(&folder).args(["train", "--preset", "vgg11_compact", "--data", "data", "--out", "run"]);
    train.args(["--epochs", "1", "--set", "batch_size=4", "--set", "layer.kind=conv2d", "--set", "model.image=96"]);
    succeed(train.args(["--set", "model.features=[24, 24, 24, 24, 24, \"M\", \"M\", \"M\", \"M\"]"]));
    let finished = succeed(&mut neighbors(&folder, &["picture.png", "--weights", "run", "--html", "a.html"]));
    assert!(finished.stderr.contains("too large for a page of 2 MB"), "{}", finished.stderr);
    assert!(std::fs::metadata(Path::new(folder.path()).join("a.html")).unwrap().len() < 2_000_000);
}
