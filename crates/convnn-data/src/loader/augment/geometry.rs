//! Steps that move pixels, as torchvision does on PIL images.

use super::canvas::Canvas;
use crate::split::CHANNELS;
use convnn_image::{Resizer, Window};

/// Crops the image, padded by `padding` black pixels, to its own size from row `top` and column `left` of the padded image.
pub(crate) fn crop(canvas: &mut Canvas, padding: usize, top: usize, left: usize) {
    canvas.redraw(|side, image, cropped| {
        cropped.fill(0);
        // Columns of the image inside the crop, and the first column of the crop that shows them.
        let columns = left.saturating_sub(padding).min(side)..(side + left).saturating_sub(padding).min(side);
        let shown = (columns.start + padding).saturating_sub(left);
        if columns.is_empty() {
            return;
        }
        for channel in 0..CHANNELS {
            for row in 0..side {
                let Some(source_row) = (row + top).checked_sub(padding).filter(|row| *row < side) else { continue };
                let source = (channel * side + source_row) * side;
                let target = (channel * side + row) * side + shown;
                cropped[target..target + columns.len()]
                    .copy_from_slice(&image[source + columns.start..source + columns.end]);
            }
        }
    });
}

/// Mirrors the image: left becomes right.
pub(crate) fn flip(canvas: &mut Canvas) {
    let side = canvas.side();
    canvas.pixels_mut().chunks_exact_mut(side).for_each(<[u8]>::reverse);
}

/// Turns the image upside down.
pub(crate) fn flip_vertically(canvas: &mut Canvas) {
    canvas.redraw(|side, image, flipped| {
        for (from, to) in image.chunks_exact(side * side).zip(flipped.chunks_exact_mut(side * side)) {
            for (from, to) in from.chunks_exact(side).zip(to.chunks_exact_mut(side).rev()) {
                to.copy_from_slice(from);
            }
        }
    });
}

/// Resizes a part of the image to its full size, bilinearly.
pub(crate) fn resized_crop(canvas: &mut Canvas, top: usize, left: usize, height: usize, width: usize) {
    canvas.redraw(|side, image, resized| {
        let columns = Window::of(left, width, side);
        let rows = Window::of(top, height, side);
        Resizer::rectangle(side, &columns, &rows).resize(image, resized);
    });
}

/// The map from a pixel of the new image to one of the old: x' = a·x + b·y + c, y' = d·x + e·y + f, with the origin in the
/// corner of the image.
pub(crate) type Affine = [f64; 6];

/// Redraws the image through an affine map with the nearest pixel, black outside.
///
/// As Pillow does, in fixed point with 16 fractional bits.
pub(crate) fn transform(canvas: &mut Canvas, [a, b, c, d, e, f]: Affine) {
    let fix = |value: f64| (value * 65536. + 0.5).floor() as i64;
    let (a, b, c, d, e, f) = (fix(a), fix(b), fix(c + a * 0.5 + b * 0.5), fix(d), fix(e), fix(f + d * 0.5 + e * 0.5));
    canvas.redraw(|side, image, moved| {
        let inside = |position: i64| usize::try_from(position >> 16).ok().filter(|position| *position < side);
        for row in 0..side {
            for column in 0..side {
                let (x, y) = (column as i64, row as i64);
                let source = inside(c + a * x + b * y).zip(inside(f + d * x + e * y));
                for channel in 0..CHANNELS {
                    moved[(channel * side + row) * side + column] =
                        source.map_or(0, |(x, y)| image[(channel * side + y) * side + x]);
                }
            }
        }
    });
}

/// Shears rows against each other, around the corner.
pub(crate) fn shear_x(amount: f64) -> Affine {
    [1., amount, 0., 0., 1., 0.]
}

/// Shears columns against each other, around the corner.
pub(crate) fn shear_y(amount: f64) -> Affine {
    [1., 0., 0., amount, 1., 0.]
}

/// Moves the image by whole pixels to the right and down.
pub(crate) fn translate(x: f64, y: f64) -> Affine {
    [1., 0., -x.trunc(), 0., 1., -y.trunc()]
}

/// Rotates the image counter-clockwise around its center.
pub(crate) fn rotate(degrees: f64, side: usize) -> Affine {
    let angle = -degrees.rem_euclid(360.).to_radians();
    let round = |value: f64| (value * 1e15).round_ties_even() / 1e15;
    let (sine, cosine) = (round(angle.sin()), round(angle.cos()));
    let center = side as f64 / 2.;
    let c = cosine * -center + sine * -center + center;
    let f = -sine * -center + cosine * -center + center;
    [cosine, sine, c, -sine, cosine, f]
}
