//! Decoding untrusted pictures.

use crate::{CHANNELS, center_square};
use image::error::{LimitError, LimitErrorKind, UnsupportedErrorKind};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, ImageResult, Limits};
use std::fs::{self, File};
use std::io::{self, Cursor, Read};
use std::path::Path;

/// The largest width and height in pixels.
const LARGEST_SIDE: u32 = 1 << 15;

/// The most bytes of a decoded picture.
const MOST_BYTES: u64 = 256 << 20;

/// A picture, upright, with 8 bits for each of red, green and blue.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

/// Why a picture cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// The file cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A pipe or a device, on which reading could wait forever.
    #[error("not a regular file")]
    NotAFile,
    /// Larger than [`Picture::decode`] accepts.
    #[error("more than {LARGEST_SIDE} pixels in a row or column, or {} MiB as a file or decoded", MOST_BYTES >> 20)]
    TooLarge,
    /// No pixels.
    #[error("an empty picture")]
    Empty,
    /// Damaged, or in a format other than PNG, JPEG and WebP.
    #[error("{0}")]
    Damaged(String),
}

impl Picture {
    /// Reads a PNG, JPEG or WebP file; see [`Self::decode`].
    ///
    /// # Errors
    /// Those of [`Self::decode`], and [`PictureError::Io`] and [`PictureError::NotAFile`].
    pub fn open(path: &Path) -> Result<Self, PictureError> {
        if !fs::metadata(path)?.is_file() {
            return Err(PictureError::NotAFile);
        }
        // The size is checked before anything is read, and the file may still grow.
        let file = File::open(path)?;
        if file.metadata()?.len() > MOST_BYTES {
            return Err(PictureError::TooLarge);
        }
        let mut bytes = Vec::new();
        file.take(MOST_BYTES).read_to_end(&mut bytes)?;
        Self::decode(&bytes)
    }

    /// Decodes a PNG, JPEG or WebP file held in memory, and turns it as its EXIF orientation says.
    ///
    /// Like Pillow's `convert("RGB")`, it repeats gray three times and drops transparency. Of an animation it takes the
    /// first frame. At most 32,768 pixels a side and 256 MiB decoded, checked before any pixel is. A file that is cut off is
    /// an error.
    ///
    /// # Errors
    /// [`PictureError::TooLarge`], [`PictureError::Empty`], [`PictureError::Damaged`].
    pub fn decode(bytes: &[u8]) -> Result<Self, PictureError> {
        let cut_off = || PictureError::Damaged("the file is cut off".to_owned());
        let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
        // The decoder fills in gray for what is missing.
        if reader.format() == Some(ImageFormat::Jpeg) && !has_end(bytes) {
            return Err(cut_off());
        }
        let mut limits = Limits::default();
        limits.max_image_width = Some(LARGEST_SIDE);
        limits.max_image_height = Some(LARGEST_SIDE);
        limits.max_alloc = Some(MOST_BYTES);
        reader.limits(limits);
        let decode = || -> ImageResult<DynamicImage> {
            let mut decoder = reader.into_decoder()?;
            // The decoder applies the limits to what it needs for itself, not to its result.
            // Gray pictures and palettes grow to three bytes a pixel.
            let (width, height) = decoder.dimensions();
            let as_rgb = u64::from(width) * u64::from(height) * CHANNELS as u64;
            if decoder.total_bytes().max(as_rgb) > MOST_BYTES {
                return Err(ImageError::Limits(LimitError::from_kind(LimitErrorKind::InsufficientMemory)));
            }
            let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
            let mut decoded = DynamicImage::from_decoder(decoder)?;
            decoded.apply_orientation(orientation);
            Ok(decoded)
        };
        let pixels = decode().map_err(|error| match error {
            ImageError::Limits(_) => PictureError::TooLarge,
            // All bytes are in memory: what fails is reading beyond them.
            ImageError::IoError(_) => cut_off(),
            ImageError::Unsupported(error) if matches!(error.kind(), UnsupportedErrorKind::Format(_)) => {
                PictureError::Damaged("not a PNG, JPEG or WebP picture".to_owned())
            }
            // One line: decoders put the cause on a second one.
            error => PictureError::Damaged(error.to_string().replace('\n', " ")),
        })?;
        let pixels = pixels.into_rgb8();
        let (width, height) = (pixels.width() as usize, pixels.height() as usize);
        match width * height {
            0 => Err(PictureError::Empty),
            _ => Ok(Self { width, height, rgb: pixels.into_raw() }),
        }
    }

    /// Width in pixels.
    pub const fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub const fn height(&self) -> usize {
        self.height
    }

    /// Rows of interleaved red, green and blue, (height, width, 3).
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The center as planes, (3, side, side); see [`center_square`].
    pub fn center(&self, side: usize) -> Vec<u8> {
        debug_assert_eq!(self.rgb.len(), CHANNELS * self.width * self.height);
        center_square(&self.rgb, self.width, self.height, side)
    }
}

/// Whether the last scan of a JPEG file is followed by the marker of its end. Data of a scan never contain it.
fn has_end(jpeg: &[u8]) -> bool {
    let last = |marker: &[u8; 2]| jpeg.windows(2).rposition(|bytes| bytes == marker.as_slice());
    last(b"\xff\xd9") > last(b"\xff\xda")
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({}×{})", self.width, self.height)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn golden(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
    }

    /// Four inks, 16 bits, animations: `make_golden.py` writes what Pillow makes of them. (Gray, alpha, palettes and EXIF
    /// orientation are among the pictures of convnn-data.)
    #[test]
    fn unusual_pictures_are_decoded_as_by_pillow() {
        for (name, tolerance) in [("cmyk.jpg", 4), ("animated.webp", 0), ("animated.png", 0), ("deep.png", 0)] {
            let picture = Picture::open(&golden(name)).unwrap();
            let expected = fs::read(golden(&(name.replace('.', "_") + ".rgb"))).unwrap();
            assert_eq!((picture.width(), picture.height(), picture.rgb().len()), (16, 12, expected.len()), "{name}");
            let difference = picture.rgb().iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            assert!(difference <= tolerance, "{name}: {difference}");
            assert_eq!(Picture::decode(&fs::read(golden(name)).unwrap()).unwrap(), picture);
        }
    }

    #[test]
    fn what_is_not_a_picture_is_refused() {
        let line = |error: PictureError| {
            let line = error.to_string();
            assert!(!line.is_empty() && !line.contains('\n'), "{line}");
            line
        };
        line(Picture::decode(b"").unwrap_err());
        line(Picture::decode(b"not a picture").unwrap_err());
        assert_eq!(line(Picture::open(Path::new("/")).unwrap_err()), "not a regular file");
        assert!(line(Picture::open(&golden("none.png")).unwrap_err()).contains("No such file"));
        for name in ["cmyk.jpg", "animated.webp", "animated.png", "deep.png"] {
            let bytes = fs::read(golden(name)).unwrap();
            // Animations may be cut after a whole first frame, and PNG after its pixels.
            let most = if name.ends_with(".jpg") { bytes.len() } else { bytes.len() / 8 };
            for length in 0..most {
                line(Picture::decode(&bytes[..length]).unwrap_err());
            }
        }
    }

    /// A file that claims to be a picture and is larger than memory is not read.
    #[test]
    fn a_huge_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("huge.jpg");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(matches!(Picture::open(&path), Err(PictureError::TooLarge)));
    }
}
