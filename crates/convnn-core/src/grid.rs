//! The height and width that a token sequence came from.

use serde::{Deserialize, Serialize};

/// The sides of a feature map whose tokens are stored row by row: token `y * width + x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grid {
    /// Number of rows, H.
    pub height: usize,
    /// Number of columns, W.
    pub width: usize,
}

impl Grid {
    /// A grid of `height` rows and `width` columns.
    pub const fn new(height: usize, width: usize) -> Self {
        Self { height, width }
    }

    /// Number of tokens, N = H·W.
    pub const fn tokens(self) -> usize {
        self.height * self.width
    }

    /// The grid with `padding` tokens added on every side.
    pub const fn padded(self, padding: usize) -> Self {
        Self::new(self.height + 2 * padding, self.width + 2 * padding)
    }
}
