//! A picture with a cell, its neighbors and the window of a convolution.

use super::scene::{Color, Paint, Scene, Shape, rank_color};
use super::{Choice, Place};
use convnn_core::Grid;

/// What is drawn of one layer.
#[derive(Debug)]
pub struct Panel<'a> {
    /// The heading, such as "layer 2, 16×16".
    pub title: String,
    /// The neighbors.
    pub choice: &'a Choice,
    /// Which of the rows of the choice, an image or a head.
    pub row: usize,
    /// The cell whose neighbors are drawn: column and row.
    pub at: (usize, usize),
}

/// The side of the window that the neighbors are compared with.
pub const WINDOW: usize = 3;

const MARGIN: f32 = 16.0;
const TEXT: f32 = 13.0;
const HEAD: f32 = 24.0;
/// Room below a picture for the counts.
const FOOT: f32 = 36.0;
/// Room below the counts for neighbors that are not on the picture.
const OFF_MAP: f32 = 20.0;
const WHITE: Color = [255; 3];
const BLACK: Color = [0; 3];
const BLUE: Color = [0x5a, 0xa3, 0xe0];

/// The layers side by side and below each other, each with its neighbors on the left and the window on the right.
///
/// `planes` is the picture, bytes (3, S, S); `description` is for readers who cannot see the drawing.
pub fn sheet(planes: &[u8], panels: &[Panel<'_>], title: &str, description: String) -> Scene {
    let (side, columns) = match panels.len() {
        1 => (360.0, 1),
        2 => (256.0, 1),
        _ => (224.0, 2),
    };
    let is_off_map = |place: &Place| !matches!(place, Place::Cell(..));
    let off_map = panels.iter().any(|panel| panel.choice.neighbors(panel.row, panel.at).iter().any(is_off_map));
    let foot = if off_map { FOOT + OFF_MAP } else { FOOT };
    let (width, height) = (2.0 * side + 3.0 * MARGIN, side + HEAD + foot);
    let rows = panels.len().div_ceil(columns);
    let mut scene = Scene {
        width: width * columns as f32,
        height: HEAD + MARGIN + height * rows as f32 + HEAD,
        description,
        shapes: Vec::new(),
    };
    scene.text(MARGIN, HEAD, title);
    for (i, panel) in panels.iter().enumerate() {
        let (column, row) = ((i % columns) as f32, (i / columns) as f32);
        let (x, y) = (column * width + MARGIN, HEAD + MARGIN + row * height);
        scene.block(planes, panel, (x, y), side);
    }
    scene.legend();
    scene
}

impl Scene {
    fn text(&mut self, x: f32, y: f32, text: impl Into<String>) {
        self.shapes.push(Shape::Text { x, y, size: TEXT, text: text.into() });
    }

    fn rectangle(&mut self, x: f32, y: f32, width: f32, height: f32, paint: Paint) {
        self.shapes.push(Shape::Rectangle { x, y, width, height, paint });
    }

    /// An outline that is visible on every picture.
    fn outline(&mut self, [x, y, width, height]: [f32; 4], color: Color) {
        self.rectangle(x, y, width, height, Paint::Outline(BLACK, 3.5));
        self.rectangle(x, y, width, height, Paint::Outline(color, 2.0));
    }

    fn line(&mut self, from: (f32, f32), to: (f32, f32), color: Color) {
        self.shapes.push(Shape::Line { from, to, color: BLACK, width: 2.5 });
        self.shapes.push(Shape::Line { from, to, color, width: 1.2 });
    }

    /// One layer: neighbors, window, and counts.
    fn block(&mut self, planes: &[u8], panel: &Panel<'_>, (x, y): (f32, f32), side: f32) {
        let choice = panel.choice;
        let places = choice.neighbors(panel.row, panel.at);
        let map = Map { grid: choice.grid(), side, y: y + HEAD };
        let right = x + side + MARGIN;
        self.text(x, y + HEAD - 8.0, panel.title.clone());
        self.text(right, y + HEAD - 8.0, format!("{WINDOW}×{WINDOW} convolution"));
        for left in [x, right] {
            self.shapes.push(Shape::Picture { x: left, y: map.y, side, planes: planes.to_vec() });
        }
        self.neighbors(places, panel.at, &map, x);
        let window = cells_of_window(map.grid, panel.at);
        for &cell in &window {
            self.outline(map.cell(right, cell), BLUE);
        }
        self.outline(map.cell(right, panel.at), WHITE);
        let inside = places.iter().filter(|&&place| is_inside(place, panel.at)).count();
        let padding = places.iter().filter(|&&place| place == Place::Padding).count();
        let below = map.y + side + 16.0;
        self.text(x, below, format!("{inside} of {} in {WINDOW}×{WINDOW}, {padding} padding", places.len()));
        let outside = WINDOW * WINDOW - window.len();
        self.text(right, below, format!("{} pixels, {outside} padding", window.len()));
    }

    /// Neighbors on the map with lines to them, and below it those that have no place.
    fn neighbors(&mut self, places: &[Place], at: (usize, usize), map: &Map, x: f32) {
        let ranked = || places.iter().enumerate().rev();
        let own = Place::Cell(at.0, at.1);
        for (rank, &place) in ranked() {
            if let Place::Cell(column, row) = place
                && place != own
            {
                self.line(map.middle(x, at), map.middle(x, (column, row)), rank_color(rank, places.len()));
            }
        }
        for (rank, &place) in ranked() {
            if let Place::Cell(column, row) = place {
                self.outline(map.cell(x, (column, row)), rank_color(rank, places.len()));
            }
        }
        self.outline(map.cell(x, at), WHITE);
        let mut left = x;
        for (wanted, name) in [(Place::Padding, "padding"), (Place::ClassToken, "class token")] {
            let ranks: Vec<usize> = (0..places.len()).filter(|&rank| places[rank] == wanted).collect();
            if ranks.is_empty() {
                continue;
            }
            let most = ((map.side - 100.0) / 12.0) as usize;
            for &rank in ranks.iter().take(most) {
                let color = rank_color(rank, places.len());
                self.rectangle(left, map.y + map.side + 24.0, 9.0, 9.0, Paint::Fill(color));
                left += 12.0;
            }
            self.text(left + 4.0, map.y + map.side + 33.0, name);
            left += 24.0 + 0.6 * TEXT * name.len() as f32;
        }
    }

    /// What the colors mean, at the bottom.
    fn legend(&mut self) {
        const STEPS: usize = 24;
        let y = self.height - HEAD;
        self.text(MARGIN, y + 9.0, "nearest");
        for step in 0..STEPS {
            let x = MARGIN + 68.0 + 5.0 * step as f32;
            self.rectangle(x, y, 5.0, 10.0, Paint::Fill(rank_color(step, STEPS)));
        }
        self.text(MARGIN + 76.0 + 5.0 * STEPS as f32, y + 9.0, "farthest; white: the cell itself");
    }
}

/// Where the cells of a layer are on the picture.
struct Map {
    grid: Grid,
    side: f32,
    y: f32,
}

impl Map {
    fn cell(&self, left: f32, (column, row): (usize, usize)) -> [f32; 4] {
        let (width, height) = (self.side / self.grid.width as f32, self.side / self.grid.height as f32);
        [left + column as f32 * width, self.y + row as f32 * height, width, height]
    }

    fn middle(&self, left: f32, cell: (usize, usize)) -> (f32, f32) {
        let [x, y, width, height] = self.cell(left, cell);
        (x + width / 2.0, y + height / 2.0)
    }
}

/// The cells of the window around a cell that are on the map, row by row.
pub(super) fn cells_of_window(grid: Grid, (x, y): (usize, usize)) -> Vec<(usize, usize)> {
    let reach = WINDOW / 2;
    let rows = y.saturating_sub(reach)..(y + reach + 1).min(grid.height);
    rows.flat_map(|row| (x.saturating_sub(reach)..(x + reach + 1).min(grid.width)).map(move |column| (column, row)))
        .collect()
}

/// Whether a neighbor of the cell `at` is one of the pixels of the window.
pub(super) fn is_inside(place: Place, at: (usize, usize)) -> bool {
    matches!(place, Place::Cell(x, y) if x.abs_diff(at.0).max(y.abs_diff(at.1)) <= WINDOW / 2)
}
