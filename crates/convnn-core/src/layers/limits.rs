//! The largest values of options.
//!
//! They are far above any use. Within them no size of a layer overflows, and a mistyped number is refused at once.

use super::ensure;
use crate::operator::canvas::Canvas;
use crate::{Candidates, Grid, Result};

/// K
pub const NEIGHBORS: usize = 1 << 20;
/// Channels into or out of a layer, after a shuffle.
pub const CHANNELS: usize = 1 << 20;
/// p
pub const PADDING: usize = 1 << 10;
/// s
pub const SHUFFLE_SCALE: usize = 1 << 8;
/// κ
pub const KERNEL_SIZE: usize = 1 << 10;
/// Tokens of a feature map or a sequence, with its padding; also the candidates drawn from them.
pub const TOKENS: usize = 1 << 22;
/// Candidates along an axis, and the margin around them.
pub const SIDE: usize = 1 << 16;

/// Fails unless `found` is from `least` to `most`, with the bound that it misses.
pub(super) fn within(found: usize, least: usize, most: usize, layer: &str, option: &'static str) -> Result<()> {
    let bound = if found < least { format!("at least {least}") } else { format!("at most {most}") };
    ensure((least..=most).contains(&found), layer, option, found, &bound)
}

/// Checks the numbers of tokens that a layer works on, padding included, and that it puts out.
pub(super) fn check_tokens(canvas: Canvas, output: Grid, layer: &str) -> Result<()> {
    let Grid { height, width } = canvas.outer();
    let (found, expected) = (format!("a padded map of {height}x{width}"), format!("at most {TOKENS} tokens"));
    ensure(canvas.padded_tokens() <= TOKENS, layer, "padding", found, &expected)?;
    let found = format!("an output of {}x{}", output.height, output.width);
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
