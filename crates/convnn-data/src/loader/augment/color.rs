//! Steps that change colors, as Pillow's `ImageEnhance` and `ImageOps` do.

use super::canvas::Canvas;
use crate::split::CHANNELS;

/// Pillow's `Image.blend` for one byte: `factor` 0 gives `from`, 1 gives `to`, and beyond that extrapolates.
fn blend(from: u8, to: u8, factor: f32) -> u8 {
    let from = f32::from(from);
    // The conversion truncates and saturates.
    (from + factor * (f32::from(to) - from)) as u8
}

/// The luminance of every pixel, as in `Image.convert("L")`.
fn gray(canvas: &Canvas) -> Vec<u8> {
    let plane = canvas.side() * canvas.side();
    let (red, others) = canvas.pixels().split_at(plane);
    let (green, blue) = others.split_at(plane);
    let luminance = |((&r, &g), &b): ((&u8, &u8), &u8)| {
        ((19595 * u32::from(r) + 38470 * u32::from(g) + 7471 * u32::from(b) + 0x8000) >> 16) as u8
    };
    red.iter().zip(green).zip(blue).map(luminance).collect()
}

/// Factor 0 is black, 1 the image.
pub(crate) fn brightness(canvas: &mut Canvas, factor: f64) {
    canvas.pixels_mut().iter_mut().for_each(|pixel| *pixel = blend(0, *pixel, factor as f32));
}

/// Factor 0 is gray, 1 the image.
pub(crate) fn saturation(canvas: &mut Canvas, factor: f64) {
    let gray = gray(canvas);
    for plane in canvas.planes_mut() {
        plane.iter_mut().zip(&gray).for_each(|(pixel, &gray)| *pixel = blend(gray, *pixel, factor as f32));
    }
}

/// Factor 0 is the mean luminance, 1 the image.
pub(crate) fn contrast(canvas: &mut Canvas, factor: f64) {
    let gray = gray(canvas);
    let sum: u64 = gray.iter().map(|&gray| u64::from(gray)).sum();
    let mean = (sum as f64 / gray.len() as f64 + 0.5) as u8;
    canvas.pixels_mut().iter_mut().for_each(|pixel| *pixel = blend(mean, *pixel, factor as f32));
}

/// Factor 0 is smooth, 1 the image. The border, which has no neighbors to be smoothed with, stays.
pub(crate) fn sharpness(canvas: &mut Canvas, factor: f64) {
    canvas.redraw(|side, image, sharp| {
        sharp.copy_from_slice(image);
        for channel in 0..CHANNELS {
            for row in 1..side.saturating_sub(1) {
                for column in 1..side.saturating_sub(1) {
                    let at = (channel * side + row) * side + column;
                    let sum: u32 = (at - side - 1..=at + side - 1)
                        .step_by(side)
                        .flat_map(|left| &image[left..left + 3])
                        .map(|&pixel| u32::from(pixel))
                        .sum();
                    // The kernel is 1 around a center of 5, divided by 13.
                    let smooth = (2 * (sum + 4 * u32::from(image[at])) + 13) / 26;
                    sharp[at] = blend(smooth as u8, image[at], factor as f32);
                }
            }
        }
    });
}

/// Keeps the highest `bits` bits of every byte.
pub(crate) fn posterize(canvas: &mut Canvas, bits: u32) {
    let mask = (0xFF00u16 >> bits.min(8)) as u8;
    canvas.pixels_mut().iter_mut().for_each(|pixel| *pixel &= mask);
}

/// Inverts the bytes that are not below `threshold`.
pub(crate) fn solarize(canvas: &mut Canvas, threshold: f64) {
    let invert = |pixel: &mut u8| {
        if f64::from(*pixel) >= threshold {
            *pixel = 255 - *pixel;
        }
    };
    canvas.pixels_mut().iter_mut().for_each(invert);
}

/// Stretches every channel to 0..=255.
pub(crate) fn autocontrast(canvas: &mut Canvas) {
    for plane in canvas.planes_mut() {
        let (low, high) = plane.iter().fold((255, 0), |(low, high), &pixel| (pixel.min(low), pixel.max(high)));
        if high <= low {
            continue;
        }
        let scale = 255. / f64::from(high - low);
        let offset = -f64::from(low) * scale;
        let table: [u8; 256] = std::array::from_fn(|pixel| (pixel as f64 * scale + offset) as u8);
        plane.iter_mut().for_each(|pixel| *pixel = table[usize::from(*pixel)]);
    }
}

/// Spreads the values of every channel evenly.
pub(crate) fn equalize(canvas: &mut Canvas) {
    for plane in canvas.planes_mut() {
        let mut counts = [0usize; 256];
        plane.iter().for_each(|&pixel| counts[usize::from(pixel)] += 1);
        let last = counts.iter().rev().find(|count| **count > 0).copied().unwrap_or_default();
        let step = (plane.len() - last) / 255;
        if step == 0 {
            continue;
        }
        let mut before = step / 2;
        let table = counts.map(|count| {
            let value = (before / step).min(255) as u8;
            before += count;
            value
        });
        plane.iter_mut().for_each(|pixel| *pixel = table[usize::from(*pixel)]);
    }
}
