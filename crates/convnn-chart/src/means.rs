//! Means with error bars, against a quantity or by name.

use crate::curves::{DIRECT, LABEL, LEGEND_LINE, PANEL};
use crate::labels::{short, spread};
use crate::style::{COLORS, Medium, finish};
use crate::{Error, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// One chart: means against a quantity, or by name.
#[derive(Clone, Debug, Default)]
pub struct Means {
    /// The heading.
    pub title: String,
    /// What the means are shown over.
    pub x_label: String,
    /// What is measured, with its unit.
    pub y_label: String,
    /// The names of the places 0, 1, 2, … on the horizontal axis; numbers if empty.
    pub names: Vec<String>,
    /// The groups, each in its own color.
    pub groups: Vec<Group>,
    /// A level to compare with, such as chance, and its name. It is drawn where the axis reaches it.
    pub level: Option<(f64, String)>,
}

/// Means that belong together.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// The name in the legend.
    pub label: String,
    /// The means, from left to right.
    pub points: Vec<Point>,
    /// Whether a line joins them.
    pub joined: bool,
    /// Whether these are somebody else's: hollow, the line dashed.
    pub reference: bool,
}

/// A mean, and what it is the mean of.
#[derive(Clone, Debug, Default)]
pub struct Point {
    /// Its place on the horizontal axis.
    pub x: f64,
    /// The mean.
    pub mean: f64,
    /// The standard deviation, drawn as a bar.
    pub sd: Option<f64>,
    /// The single values, drawn faintly.
    pub values: Vec<f64>,
}

/// The least range of the vertical axis, so that noise does not look like a trend.
const LEAST_RANGE: f64 = 6.0;
/// Characters below the axis, shared out among the names, and the height of a line of them.
const NAMES: usize = 64;
const NAME_LINE: u32 = 14;
/// Room at the right for last values.
const RIGHT: u32 = 52;

/// An SVG with the charts side by side, `columns` in a row.
///
/// # Errors
/// If plotters fails.
pub fn means(panels: &[Means], columns: usize, medium: Medium) -> Result<String> {
    let columns = columns.clamp(1, panels.len().max(1));
    let rows = panels.len().div_ceil(columns).max(1);
    let legend = panels.iter().map(|panel| panel.groups.len()).max().unwrap_or(0) as u32;
    let lines = panels.iter().flat_map(Means::wrapped_names).map(|lines| lines.len());
    let names = NAME_LINE * lines.max().unwrap_or(0) as u32;
    let size = (PANEL.0 * columns as u32, (PANEL.1 + names + LEGEND_LINE * legend + 8) * rows as u32);
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        if medium == Medium::File {
            root.fill(&WHITE)?;
        }
        for (area, panel) in root.split_evenly((rows, columns)).iter().zip(panels) {
            let (chart, legend) = area.split_vertically(PANEL.1 + names);
            panel.draw(&chart, names)?;
            panel.draw_legend(&legend)?;
        }
        root.present()?;
    }
    let titles: Vec<&str> = panels.iter().map(|panel| panel.title.as_str()).collect();
    Ok(finish(&text, &titles.join("; "), medium))
}

