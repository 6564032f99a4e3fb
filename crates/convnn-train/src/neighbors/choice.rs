//! Neighbors as places on a map.

use convnn_core::{Error, Grid, Neighbors, Result};
use std::cmp::Ordering;

/// Where a neighbor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A cell of the map: column and row.
    Cell(usize, usize),
    /// A zero token of the padding.
    Padding,
    /// The class token of a Vision Transformer.
    ClassToken,
}

/// The neighbors of every cell of a map, nearest first.
#[derive(Clone, Debug)]
pub struct Choice {
    grid: Grid,
    count: usize,
    rows: usize,
    /// (rows, H·W, K)
    places: Vec<Place>,
}

impl Choice {
    /// Neighbors of the pixels of a map. A layer that exchanges pixels for channels first has a smaller map than `grid`.
    pub(super) fn on_map(neighbors: &Neighbors, grid: Grid) -> Result<Self> {
        let (rows, tokens, count) = neighbors.index().dims3()?;
        let shrunk = (grid.tokens() / tokens.max(1)).isqrt().max(1);
        let grid = Grid::new(grid.height / shrunk, grid.width / shrunk);
        ensure(grid.tokens() == tokens, tokens, grid)?;
        let padding = neighbors.is_padding()?.flatten_all()?.to_vec1::<u8>()?;
        let offsets = neighbors.offsets()?.flatten_all()?.to_vec1::<f32>()?;
        let place = |(i, (&padding, offset)): (usize, (&u8, &[f32]))| {
            let token = i / count % tokens;
            let moved = |start: usize, by: f32| (start as f32 + by) as usize;
            match padding {
                0 => Place::Cell(moved(token % grid.width, offset[0]), moved(token / grid.width, offset[1])),
                _ => Place::Padding,
            }
        };
        let mut places: Vec<Place> = padding.iter().zip(offsets.chunks_exact(2)).enumerate().map(place).collect();
        if let (false, Some(scores)) = (neighbors.own_first(), neighbors.scores()) {
            let scores = scores.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
            for (i, (places, scores)) in places.chunks_mut(count).zip(scores.chunks(count)).enumerate() {
                let token = i % tokens;
                nearest_first(places, scores, Place::Cell(token % grid.width, token / grid.width));
            }
        }
        Ok(Self { grid, count, rows, places })
    }

    /// Neighbors of a class token and patches; those of the class token are left out.
    pub(super) fn of_patches(neighbors: &Neighbors, grid: Grid) -> Result<Self> {
        let (rows, tokens, count) = neighbors.index().dims3()?;
        ensure(tokens == grid.tokens() + 1, tokens, grid)?;
        let index = neighbors.index().narrow(1, 1, grid.tokens())?.flatten_all()?.to_vec1::<u32>()?;
        let place = |&row: &u32| match (row as usize).checked_sub(1) {
            None => Place::ClassToken,
            Some(patch) if patch < grid.tokens() => Place::Cell(patch % grid.width, patch / grid.width),
            Some(_) => Place::Padding,
        };
        Ok(Self { grid, count, rows, places: index.iter().map(place).collect() })
    }

    /// The map whose cells choose.
    pub const fn grid(&self) -> Grid {
        self.grid
    }

    /// The cell that pixel (`x`, `y`) of an image of `size`×`size` pixels lies in: column and row.
    pub const fn cell(&self, (x, y): (usize, usize), size: usize) -> (usize, usize) {
        (x * self.grid.width / size, y * self.grid.height / size)
    }

    /// K
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Images times heads; 1 if all images share the neighbors.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// The neighbors of the cell in column `x` and row `y`, for an image (the heads of an image one after another).
    ///
    /// # Panics
    /// If the cell is not on the map.
    pub fn neighbors(&self, row: usize, (x, y): (usize, usize)) -> &[Place] {
        let token = row % self.rows * self.grid.tokens() + y * self.grid.width + x;
        &self.places[token * self.count..][..self.count]
    }
}

fn ensure(holds: bool, tokens: usize, grid: Grid) -> Result<()> {
    if holds {
        return Ok(());
    }
    let expected = format!("those of a map of {}×{} cells", grid.height, grid.width);
    let found = format!("an index of {tokens} tokens");
    Err(Error::Option { layer: "neighbors".to_owned(), option: "neighbors", found, expected })
}

/// Neighbors by position come in the order of their tokens. This sorts them by score, `own` first; scores of equal
/// distances may differ by rounding.
fn nearest_first(places: &mut [Place], scores: &[f32], own: Place) {
    const ROUNDED: f32 = 1e5;
    let mut pairs: Vec<(Place, i64)> =
        places.iter().zip(scores).map(|(&place, &score)| (place, (score * ROUNDED).round() as i64)).collect();
    pairs.sort_by(|(a, a_score), (b, b_score)| match (*a == own, *b == own) {
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        _ => b_score.cmp(a_score),
    });
    places.iter_mut().zip(pairs).for_each(|(place, (sorted, _))| *place = sorted);
}
