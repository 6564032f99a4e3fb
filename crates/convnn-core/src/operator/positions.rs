//! Neighbors by position alone, compared exactly: what is equally far by definition ties, and the lower token comes first.

use super::Similarity;
use super::canvas::Canvas;
use super::similarity::{Metric, with_metric};
use rayon::prelude::*;
use std::cmp::Ordering;

/// Where a token is on the padded map, in whole numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    /// Column and row.
    pub(crate) pixel: [i64; 2],
    /// The normalized position, linspace(−1, 1) on each axis, times the product of the sides less one.
    pub(crate) scaled: [i64; 2],
}

impl Canvas {
    /// Every token of the padded map.
    fn whole_positions(self) -> Vec<Position> {
        let (width, height) = (self.outer().width as i64, self.outer().height as i64);
        let (across, down) = ((width - 1).max(1), (height - 1).max(1));
        // linspace of one number is −1.
        let centered = |i: i64, side: i64| if side == 1 { -1 } else { 2 * i - (side - 1) };
        let position = |i: i64| {
            let (x, y) = (i % width, i / width);
            let y_scaled = if self.position_channels() == 1 { 0 } else { centered(y, height) * across };
            Position { pixel: [x, y], scaled: [centered(x, width) * down, y_scaled] }
        };
        (0..width * height).map(position).collect()
    }

    /// For each token the token itself and the K − 1 others, of all places of the padded map or of `sample`, that are
    /// closest to it by position: (N, K).
    pub(crate) fn nearest_places(self, similarity: Similarity, k: usize, sample: Option<&[u32]>) -> Vec<u32> {
        let positions = self.whole_positions();
        let all: Vec<u32> = sample.map_or_else(|| (0..positions.len() as u32).collect(), <[u32]>::to_vec);
        let mut index = vec![0; self.tokens() * k];
        let rows = index.par_chunks_mut(k.max(1)).zip(self.places());
        with_metric!(similarity, M => rows.for_each_init(Vec::new, |candidates, (row, own)| {
            candidates.clear();
            candidates.extend(all.iter().copied().filter(|&place| place != own));
            nearest::<M>(&positions, own, candidates, row);
        }));
        index
    }
}

/// Fills `row` with `own` and the nearest `candidates`; the lowest other places fill up.
fn nearest<M: Metric>(positions: &[Position], own: u32, candidates: &mut Vec<u32>, row: &mut [u32]) {
    let query = &positions[own as usize];
    let others = row.len() - 1;
    let lowest = (0..positions.len() as u32).filter(|&place| place != own);
    if candidates.len() < others {
        let fill: Vec<u32> =
            lowest.filter(|place| !candidates.contains(place)).take(others - candidates.len()).collect();
        order::<M>(positions, query, candidates);
        candidates.extend(fill);
    } else if others > 0 {
        candidates.select_nth_unstable_by(others - 1, |&a, &b| compare::<M>(positions, query, a, b));
        candidates.truncate(others);
        order::<M>(positions, query, candidates);
    }
    row[0] = own;
    row[1..].copy_from_slice(&candidates[..others]);
}

fn order<M: Metric>(positions: &[Position], query: &Position, candidates: &mut [u32]) {
    candidates.sort_unstable_by(|&a, &b| compare::<M>(positions, query, a, b));
}

/// Nearest first, then by token.
fn compare<M: Metric>(positions: &[Position], query: &Position, a: u32, b: u32) -> Ordering {
    M::compare_places(query, &positions[b as usize], &positions[a as usize]).then(a.cmp(&b))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Grid;

    /// Tokens at equal distance come in the order of their numbers, on maps whose linspace rounds.
    #[test]
    fn equal_distances_tie() {
        for (h, w) in [(7, 7), (11, 8), (6, 13), (1, 9), (10, 1)] {
            let canvas = Canvas::grid(Grid::new(h, w), 1);
            let (rows, columns) = (h + 2, w + 2);
            for similarity in [Similarity::Euclidean, Similarity::Manhattan, Similarity::Chebyshev] {
                let k = 9.min(rows * columns);
                let found = canvas.nearest_places(similarity, k, None);
                for (token, row) in found.chunks(k).enumerate() {
                    let own = canvas.places()[token] as usize;
                    let key = |place: usize| {
                        let x = (place % columns).abs_diff(own % columns);
                        let y = (place / columns).abs_diff(own / columns);
                        let (x_scaled, y_scaled) = (x * (rows - 1), y * (columns - 1));
                        match similarity {
                            Similarity::Euclidean => x_scaled * x_scaled + y_scaled * y_scaled,
                            Similarity::Manhattan => x_scaled + y_scaled,
                            _ => x.max(y),
                        }
                    };
                    let mut expected: Vec<usize> = (0..rows * columns).filter(|&place| place != own).collect();
                    expected.sort_by_key(|&place| (key(place), place));
                    expected.insert(0, own);
                    expected.truncate(k);
                    let row: Vec<usize> = row.iter().map(|&place| place as usize).collect();
                    assert_eq!(row, expected, "{similarity:?} {h}x{w} token {token}");
                }
            }
        }
    }

    #[test]
    fn directions_tie_for_the_cosine() {
        // On a 5×5 map without padding token 24 is the corner (1, 1); 18 lies in the same direction, 12 is the center.
        let canvas = Canvas::grid(Grid::new(5, 5), 0);
        let found = canvas.nearest_places(Similarity::Cosine, 4, None);
        assert_eq!(found[24 * 4..], [24, 18, 19, 23]);
        // From the center everything is equally far.
        assert_eq!(found[12 * 4..13 * 4], [12, 0, 1, 2]);
    }
}
