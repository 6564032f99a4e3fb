//! PNG images as planes of bytes.

use std::io::Cursor;

use png::{BitDepth, ColorType, Decoder};

/// Decodes a PNG of exactly `width`×`height` RGB pixels of 8 bits to (height, width, 3).
///
/// The header is checked before any pixel is decoded, so a file that claims to be huge costs nothing.
pub(crate) fn decode(png: &[u8], width: usize, height: usize) -> Result<Vec<u8>, String> {
    let mut reader = Decoder::new(Cursor::new(png)).read_info().map_err(|error| error.to_string())?;
    let info = reader.info();
    let found = (info.width as usize, info.height as usize, info.color_type, info.bit_depth);
    if found != (width, height, ColorType::Rgb, BitDepth::Eight) {
        let (w, h, color, depth) = found;
        return Err(format!("{w}×{h} pixels of {color:?} {depth:?} found, expected {width}×{height} of Rgb Eight"));
    }
    let mut pixels = vec![0; 3 * width * height];
    reader.next_frame(&mut pixels).map_err(|error| error.to_string())?;
    Ok(pixels)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn encode(color: ColorType, width: u32, pixels: &[u8]) -> Vec<u8> {
        let mut png = Vec::new();
        let mut encoder = png::Encoder::new(&mut png, width, 1);
        encoder.set_color(color);
        encoder.write_header().unwrap().write_image_data(pixels).unwrap();
        png
    }

    #[test]
    fn only_rgb_pictures_of_the_expected_size_are_decoded() {
        let pixels = [1, 2, 3, 4, 5, 6];
        assert_eq!(decode(&encode(ColorType::Rgb, 2, &pixels), 2, 1).unwrap(), pixels);
        let error = decode(&encode(ColorType::Rgb, 2, &pixels), 1, 2).unwrap_err();
        assert_eq!(error, "2×1 pixels of Rgb Eight found, expected 1×2 of Rgb Eight");
        let error = decode(&encode(ColorType::Grayscale, 2, &[1, 2]), 2, 1).unwrap_err();
        assert_eq!(error, "2×1 pixels of Grayscale Eight found, expected 2×1 of Rgb Eight");
        let error = decode(b"not a PNG file", 2, 1).unwrap_err();
        assert_eq!(error, "Invalid PNG signature.");
    }
}
