//! Drawings as SVG.

use super::png::encode;
use super::scene::{Color, Paint, Scene, Shape};
use crate::Result;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::fmt::Write;

const STYLE: &str = "<style>.page { fill: #fff } text { font-family: ui-monospace, monospace; fill: #111 } \
    image { image-rendering: pixelated } \
    @media (prefers-color-scheme: dark) { .page { fill: #16181d } text { fill: #e8e8e8 } }</style>";

pub(super) fn svg(scene: &Scene) -> Result<String> {
    let (width, height, description) = (scene.width, scene.height, escape(&scene.description));
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-label=\"{description}\" width=\"{width}\" \
         height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n{STYLE}\n\
         <rect class=\"page\" width=\"{width}\" height=\"{height}\"/>\n"
    );
    for shape in &scene.shapes {
        // Writing to a String cannot fail.
        let _ = match shape {
            Shape::Picture { x, y, side, planes } => writeln!(
                text,
                "<image x=\"{x}\" y=\"{y}\" width=\"{side}\" height=\"{side}\" href=\"{}\"/>",
                data_uri(planes)?
            ),
            Shape::Rectangle { x, y, width, height, paint } => {
                let paint = match paint {
                    Paint::Fill(color) => format!("fill=\"{}\"", hex(*color)),
                    Paint::Outline(color, line) => {
                        format!("fill=\"none\" stroke=\"{}\" stroke-width=\"{line}\"", hex(*color))
                    }
                };
                writeln!(text, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" {paint}/>")
            }
            Shape::Line { from, to, color, width } => writeln!(
                text,
                "<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" stroke=\"{}\" stroke-width=\"{width}\"/>",
                from.0,
                from.1,
                to.0,
                to.1,
                hex(*color)
            ),
            Shape::Text { x, y, size, text: words } => {
                writeln!(text, "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\">{}</text>", escape(words))
            }
        };
    }
    Ok(text + "</svg>\n")
}

/// Planes of bytes (3, S, S) as a PNG in a data URI.
pub(super) fn data_uri(planes: &[u8]) -> Result<String> {
    let side = (planes.len() / 3).isqrt();
    let rgb: Vec<u8> = (0..side * side).flat_map(|i| (0..3).map(move |c| planes[c * side * side + i])).collect();
    Ok(format!("data:image/png;base64,{}", BASE64_STANDARD.encode(encode(&rgb, side, side)?)))
}

fn hex([r, g, b]: Color) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}
