//! Decoding pictures on several threads.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use image::error::{LimitError, LimitErrorKind};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits};

use super::list::Picture;
use crate::error::{Error, Result};
use crate::loader::Resizer;
use crate::source::{file, picture};
use crate::split::CHANNELS;

/// The largest number of threads, and with it of decoded pictures in memory.
const WORKERS: usize = 8;

/// The largest width and height in pixels.
const LARGEST_SIDE: u32 = 1 << 15;

/// The most bytes of a decoded picture.
const MOST_BYTES: u64 = 256 << 20;

/// Decodes every picture into its place in `images`, (n, 3, side, side); returns those that cannot be read, in order, each
/// with what is wrong with it.
pub(super) fn all(pictures: &[Picture], side: usize, images: &mut [u8]) -> Result<Vec<(PathBuf, String)>> {
    let broken = Mutex::new(Vec::new());
    let places = images.chunks_exact_mut(CHANNELS * side * side);
    let queue = Mutex::new(pictures.iter().enumerate().zip(places));
    let work = || {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(((index, picture), image)) = next else { return };
            if let Err(reason) = one(&picture.path, side, image) {
                broken.lock().unwrap_or_else(PoisonError::into_inner).push((index, reason));
            }
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from).min(WORKERS).min(pictures.len());
    thread::scope(|scope| {
        for _ in 1..workers {
            thread::Builder::new().name("convnn-data".to_owned()).spawn_scoped(scope, work).map_err(Error::Thread)?;
        }
        work();
        Ok::<_, Error>(())
    })?;
    let mut broken = broken.into_inner().unwrap_or_else(PoisonError::into_inner);
    broken.sort_by_key(|(index, _)| *index);
    Ok(broken.into_iter().map(|(index, reason)| (pictures[index].path.clone(), reason)).collect())
}

/// Decodes a picture, turns it upright, and writes its center, (3, side, side).
///
/// As Pillow's `convert("RGB")`, it repeats gray three times and drops transparency; resizing and cropping are torchvision's
/// `Resize(side)` and `CenterCrop(side)`.
fn one(path: &Path, side: usize, image: &mut [u8]) -> std::result::Result<(), String> {
    file::metadata(path).map_err(|error| match error {
        Error::Io { source, .. } => source.to_string(),
        _ => "not a regular file".to_owned(),
    })?;
    let mut reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(|e| e.to_string())?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(LARGEST_SIDE);
    limits.max_image_height = Some(LARGEST_SIDE);
    limits.max_alloc = Some(MOST_BYTES);
    reader.limits(limits);
    let decode = || -> image::ImageResult<DynamicImage> {
        let mut decoder = reader.into_decoder()?;
        // The decoder applies the limits to what it needs for itself, not to its result.
        if decoder.total_bytes() > MOST_BYTES {
            return Err(ImageError::Limits(LimitError::from_kind(LimitErrorKind::InsufficientMemory)));
        }
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut decoded = DynamicImage::from_decoder(decoder)?;
        decoded.apply_orientation(orientation);
        Ok(decoded)
    };
    let limits =
        || format!("more than {LARGEST_SIDE} pixels in a row or column, or {} MiB once decoded", MOST_BYTES >> 20);
    let pixels = decode().map_err(|error| match error {
        ImageError::Limits(_) => limits(),
        error => error.to_string(),
    })?;
    let pixels = pixels.into_rgb8();
    let (width, height) = (pixels.width() as usize, pixels.height() as usize);
    if width == 0 || height == 0 {
        return Err("an empty picture".to_owned());
    }
    let mut planes = Vec::with_capacity(CHANNELS * width * height);
    picture::push_planes(pixels.as_raw().chunks_exact(CHANNELS * width), &mut planes);
    Resizer::center(width, height, side).resize(&planes, image);
    Ok(())
}
