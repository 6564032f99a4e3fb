//! The largest values of options, and the checks of them.

use super::ensure;
use crate::operator::canvas::Canvas;
pub use crate::operator::limits::{CHANNELS, KERNEL_SIZE, NEIGHBORS, PADDING, SHUFFLE_SCALE, SIDE, TOKENS};
use crate::{Candidates, Grid, Result};

/// Fails unless `found` is from `least` to `most`, with the bound that it misses.
pub(super) fn within(found: usize, least: usize, most: usize, layer: &str, option: &'static str) -> Result<()> {
    let bound = if found < least { format!("at least {least}") } else { format!("at most {most}") };
    ensure((least..=most).contains(&found), layer, option, found, &bound)
}

/// Checks the numbers of tokens that a layer works on, padding included, and that it puts out.
pub(super) fn check_tokens(canvas: Canvas, output: Grid, layer: &str) -> Result<()> {
    let (Grid { height, width }, padding) = (canvas.inner(), (canvas.outer().width - canvas.inner().width) / 2);
    let expected = format!("a map of at most {TOKENS} tokens");
    let found = format!("{padding} around a map of {height}x{width}");
    ensure(canvas.padded_tokens() <= TOKENS, layer, "padding", found, &expected)?;
    let found = format!("one that makes maps of {}x{}", output.height, output.width);
    ensure(output.tokens() <= TOKENS, layer, "shuffle_scale", found, &expected)
}

/// Checks the numbers of candidates.
pub(super) fn check_candidates(candidates: Candidates, layer: &str) -> Result<()> {
    match candidates {
        Candidates::All => Ok(()),
        Candidates::Random { n } => within(n, 0, TOKENS, layer, "candidates.random.n"),
        Candidates::Spatial { n, margin } => {
            within(n, 0, SIDE, layer, "candidates.spatial.n")?;
            within(margin, 0, SIDE, layer, "candidates.spatial.margin")
        }
    }
}