impl Means {
    fn draw(&self, area: &DrawingArea<SVGBackend, Shift>, names: u32) -> Result<()> {
        let (left, right) = self.horizontal();
        let (low, high) = self.vertical();
        let named = !self.names.is_empty();
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .margin_right(12 + RIGHT)
            .caption(&self.title, ("sans-serif", 19, &BLACK))
            .x_label_area_size(38 + names)
            .y_label_area_size(58)
            .build_cartesian_2d(left..right, low..high)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(BLACK.mix(0.15))
            .light_line_style(TRANSPARENT)
            .axis_style(BLACK.mix(0.6))
            .label_style(("sans-serif", 14, &BLACK))
            .axis_desc_style(("sans-serif", 15, &BLACK))
            .x_labels(if named { 0 } else { 9 })
            .x_label_formatter(&|value| short(*value, right - left))
            .y_labels(6)
            .y_label_formatter(&|value| short(*value, high - low))
            .x_desc(if named { "" } else { &self.x_label })
            .y_desc(&self.y_label)
            .draw()?;
        let at = |x: f64, y: f64| (x, y);
        if let Some((level, name)) = self.level.as_ref().filter(|(level, _)| (low..=high).contains(level)) {
            chart.draw_series(DashedLineSeries::new(
                [at(left, *level), at(right, *level)],
                3,
                3,
                BLACK.mix(0.5).into(),
            ))?;
            let text = ("sans-serif", 13).into_font().color(&BLACK.mix(0.7)).pos(Pos::new(HPos::Left, VPos::Bottom));
            chart.draw_series([Text::new(name.clone(), at(left, *level), text)])?;
        }
        let mut ends = Vec::new();
        for (group, color) in self.groups.iter().zip(COLORS.into_iter().cycle()) {
            let color = if group.reference { BLACK.mix(0.65) } else { color.to_rgba() };
            let points = group.points.iter().map(|point| at(point.x, point.mean));
            match (group.joined && !named, group.reference) {
                (false, _) => {}
                (true, true) => {
                    chart.draw_series(DashedLineSeries::new(points.clone(), 5, 4, color.stroke_width(1)))?;
                }
                (true, false) => {
                    chart.draw_series(LineSeries::new(points.clone(), color.stroke_width(2)))?;
                }
            }
            for point in &group.points {
                if let Some(sd) = point.sd {
                    let bar = [at(point.x, point.mean - sd), at(point.x, point.mean + sd)];
                    chart.draw_series(LineSeries::new(bar, color.stroke_width(2)))?;
                }
                let faint =
                    point.values.iter().map(|&value| Circle::new(at(point.x, value), 2, color.mix(0.5).filled()));
                chart.draw_series(faint)?;
            }
            let style = if group.reference { color.stroke_width(1) } else { color.filled() };
            chart.draw_series(points.map(|point| Circle::new(point, 4, style)))?;
            if named && !group.reference {
                // Without a line, a value stands beside its mark.
                let text = ("sans-serif", 13).into_font().color(&color).pos(Pos::new(HPos::Left, VPos::Center));
                let beside = group.points.iter().map(|point| {
                    let label = short(point.mean, (high - low) / 10.0);
                    EmptyElement::at(at(point.x, point.mean)) + Text::new(label, (8, 0), text.clone())
                });
                chart.draw_series(beside)?;
            } else if !named && group.joined {
                ends.extend(group.points.last().map(|point| (at(point.x, point.mean), color)));
            }
        }
        let (base, top) = area.get_base_pixel();
        if ends.len() <= DIRECT {
            let (_, heights) = chart.plotting_area().get_pixel_range();
            let pixel = |point| chart.plotting_area().map_coordinate(point);
            let wanted: Vec<i32> = ends.iter().map(|(point, _)| pixel(point).1).collect();
            for ((point, color), y) in ends.iter().zip(spread(&wanted, LABEL, heights.start, heights.end)) {
                let text = ("sans-serif", 14).into_font().color(color).pos(Pos::new(HPos::Left, VPos::Center));
                let value = short(point.1, (high - low) / 10.0);
                area.draw(&Text::new(value, (pixel(point).0 - base + 9, y - top), text))?;
            }
        }
        for (place, lines) in self.wrapped_names().enumerate() {
            let (x, _) = chart.plotting_area().map_coordinate(&at(place as f64, low));
            let (_, heights) = chart.plotting_area().get_pixel_range();
            for (index, line) in lines.into_iter().enumerate() {
                let text = ("sans-serif", 12).into_font().color(&BLACK).pos(Pos::new(HPos::Center, VPos::Top));
                area.draw(&Text::new(line, (x - base, heights.end - top + 8 + NAME_LINE as i32 * index as i32), text))?;
            }
        }
        Ok(())
    }

    fn draw_legend(&self, area: &DrawingArea<SVGBackend, Shift>) -> Result<()> {
        const LEFT: i32 = 70;
        let text = ("sans-serif", 15).into_font().color(&BLACK).pos(Pos::new(HPos::Left, VPos::Center));
        for (index, (group, color)) in self.groups.iter().zip(COLORS.into_iter().cycle()).enumerate() {
            let y = index as i32 * LEGEND_LINE as i32 + 8;
            let color = if group.reference { BLACK.mix(0.65) } else { color.to_rgba() };
            let style = if group.reference { color.stroke_width(1) } else { color.filled() };
            area.draw(&Circle::new((LEFT + 12, y), 4, style))?;
            area.draw(&Text::new(group.label.clone(), (LEFT + 32, y), text.clone()))?;
        }
        Ok::<(), Error>(())
    }

