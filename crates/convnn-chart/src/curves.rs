//! Curves over epochs or layers.

use crate::labels::{short, spread};
use crate::style::{COLORS, Medium, finish};
use crate::{Error, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// One chart: values against epochs, or against another number that counts up.
#[derive(Clone, Debug, Default)]
pub struct Panel {
    /// The heading.
    pub title: String,
    /// What the values are shown over, such as "epoch".
    pub x_label: String,
    /// What is measured, with its unit.
    pub y_label: String,
    /// The lines, each in its own color.
    pub lines: Vec<Line>,
    /// What the dashed curves are, if there are any.
    pub dashed_label: Option<String>,
}

/// Curves of one color, as points (epoch or layer, value).
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// The name in the legend.
    pub label: String,
    /// One curve per run.
    pub solid: Vec<Vec<(i32, f64)>>,
    /// A curve to compare with, drawn faintly. It counts only as far as the others go.
    pub dashed: Vec<(i32, f64)>,
}

pub(crate) const PANEL: (u32, u32) = (520, 360);
pub(crate) const LEGEND_LINE: u32 = 18;
/// Room for the last values at the right.
const RIGHT: u32 = 52;
/// Height of a direct label.
pub(crate) const LABEL: i32 = 14;
/// Up to this many curves, their last values stand beside them.
pub(crate) const DIRECT: usize = 8;

/// An SVG with the panels side by side, `columns` in a row.
///
/// # Errors
/// If plotters fails.
pub fn curves(panels: &[Panel], columns: usize, medium: Medium) -> Result<String> {
    let columns = columns.clamp(1, panels.len().max(1));
    let rows = panels.len().div_ceil(columns).max(1);
    let legend = panels.iter().map(Panel::legend_lines).max().unwrap_or(0) as u32;
    let size = (PANEL.0 * columns as u32, (PANEL.1 + LEGEND_LINE * legend + 8) * rows as u32);
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        if medium == Medium::File {
            root.fill(&WHITE)?;
        }
        for (area, panel) in root.split_evenly((rows, columns)).iter().zip(panels) {
            panel.draw(area)?;
        }
        root.present()?;
    }
    let titles: Vec<&str> = panels.iter().map(|panel| panel.title.as_str()).collect();
    Ok(finish(&text, &titles.join("; "), medium))
}

impl Panel {
    fn legend_lines(&self) -> usize {
        self.lines.len() + usize::from(self.dashed_label.is_some())
    }

    fn draw(&self, area: &DrawingArea<SVGBackend, Shift>) -> Result<()> {
        let (chart_area, legend_area) = area.split_vertically(PANEL.1);
        let ours = || self.lines.iter().flat_map(|line| line.solid.iter().flatten()).filter(|p| p.1.is_finite());
        let first = ours().map(|point| point.0).min().unwrap_or(1);
        let last = ours().map(|point| point.0).max().unwrap_or(1).max(first + 1);
        let dashed = self.lines.iter().flat_map(|line| &line.dashed).filter(|point| point.0 <= last);
        let values: Vec<f64> = ours().chain(dashed).map(|point| point.1).collect();
        let (low, high) = range(&values);

        let mut chart = ChartBuilder::on(&chart_area)
            .margin(12)
            .margin_right(12 + RIGHT)
            .caption(&self.title, ("sans-serif", 19, &BLACK))
            .x_label_area_size(38)
            .y_label_area_size(58)
            .build_cartesian_2d(first..last, low..high)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(BLACK.mix(0.15))
            .light_line_style(TRANSPARENT)
            .axis_style(BLACK.mix(0.6))
            .label_style(("sans-serif", 14, &BLACK))
            .axis_desc_style(("sans-serif", 15, &BLACK))
            .x_labels((last - first + 1).min(10) as usize)
            .y_labels(6)
            .y_label_formatter(&|value| short(*value, high - low))
            .x_desc(&self.x_label)
            .y_desc(&self.y_label)
            .draw()?;
        let mut ends = Vec::new();
        for (line, color) in self.lines.iter().zip(COLORS.into_iter().cycle()) {
            let is_shown = |point: &(i32, f64)| point.0 <= last && point.1.is_finite();
            let dashed: Vec<_> = line.dashed.iter().copied().filter(is_shown).collect();
            chart.draw_series(DashedLineSeries::new(dashed, 5, 4, color.mix(0.55).stroke_width(1)))?;
            for curve in &line.solid {
                let curve: Vec<_> = curve.iter().copied().filter(|point| point.1.is_finite()).collect();
                chart.draw_series(LineSeries::new(curve.iter().copied(), color.stroke_width(2)))?;
                // Dots show single epochs, as long as they do not run together.
                if last - first <= 40 {
                    chart.draw_series(curve.iter().map(|&point| Circle::new(point, 3, color.filled())))?;
                }
                ends.extend(curve.last().map(|&point| (point, color)));
            }
        }
        if ends.len() <= DIRECT {
            let (_, heights) = chart.plotting_area().get_pixel_range();
            let wanted: Vec<i32> =
                ends.iter().map(|(point, _)| chart.plotting_area().map_coordinate(point).1).collect();
            let places = spread(&wanted, LABEL, heights.start, heights.end);
            let (left, top) = chart_area.get_base_pixel();
            for ((point, color), y) in ends.iter().zip(places) {
                let x = chart.plotting_area().map_coordinate(point).0 - left + 7;
                let text = ("sans-serif", 14).into_font().color(color).pos(Pos::new(HPos::Left, VPos::Center));
                let value = short(point.1, (high - low) / 10.0);
                chart_area.draw(&Text::new(value, (x, y - top), text))?;
            }
        }
        self.draw_legend(&legend_area)
    }

