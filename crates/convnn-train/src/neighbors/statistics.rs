//! How far away the neighbors are that layers choose, over many images.

use super::drawing::{cells_of_window, is_inside};
use super::{Choice, Place, Seen};
use crate::text::Table;
use crate::{Error, Result};
use convnn_chart::{Line, Medium, Panel, curves};
use std::collections::HashMap;
use std::path::PathBuf;

/// Where a neighbor is, seen from its cell: the entropy is taken over these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Offset {
    By(isize, isize),
    Padding,
    ClassToken,
}

/// What is counted of one layer.
#[derive(Clone, Debug, Default)]
pub struct LayerStatistics {
    /// Number of the layer, from 1.
    pub number: usize,
    /// Width and height of its map.
    pub map: (usize, usize),
    neighbors: u64,
    inside: u64,
    padding: u64,
    /// Sum over the neighbors on the map, in cells.
    distance: f64,
    window_cells: u64,
    window_distance: f64,
    offsets: HashMap<Offset, u64>,
}

/// Statistics of every layer that chooses neighbors.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// The layers, from the first to the last.
    pub layers: Vec<LayerStatistics>,
    /// Images counted.
    pub images: usize,
}

impl LayerStatistics {
    fn add(&mut self, choice: &Choice) {
        let grid = choice.grid();
        for row in 0..choice.rows() {
            for at in (0..grid.height).flat_map(|y| (0..grid.width).map(move |x| (x, y))) {
                self.add_cell(choice, row, at);
            }
        }
    }

    /// Adds the neighbors of the cell `at` (column, row) of an image or head.
    ///
    /// # Panics
    /// If the cell is not on the map.
    pub fn add_cell(&mut self, choice: &Choice, row: usize, at: (usize, usize)) {
        let window = cells_of_window(choice.grid(), at);
        self.window_cells += window.len() as u64;
        self.window_distance += window.iter().map(|&cell| distance(cell, at)).sum::<f64>();
        for &place in choice.neighbors(row, at) {
            self.neighbors += 1;
            self.inside += u64::from(is_inside(place, at));
            let offset = match place {
                Place::Cell(x, y) => {
                    self.distance += distance((x, y), at);
                    Offset::By(x as isize - at.0 as isize, y as isize - at.1 as isize)
                }
                Place::Padding => {
                    self.padding += 1;
                    Offset::Padding
                }
                Place::ClassToken => Offset::ClassToken,
            };
            *self.offsets.entry(offset).or_default() += 1;
        }
    }

    /// Mean distance in cells of the neighbors that are on the map, each cell's distance to itself included.
    pub fn mean_distance(&self) -> f64 {
        let count = |offset| self.offsets.get(&offset).copied().unwrap_or(0);
        self.distance / (self.neighbors - count(Offset::Padding) - count(Offset::ClassToken)).max(1) as f64
    }

    /// The same for the 3×3 window of a convolution.
    pub fn window_distance(&self) -> f64 {
        self.window_distance / self.window_cells.max(1) as f64
    }

    /// Share of the neighbors that are in the 3×3 window.
    pub fn inside(&self) -> f64 {
        self.inside as f64 / self.neighbors.max(1) as f64
    }

    /// Share of the cells of the 3×3 window that are neighbors.
    pub fn overlap(&self) -> f64 {
        self.inside as f64 / self.window_cells.max(1) as f64
    }

    /// Share of the neighbors that are padding.
    pub fn padding(&self) -> f64 {
        self.padding as f64 / self.neighbors.max(1) as f64
    }

    /// Entropy in bits of where neighbors are, seen from their cells. A 3×3 window away from the border has log₂ 9 = 3.17.
    pub fn entropy(&self) -> f64 {
        let share = |&count: &u64| count as f64 / self.neighbors.max(1) as f64;
        // The counts in a fixed order, so that the last digit does not depend on the order of a hash map.
        let mut counts: Vec<u64> = self.offsets.values().copied().collect();
        counts.sort_unstable();
        // Not −Σ p·log p, which is −0 for a single place.
        counts.iter().map(share).map(|p| p * (1.0 / p).log2()).sum()
    }

    /// The numbers with their names, for tables.
    fn values(&self) -> [(&'static str, f64); 6] {
        [
            ("mean_distance", self.mean_distance()),
            ("window_distance", self.window_distance()),
            ("inside_window", self.inside()),
            ("overlap", self.overlap()),
            ("padding", self.padding()),
            ("entropy_bits", self.entropy()),
        ]
    }
}

fn distance((x, y): (usize, usize), at: (usize, usize)) -> f64 {
    (x.abs_diff(at.0) as f64).hypot(y.abs_diff(at.1) as f64)
}

impl Statistics {
    /// Adds what the layers choose for `images` images. Neighbors that all images share count once a call.
    pub fn add(&mut self, layers: &[Seen], images: usize) {
        let chosen = layers.iter().filter_map(|layer| Some((layer.number, layer.choice.as_ref()?)));
        for (place, (number, choice)) in chosen.enumerate() {
            if place == self.layers.len() {
                let map = (choice.grid().width, choice.grid().height);
                self.layers.push(LayerStatistics { number, map, ..LayerStatistics::default() });
            }
            self.layers[place].add(choice);
        }
        self.images += images;
    }

