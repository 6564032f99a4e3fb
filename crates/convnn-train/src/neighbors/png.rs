//! Drawings as PNG.

use super::scene::{Color, Paint, Scene, Shape};
use crate::{Error, Result};
use font8x8::{BASIC_FONTS, GREEK_FONTS, LATIN_FONTS, UnicodeFonts};
use std::path::PathBuf;
use tiny_skia::{Paint as Brush, PathBuilder, Pixmap, Rect, Stroke, Transform};

/// Pixels of the file for each of the drawing.
const SCALE: f32 = 2.0;

pub(super) fn png(scene: &Scene) -> Result<Vec<u8>> {
    let (width, height) = ((scene.width * SCALE) as u32, (scene.height * SCALE) as u32);
    let mut pixmap = Pixmap::new(width, height).ok_or_else(|| failed(format!("{width}×{height} pixels")))?;
    pixmap.fill(tiny_skia::Color::WHITE);
    for shape in &scene.shapes {
        draw(&mut pixmap, shape);
    }
    let rgb: Vec<u8> = pixmap.data().chunks_exact(4).flat_map(|rgba| [rgba[0], rgba[1], rgba[2]]).collect();
    encode(&rgb, width as usize, height as usize)
}

/// Rows of red, green and blue bytes as a PNG.
pub(super) fn encode(rgb: &[u8], width: usize, height: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().map_err(|error| failed(error.to_string()))?;
    writer.write_image_data(rgb).and_then(|()| writer.finish()).map_err(|error| failed(error.to_string()))?;
    Ok(bytes)
}

fn failed(message: String) -> Error {
    Error::Damaged { path: PathBuf::from("picture of neighbors"), message: format!("cannot be drawn: {message}") }
}

fn draw(pixmap: &mut Pixmap, shape: &Shape) {
    match shape {
        Shape::Picture { x, y, side, planes } => {
            let pixels = (planes.len() / 3).isqrt();
            let cell = side / pixels as f32;
            for i in 0..pixels * pixels {
                let color = std::array::from_fn(|c| planes[c * pixels * pixels + i]);
                let (column, row) = ((i % pixels) as f32, (i / pixels) as f32);
                fill(pixmap, [x + column * cell, y + row * cell, cell, cell], color);
            }
        }
        &Shape::Rectangle { x, y, width, height, paint: Paint::Fill(color) } => {
            fill(pixmap, [x, y, width, height], color);
        }
        &Shape::Rectangle { x, y, width, height, paint: Paint::Outline(color, line) } => {
            let Some(rectangle) = rectangle([x, y, width, height]) else { return };
            stroke(pixmap, &PathBuilder::from_rect(rectangle), color, line);
        }
        &Shape::Line { from, to, color, width } => {
            let mut path = PathBuilder::new();
            path.move_to(from.0 * SCALE, from.1 * SCALE);
            path.line_to(to.0 * SCALE, to.1 * SCALE);
            if let Some(path) = path.finish() {
                stroke(pixmap, &path, color, width);
            }
        }
        Shape::Text { x, y, size, text } => write(pixmap, (*x, *y), *size, text),
    }
}

fn rectangle([x, y, width, height]: [f32; 4]) -> Option<Rect> {
    Rect::from_xywh(x * SCALE, y * SCALE, width * SCALE, height * SCALE)
}

fn brush([r, g, b]: Color, smooth: bool) -> Brush<'static> {
    let mut brush = Brush { anti_alias: smooth, ..Brush::default() };
    brush.set_color_rgba8(r, g, b, 255);
    brush
}

/// Without smoothed edges, which would leave seams between pixels.
fn fill(pixmap: &mut Pixmap, place: [f32; 4], color: Color) {
    if let Some(rectangle) = rectangle(place) {
        pixmap.fill_rect(rectangle, &brush(color, false), Transform::identity(), None);
    }
}

fn stroke(pixmap: &mut Pixmap, path: &tiny_skia::Path, color: Color, width: f32) {
    let line = Stroke { width: width * SCALE, ..Stroke::default() };
    pixmap.stroke_path(path, &brush(color, true), &line, Transform::identity(), None);
}

/// Text in an 8×8 font, so that no font need be installed. A character is as wide as in a monospaced font of an SVG.
fn write(pixmap: &mut Pixmap, (x, y): (f32, f32), size: f32, text: &str) {
    const BLACK: Color = [0x11; 3];
    let (dot_x, dot_y) = (0.6 * size / 8.0, 0.8 * size / 8.0);
    for (place, character) in text.chars().enumerate() {
        let glyph = [BASIC_FONTS.get(character), LATIN_FONTS.get(character), GREEK_FONTS.get(character)];
        let glyph = glyph.into_iter().flatten().next().unwrap_or([0; 8]);
        let left = x + place as f32 * 0.6 * size;
        for (row, bits) in glyph.iter().enumerate() {
            for column in (0..8).filter(|column| bits >> column & 1 == 1) {
                let corner = [left + column as f32 * dot_x, y + (row as f32 - 7.0) * dot_y, dot_x, dot_y];
                if let Some(dot) = rectangle(corner) {
                    pixmap.fill_rect(dot, &brush(BLACK, true), Transform::identity(), None);
                }
            }
        }
    }
}
