//! A square image that steps change in place.

use crate::split::CHANNELS;

/// A square image, (3, side, side), with a second buffer of the same size for steps that cannot work in place.
pub(crate) struct Canvas {
    side: usize,
    pixels: Vec<u8>,
    other: Vec<u8>,
}

impl Canvas {
    pub(crate) fn new(side: usize) -> Self {
        let size = CHANNELS * side * side;
        Self { side, pixels: vec![0; size], other: vec![0; size] }
    }

    /// Loads an image (3, side, side).
    pub(crate) fn load(&mut self, image: &[u8]) {
        self.pixels.copy_from_slice(image);
    }

    pub(crate) fn side(&self) -> usize {
        self.side
    }

    pub(crate) fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    pub(crate) fn pixels_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }

    /// The red, green and blue plane.
    pub(crate) fn planes_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.pixels.chunks_exact_mut(self.side * self.side)
    }

    /// Replaces the image by what `draw` writes: it gets the side, the image, and the buffer of the new image.
    pub(crate) fn redraw(&mut self, draw: impl FnOnce(usize, &[u8], &mut [u8])) {
        draw(self.side, &self.pixels, &mut self.other);
        std::mem::swap(&mut self.pixels, &mut self.other);
    }
}