    /// A table for people.
    pub fn table(&self) -> Vec<String> {
        let headings = ["layer", "map", "distance", "3×3 distance", "in 3×3 %", "of 3×3 %", "padding %", "entropy"];
        let mut table = Table::new(&headings);
        for layer in &self.layers {
            let [distance, window, inside, overlap, padding, entropy] = layer.values().map(|(_, value)| value);
            let percent = |share: f64| format!("{:.1}", 100.0 * share);
            table.row(vec![
                layer.number.to_string(),
                format!("{}×{}", layer.map.0, layer.map.1),
                format!("{distance:.2}"),
                format!("{window:.2}"),
                percent(inside),
                percent(overlap),
                percent(padding),
                format!("{entropy:.2}"),
            ]);
        }
        table.lines()
    }

    /// A row per layer; shares are from 0 to 1, distances in cells of the layer's map.
    pub fn csv(&self) -> String {
        let names = LayerStatistics::default().values().map(|(name, _)| name).join(",");
        let mut text = format!("layer,width,height,{names}\n");
        for layer in &self.layers {
            let values = layer.values().map(|(_, value)| format!("{value:.6}")).join(",");
            text += &format!("{},{},{},{values}\n", layer.number, layer.map.0, layer.map.1);
        }
        text
    }

    /// Curves over the layers.
    ///
    /// # Errors
    /// If they cannot be drawn.
    pub fn svg(&self) -> Result<String> {
        let line = |label: &str, value: fn(&LayerStatistics) -> f64| Line {
            label: label.to_owned(),
            solid: vec![self.layers.iter().map(|layer| (layer.number as i32, value(layer))).collect()],
            dashed: Vec::new(),
        };
        let panel = |title: &str, y_label: &str, lines| Panel {
            title: title.to_owned(),
            x_label: "layer".to_owned(),
            y_label: y_label.to_owned(),
            lines,
            dashed_label: None,
        };
        let panels = [
            panel(
                "distance of the neighbors",
                "mean distance (cells)",
                vec![
                    line("chosen neighbors", LayerStatistics::mean_distance),
                    line("3×3 convolution", LayerStatistics::window_distance),
                ],
            ),
            panel(
                "where the neighbors are",
                "share of the neighbors",
                vec![line("in the 3×3 window", LayerStatistics::inside), line("padding", LayerStatistics::padding)],
            ),
            panel(
                "entropy of the choice",
                "entropy of the offsets (bits)",
                vec![line("chosen neighbors", LayerStatistics::entropy), line("3×3 window (log₂ 9)", |_| 9f64.log2())],
            ),
        ];
        curves(&panels, panels.len(), Medium::File).map_err(|error| Error::Damaged {
            path: PathBuf::from("figure of the statistics"),
            message: error.to_string(),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::neighbors::Selector;
    use candle_core::{DType, Device, Tensor};
    use convnn_core::{Grid, Similarity};

    /// By position the neighbors are the window of the convolution.
    #[test]
    fn positions_have_the_numbers_of_a_convolution() {
        let selector = Selector { neighbors: 9, lambda: 0.0, similarity: Similarity::Euclidean, padding: 1 };
        let (features, grid) = (Tensor::zeros((1, 64, 1), DType::F32, &Device::Cpu).unwrap(), Grid::new(8, 8));
        let choice = selector.among(&features, grid).unwrap();
        let mut statistics = Statistics::default();
        statistics.add(&[Seen { number: 1, features, grid, choice: Some(choice) }], 1);
        let layer = &statistics.layers[0];
        assert_eq!(layer.overlap(), 1.0);
        assert!((layer.mean_distance() - layer.window_distance()).abs() < 1e-12);
        // 4 corners miss 5 of 9, and 24 other cells of the border miss 3.
        let outside = (4.0 * 5.0 + 24.0 * 3.0) / (64.0 * 9.0);
        assert!((layer.padding() - outside).abs() < 1e-12 && (layer.inside() - 1.0 + outside).abs() < 1e-12);
        assert!(layer.entropy() > 9f64.log2() && layer.entropy() < 10f64.log2());
        assert!(statistics.csv().lines().nth(1).unwrap().starts_with("1,8,8,"));
        assert_eq!(statistics.table().len(), 2);
    }
}