    fn horizontal(&self) -> (f64, f64) {
        if !self.names.is_empty() {
            return (-0.5, self.names.len() as f64 - 0.5);
        }
        let xs = || self.groups.iter().flat_map(|group| &group.points).map(|point| point.x);
        let (low, high) = (xs().fold(f64::INFINITY, f64::min), xs().fold(f64::NEG_INFINITY, f64::max));
        match low < high {
            true => (low - 0.03 * (high - low), high + 0.03 * (high - low)),
            false if low.is_finite() => (low - 0.5, low + 0.5),
            false => (0.0, 1.0),
        }
    }

    /// The lines of each name, short enough that neighbors do not touch.
    fn wrapped_names(&self) -> impl Iterator<Item = Vec<String>> {
        let width = (NAMES / self.names.len().max(1)).clamp(10, 28);
        self.names.iter().map(move |name| wrapped(name, width))
    }

    /// All values with some room, and never a narrow range.
    fn vertical(&self) -> (f64, f64) {
        let points = self.groups.iter().flat_map(|group| &group.points);
        let ends = points.flat_map(|point| {
            let sd = point.sd.unwrap_or(0.0);
            point.values.iter().copied().chain([point.mean - sd, point.mean + sd])
        });
        let ends: Vec<f64> = ends.filter(|value| value.is_finite()).collect();
        let low = ends.iter().copied().fold(f64::INFINITY, f64::min);
        let high = ends.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if low > high {
            return (0.0, 1.0);
        }
        let room = (0.08 * (high - low)).max((LEAST_RANGE - (high - low)) / 2.0);
        (if low >= 0.0 { (low - room).max(0.0) } else { low - room }, high + room)
    }
}

/// `text` in lines of about `width` characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => *line += &format!(" {word}"),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn chart(means: &[(f64, f64)]) -> Means {
        let points: Vec<_> = means
            .iter()
            .map(|&(x, mean)| Point { x, mean, sd: Some(0.3), values: vec![mean - 0.3, mean + 0.3] })
            .collect();
        Means {
            title: "accuracy".to_owned(),
            x_label: "branch ratio".to_owned(),
            y_label: "top-1 (%)".to_owned(),
            groups: vec![
                Group { label: "ours".to_owned(), points: points.clone(), joined: true, reference: false },
                Group { label: "published".to_owned(), points, joined: true, reference: true },
            ],
            level: Some((10.0, "chance".to_owned())),
            ..Means::default()
        }
    }

    #[test]
    fn a_narrow_range_is_widened_and_chance_is_drawn_where_it_is_reached() {
        assert_eq!(chart(&[(0.0, 70.0), (1.0, 70.4)]).vertical(), (67.2, 73.2));
        let far = means(&[chart(&[(0.0, 70.0), (1.0, 70.4)])], 1, Medium::Page).unwrap();
        assert!(far.contains("branch ratio") && far.contains("published") && !far.contains("chance"), "{far}");
        assert!(means(&[chart(&[(0.0, 8.0), (1.0, 40.0)])], 1, Medium::Page).unwrap().contains("chance"));
    }

    #[test]
    fn names_stand_below_their_marks() {
        let draw = |names: &[&str]| {
            let names = names.iter().map(|&name| name.to_owned()).collect();
            let named = Means { names, ..chart(&[(0.0, 50.0), (1.0, 60.0)]) };
            means(&[named], 1, Medium::File).unwrap()
        };
        let two = draw(&["ConvNN, random candidates", "KVT"]);
        assert!(two.contains("ConvNN, random candidates\n") && two.contains("KVT\n"), "{two}");
        // Among five there is less room for each.
        let five = draw(&["ConvNN, random candidates", "KVT", "attention", "local", "all"]);
        assert!(five.contains("ConvNN,\n") && five.contains("random\n") && five.contains("candidates\n"), "{five}");
    }

    #[test]
    fn nothing_and_a_single_point_are_drawn() {
        for points in [&[][..], &[(3.0, 50.0)]] {
            let text = means(&[chart(points)], 1, Medium::Page).unwrap();
            assert!(text.starts_with("<svg") && !text.contains("NaN"), "{text}");
        }
    }
}
