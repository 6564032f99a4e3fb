//! A drawing: shapes that become an SVG or a PNG.

use crate::Result;

/// Red, green and blue.
pub(super) type Color = [u8; 3];

/// Shapes on a sheet, in pixels; later ones cover earlier ones.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    pub(super) width: f32,
    pub(super) height: f32,
    /// What the drawing shows, for readers who cannot see it.
    pub(super) description: String,
    pub(super) shapes: Vec<Shape>,
}

#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// A square picture: planes of bytes (3, S, S), drawn `side` pixels wide.
    Picture { x: f32, y: f32, side: f32, planes: Vec<u8> },
    /// A rectangle, filled or outlined.
    Rectangle { x: f32, y: f32, width: f32, height: f32, paint: Paint },
    /// A line.
    Line { from: (f32, f32), to: (f32, f32), color: Color, width: f32 },
    /// Text whose baseline starts at (x, y), each character about half as wide as `size`.
    Text { x: f32, y: f32, size: f32, text: String },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Paint {
    Fill(Color),
    Outline(Color, f32),
}

impl Scene {
    /// The drawing as an SVG, black on white, or white on black where the viewer prefers dark pages.
    ///
    /// # Errors
    /// If the picture in it cannot be encoded.
    pub fn svg(&self) -> Result<String> {
        super::svg::svg(self)
    }

    /// The drawing as a PNG, black on white.
    ///
    /// # Errors
    /// If it is too large to be drawn.
    pub fn png(&self) -> Result<Vec<u8>> {
        super::png::png(self)
    }
}

/// Colors from the nearest (yellow) to the farthest neighbor (purple): the scale "plasma".
pub(super) fn rank_color(rank: usize, count: usize) -> Color {
    const STOPS: [Color; 5] = [[240, 249, 33], [252, 166, 54], [225, 100, 98], [177, 42, 144], [106, 0, 168]];
    let place = rank as f32 / (count.max(2) - 1) as f32 * (STOPS.len() - 1) as f32;
    let stop = (place as usize).min(STOPS.len() - 2);
    let share = place - stop as f32;
    std::array::from_fn(|c| {
        let (a, b) = (f32::from(STOPS[stop][c]), f32::from(STOPS[stop + 1][c]));
        (a + (b - a) * share).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_run_through_the_scale() {
        assert_eq!([rank_color(0, 9), rank_color(8, 9)], [[240, 249, 33], [106, 0, 168]]);
        assert_eq!((rank_color(4, 9), rank_color(0, 1)), ([225, 100, 98], [240, 249, 33]));
    }
}
