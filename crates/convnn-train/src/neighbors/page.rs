//! Neighbors to explore: one HTML page that needs no network.
//!
//! The page holds the features of the layers, rounded to 16 bits, and chooses among them by itself, by the rules of
//! [`Selector`].

use super::Seen;
use super::selector::{Selector, deviation};
use super::svg::data_uri;
use crate::{Error, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use candle_core::{DType, Tensor};
use convnn_core::Grid;
use maud::{DOCTYPE, PreEscaped, html};
use serde::Serialize;
use std::path::PathBuf;

const STYLE: &str = include_str!("page/page.css");
const CHOOSE: &str = include_str!("page/choose.js");
const SCRIPT: &str = include_str!("page/page.js");

/// The most bytes of features that a page holds, so that it stays below 2 MB.
const MOST_BYTES: usize = 1_350_000;

/// What a page shows.
#[derive(Debug)]
pub struct Exploration<'a> {
    /// The name of the picture.
    pub name: &'a str,
    /// The picture, bytes (3, S, S).
    pub planes: &'a [u8],
    /// The input of the model, (1, 3, S, S).
    pub image: &'a Tensor,
    /// What the layers see.
    pub layers: &'a [Seen],
    /// How neighbors are chosen at first.
    pub selector: Selector,
    /// The pixel at first: column and row.
    pub at: (usize, usize),
    /// The number of the layer whose features are compared at first; `None` for the colors.
    pub layer: Option<usize>,
}

/// A page, and what it lacks.
#[derive(Debug)]
pub struct Page {
    /// The page.
    pub html: String,
    /// The numbers of the layers whose features were too large for it.
    pub left_out: Vec<usize>,
}

/// The features of one layer, or the colors.
#[derive(Debug, Serialize)]
struct Space {
    name: String,
    short: String,
    width: usize,
    height: usize,
    channels: usize,
    padding: usize,
    /// The features are `values` times this, a power of two.
    scale: f64,
    /// What a blend divides features by.
    sigma: f64,
    /// i16, little-endian, (H·W, C), in base64.
    values: String,
}

#[derive(Serialize)]
struct Start {
    x: usize,
    y: usize,
    k: usize,
    lambda: f64,
    similarity: &'static str,
    space: usize,
}

#[derive(Serialize)]
struct Data {
    size: usize,
    picture: String,
    start: Start,
    spaces: Vec<Space>,
}

/// The page.
///
/// # Errors
/// If the colors alone are too large for it, and those of Candle.
pub fn page(exploration: &Exploration<'_>) -> Result<Page> {
    let Exploration { name, planes, image, layers, selector, at, layer } = *exploration;
    let size = image.dim(3)?;
    let colors = image.permute((0, 2, 3, 1))?.reshape((1, size * size, 3))?;
    let bytes = |features: &Tensor| 2 * features.elem_count();
    let mut left = MOST_BYTES.checked_sub(bytes(&colors)).ok_or_else(|| Error::Value {
        key: "--html".to_owned(),
        found: format!("a page for pictures of {size}×{size} pixels"),
        expected: "a model whose pictures fit into a page of 2 MB".to_owned(),
    })?;
    let padding = selector.padding;
    let grid = Grid::new(size, size);
    // The first layer of a CNN sees the colors themselves.
    let sees_colors = |seen: &Seen| seen.features.dims() == colors.dims();
    let (name_of_colors, short) =
        if layers.first().is_some_and(sees_colors) { ("Color (layer 1)", "1") } else { ("Color", "color") };
    let mut spaces = vec![Space::new(name_of_colors.to_owned(), short.to_owned(), &colors, grid, padding)?];
    let (mut left_out, mut start) = (Vec::new(), 0);
    for seen in layers.iter().filter(|seen| !sees_colors(seen)) {
        if bytes(&seen.features) > left {
            left_out.push(seen.number);
            continue;
        }
        left -= bytes(&seen.features);
        if layer == Some(seen.number) {
            start = spaces.len();
        }
        let name = format!("Layer {}", seen.number);
        spaces.push(Space::new(name, seen.number.to_string(), &seen.features, seen.grid, padding)?);
    }
    let data = Data {
        size,
        picture: data_uri(planes)?,
        start: Start {
            x: at.0,
            y: at.1,
            k: selector.neighbors,
            lambda: selector.lambda,
            similarity: selector.similarity.name(),
            space: start,
        },
        spaces,
    };
    let json = serde_json::to_string(&data)
        .map_err(|error| Error::Damaged { path: PathBuf::from("page of neighbors"), message: error.to_string() })?;
    Ok(Page { html: markup(name, &data, &json), left_out })
}

