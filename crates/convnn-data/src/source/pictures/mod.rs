//! Folders of pictures: a folder for each class.
//!
//! Every picture is resized and cropped when it is read, so that the split holds images of one size.

mod decode;
mod list;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use self::list::{Listing, Picture};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::loader::LARGEST_IMAGE;
use crate::name::DatasetName;
use crate::split::{CHANNELS, Split};

/// The number of classes of a folder of pictures; `None` if `path` is not one.
pub fn picture_classes(path: &Path) -> Option<usize> {
    list::looks_like_pictures(path).then(|| Listing::read(path, 0.5).map_or(0, |listing| listing.classes.len()))
}

/// Reads a folder of pictures as images of `side`×`side` pixels.
pub(crate) fn open(path: &Path, side: usize, test_share: f64) -> Result<Dataset> {
    if !(1..=LARGEST_IMAGE).contains(&side) {
        return Err(Error::ImageSize { found: side, max: LARGEST_IMAGE });
    }
    let Listing { classes, train, validation, test } = Listing::read(path, test_share)?;
    let split = |pictures: &[Picture]| read(pictures, side).map(Arc::new);
    Ok(Dataset {
        name: DatasetName::Folder,
        classes: classes.into(),
        train: split(&train)?,
        validation: validation.as_deref().map(split).transpose()?,
        test: split(&test)?,
        origin: format!("folder {}", path.display()),
    })
}

/// Broken pictures that a message lists.
const LISTED: usize = 5;

/// Decodes pictures, in parallel and in order.
fn read(pictures: &[Picture], side: usize) -> Result<Split> {
    let bytes = CHANNELS as u128 * (side as u128).pow(2) * pictures.len() as u128;
    let too_many = || Error::PicturesMemory { images: pictures.len(), side, bytes };
    let size = usize::try_from(bytes).map_err(|_| too_many())?;
    let mut images = Vec::new();
    images.try_reserve_exact(size).map_err(|_| too_many())?;
    images.resize(size, 0);
    let broken = decode::all(pictures, side, &mut images)?;
    if !broken.is_empty() {
        let listed = broken.iter().take(LISTED).map(|(path, reason)| format!("{}: {reason}", path.display())).collect();
        return Err(Error::BrokenPictures { listed, count: broken.len(), total: pictures.len() });
    }
    Split::with_side(side, images, pictures.iter().map(|picture| picture.label).collect(), None)
}
