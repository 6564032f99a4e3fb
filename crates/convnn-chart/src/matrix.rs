//! A confusion matrix as a grid of shaded cells.

use crate::Result;
use crate::style::{COLORS, Medium, finish};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// What is drawn by [`matrix`].
#[derive(Clone, Debug)]
pub struct Matrix<'a> {
    /// The heading.
    pub title: &'a str,
    /// Names of the classes.
    pub classes: &'a [String],
    /// `counts[true][predicted]`
    pub counts: &'a [Vec<u64>],
}

/// Up to this many classes, names and numbers are written.
const WRITTEN: usize = 30;

/// An SVG with a row per true class and a column per predicted one, shaded by the share of the row.
///
/// # Errors
/// If plotters fails.
pub fn matrix(matrix: &Matrix<'_>, medium: Medium) -> Result<String> {
    let classes = matrix.classes.len().max(1);
    let written = classes <= WRITTEN;
    let cell = if written { 44 } else { (900 / classes as i32).max(3) };
    let longest = matrix.classes.iter().map(|name| name.chars().count()).max().unwrap_or(0) as i32;
    let names = if written { longest * 8 + 12 } else { 12 };
    let (left, top) = (names + 36, 44);
    let side = cell * classes as i32;
    let size = ((left + side + 20) as u32, (top + side + names + 40) as u32);
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        if medium == Medium::File {
            root.fill(&WHITE)?;
        }
        let font = |size: i32, across: HPos, down: VPos| {
            ("sans-serif", size).into_font().color(&BLACK).pos(Pos::new(across, down))
        };
        let centre = left + side / 2;
        root.draw(&Text::new(matrix.title.to_owned(), (centre, 16), font(19, HPos::Center, VPos::Center)))?;
        for (row, counts) in matrix.counts.iter().enumerate() {
            let total = counts.iter().sum::<u64>().max(1);
            for (column, &count) in counts.iter().enumerate() {
                let (x, y) = (left + column as i32 * cell, top + row as i32 * cell);
                let share = count as f64 / total as f64;
                let gap = i32::from(written);
                let place = [(x, y), (x + cell - gap, y + cell - gap)];
                // Right and wrong have different colors; a faint line shows the grid.
                let color = if row == column { COLORS[0] } else { COLORS[1] };
                root.draw(&Rectangle::new(place, color.mix(0.04 + 0.8 * share).filled()))?;
                if written && count > 0 {
                    let middle = (x + cell / 2, y + cell / 2);
                    root.draw(&Text::new(count.to_string(), middle, font(14, HPos::Center, VPos::Center)))?;
                }
            }
        }
        if written {
            for (index, name) in matrix.classes.iter().enumerate() {
                let along = index as i32 * cell + cell / 2;
                let beside = font(14, HPos::Right, VPos::Center);
                root.draw(&Text::new(name.clone(), (left - 8, top + along), beside))?;
                let below = font(14, HPos::Right, VPos::Center).transform(FontTransform::Rotate270);
                root.draw(&Text::new(name.clone(), (left + along, top + side + 8), below))?;
            }
        }
        let bottom = top + side + names + 22;
        root.draw(&Text::new("predicted class", (centre, bottom), font(15, HPos::Center, VPos::Center)))?;
        let upwards = font(15, HPos::Center, VPos::Center).transform(FontTransform::Rotate270);
        root.draw(&Text::new("true class", (16, top + side / 2), upwards))?;
        root.present()?;
    }
    Ok(finish(&text, matrix.title, medium))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_count_and_name_is_written_if_they_fit() {
        let classes = ["cat", "dog", "a<b"].map(str::to_owned);
        let counts = [vec![7, 1, 0], vec![2, 8, 0], vec![0, 0, 11]];
        let text = matrix(&Matrix { title: "confusion", classes: &classes, counts: &counts }, Medium::File).unwrap();
        let written: Vec<&str> = text.lines().map(str::trim).collect();
        for part in ["7", "1", "2", "8", "11", "cat", "dog", "a&lt;b", "confusion", "predicted class", "true class"] {
            assert!(written.contains(&part), "{part} is missing:\n{text}");
        }
        assert_eq!(text.matches("<rect").count(), 1 + 9);

        let many: Vec<String> = (0..100).map(|i| i.to_string()).collect();
        let counts = vec![vec![1; 100]; 100];
        let text = matrix(&Matrix { title: "many", classes: &many, counts: &counts }, Medium::Page).unwrap();
        assert_eq!(text.matches("<text").count(), 3);
    }
}
