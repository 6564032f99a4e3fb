//! Decoding pictures on several threads.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::list::Picture;
use crate::error::{Error, Result};
use crate::split::CHANNELS;

/// The largest number of threads, and with it of decoded pictures in memory.
const WORKERS: usize = 8;

/// Decodes every picture and writes its center into its place in `images`, (n, 3, side, side); returns those that cannot be
/// read, in order, each with what is wrong with it.
pub(super) fn all(pictures: &[Picture], side: usize, images: &mut [u8]) -> Result<Vec<(PathBuf, String)>> {
    let broken = Mutex::new(Vec::new());
    let places = images.chunks_exact_mut(CHANNELS * side * side);
    let queue = Mutex::new(pictures.iter().enumerate().zip(places));
    let work = || {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(((index, picture), image)) = next else { return };
            match convnn_image::Picture::open(&picture.path) {
                Ok(decoded) => image.copy_from_slice(&decoded.center(side)),
                Err(error) => {
                    broken.lock().unwrap_or_else(PoisonError::into_inner).push((index, error.to_string()));
                }
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