    fn draw_legend(&self, area: &DrawingArea<SVGBackend, Shift>) -> Result<()> {
        const LEFT: i32 = 70;
        let middle = |index: usize| index as i32 * LEGEND_LINE as i32 + 8;
        let text = ("sans-serif", 15).into_font().color(&BLACK).pos(Pos::new(HPos::Left, VPos::Center));
        for (index, (line, color)) in self.lines.iter().zip(COLORS.into_iter().cycle()).enumerate() {
            let y = middle(index);
            area.draw(&PathElement::new(vec![(LEFT, y), (LEFT + 24, y)], color.stroke_width(3)))?;
            area.draw(&Text::new(line.label.clone(), (LEFT + 32, y), text.clone()))?;
        }
        let Some(label) = &self.dashed_label else { return Ok(()) };
        let y = middle(self.lines.len());
        for x in [LEFT, LEFT + 9, LEFT + 18] {
            area.draw(&PathElement::new(vec![(x, y), (x + 6, y)], BLACK.mix(0.6).stroke_width(1)))?;
        }
        area.draw(&Text::new(label.clone(), (LEFT + 32, y), text)).map_err(Error::from)
    }
}

/// The lowest and highest value with a margin; 0 to 1 if there are no values.
fn range(values: &[f64]) -> (f64, f64) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if low > high {
        return (0.0, 1.0);
    }
    let room = ((high - low) * 0.06).max(high.abs() * 0.01).max(1e-9);
    (if low >= 0.0 { (low - room).max(0.0) } else { low - room }, high + room)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn panel(points: &[(i32, f64)]) -> Panel {
        let line = |label: &str, by: f64| Line {
            label: label.to_owned(),
            solid: vec![points.iter().map(|&(x, y)| (x, y + by)).collect()],
            ..Line::default()
        };
        Panel {
            title: "loss <&>".to_owned(),
            x_label: "epoch".to_owned(),
            y_label: "loss (nats)".to_owned(),
            lines: vec![line("training", 0.0), line("test", 0.001)],
            ..Panel::default()
        }
    }

    #[test]
    fn titles_legends_axes_and_last_values_are_there_and_apart() {
        let text = curves(&[panel(&[(1, 2.3), (2, 1.5), (3, 1.25)])], 2, Medium::File).unwrap();
        for part in ["loss &lt;&amp;&gt;", "loss (nats)", "epoch", "training", "test", "prefers-color-scheme"] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
        // Both curves end at 1.25; the labels stand apart.
        let lines: Vec<&str> = text.lines().collect();
        let labels = lines.windows(2).filter(|pair| pair[0].starts_with("<text") && pair[1].trim() == "1.25");
        let heights: Vec<f64> = labels.map(|pair| attribute(pair[0], "y")).collect();
        assert_eq!(heights.len(), 2, "{text}");
        assert!((heights[0] - heights[1]).abs() >= 13.0, "{heights:?}");
    }

    fn attribute(element: &str, name: &str) -> f64 {
        let start = element.find(&format!(" {name}=\"")).unwrap() + name.len() + 3;
        element[start..].split('"').next().unwrap().parse().unwrap()
    }

    #[test]
    fn few_and_odd_values_are_drawn() {
        for points in [&[][..], &[(1, 2.0)], &[(7, 0.0), (8, 0.0)], &[(1, f64::NAN), (2, 1.0)], &[(1, -3.0), (2, 1e9)]]
        {
            let text = curves(&[panel(points)], 1, Medium::Page).unwrap();
            assert!(text.contains("currentColor") && !text.contains("NaN"), "{points:?}: {text}");
        }
        assert!(curves(&[], 3, Medium::File).unwrap().starts_with("<svg"));
    }
}
