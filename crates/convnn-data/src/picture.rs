//! PNG images to planes of bytes.

use std::io::Cursor;

use image::{ImageFormat, ImageReader, Limits};

/// Decodes a PNG of exactly `width`×`height` pixels to RGB bytes, (height, width, 3).
///
/// The size is a limit of the decoder, so that a file that claims to be huge costs nothing.
pub(crate) fn decode(png: &[u8], width: u32, height: u32) -> Result<Vec<u8>, String> {
    let mut reader = ImageReader::with_format(Cursor::new(png), ImageFormat::Png);
    let mut limits = Limits::default();
    limits.max_image_width = Some(width);
    limits.max_image_height = Some(height);
    reader.limits(limits);
    let image = reader.decode().map_err(|error| error.to_string())?;
    if (image.width(), image.height()) != (width, height) {
        return Err(format!("{}×{} pixels found, {width}×{height} expected", image.width(), image.height()));
    }
    Ok(image.into_rgb8().into_raw())
}

/// Appends the pixels of `rows` (each of 3 interleaved bytes a pixel) as a red, a green and a blue plane.
pub(crate) fn push_planes<'a>(rows: impl Iterator<Item = &'a [u8]> + Clone, planes: &mut Vec<u8>) {
    for channel in 0..3 {
        for row in rows.clone() {
            planes.extend(row.iter().skip(channel).step_by(3));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_keep_rows_and_columns() {
        // Two rows of two pixels: (1 2 3)(4 5 6) over (7 8 9)(10 11 12).
        let pixels: Vec<u8> = (1..=12).collect();
        let mut planes = Vec::new();
        push_planes(pixels.chunks_exact(6), &mut planes);
        assert_eq!(planes, [1, 4, 7, 10, 2, 5, 8, 11, 3, 6, 9, 12]);
    }
}