impl Space {
    fn new(name: String, short: String, features: &Tensor, grid: Grid, padding: usize) -> Result<Self> {
        let values = features.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        let largest = values.iter().fold(0f64, |largest, value| largest.max(value.abs()));
        // With a power of two, rounded features are exact in every floating-point type.
        let scale = (f64::max(largest, 1e-30) / f64::from(1 << 14)).log2().ceil().exp2();
        let rounded: Vec<i16> = values.iter().map(|value| (value / scale).round() as i16).collect();
        let bytes: Vec<u8> = rounded.iter().flat_map(|value| value.to_le_bytes()).collect();
        let seen: Vec<f64> = rounded.iter().map(|&value| f64::from(value) * scale).collect();
        let seen = Tensor::from_vec(seen, features.shape(), features.device())?;
        Ok(Self {
            name,
            short,
            width: grid.width,
            height: grid.height,
            channels: features.dim(2)?,
            padding,
            scale,
            sigma: deviation(&seen, grid, padding)?,
            values: BASE64_STANDARD.encode(bytes),
        })
    }
}

fn markup(name: &str, data: &Data, json: &str) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Neighbors in " (name) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Neighbors in " (name) }
                p.soft {
                    "Convolution takes the pixels around a pixel, attention those that look like it. \
                     Point at a pixel, tap it, or move it with the arrow keys."
                }
                main {
                    div {
                        canvas #picture width="576" height="576" tabindex="0" role="application"
                            aria-label="The picture with a pixel and its neighbors; the arrow keys move the pixel"
                            aria-describedby="said" {}
                        p #said aria-live="polite" {}
                        p.key.soft { "nearest" i {} "farthest" }
                    }
                    div {
                        div #spaces role="group" aria-label="What is compared" {
                            button data-space="position" { "Position" }
                            @for (index, space) in data.spaces.iter().enumerate() {
                                button data-space=(index) { (space.name) }
                            }
                        }
                        label for="k" { "Neighbors K " output #kValue {} input #k type="range" min="1" max="64" step="1"; }
                        label for="lambda" {
                            "λ, from position to features " output #lambdaValue {}
                            input #lambda type="range" min="0" max="1" step="0.01";
                        }
                        div.row {
                            label {
                                "Similarity "
                                select #similarity {
                                    @for similarity in Selector::SIMILARITIES { option { (similarity.name()) } }
                                }
                            }
                            label { input #heat type="checkbox"; " Heat map" }
                        }
                        p.soft {
                            "By distance (euclidean, manhattan) positions make a window; cosine compares directions."
                        }
                        h2 { "In the 3×3 window over λ (%)" }
                        svg #walk viewBox="0 0 290 112" role="img" {}
                        h2 { "In the 3×3 window by layer (%)" }
                        svg #layers viewBox="0 0 290 112" role="img" {}
                    }
                }
                p.soft {
                    "White: the pixel. Dashed: the 3×3 window of a convolution."
                    @if data.spaces.iter().any(|space| space.padding > 0) {
                        " Gray border: padding, zeros that can be chosen too."
                    }
                }
                script #data type="application/json" { (PreEscaped(json.replace('<', "\\u003c"))) }
                script #choose { (PreEscaped(CHOOSE)) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}
