//! Training curves as SVG.

use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::experiment::Data;
use crate::run_folder::Epoch;
use crate::summary::{FamilySummary, RowSummary};

/// What a chart is drawn for, which decides its colours.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// Part of a page: no background, and the page's text colour.
    Page,
    /// A file of its own: black on white, readable on any page.
    File,
}

/// What is plotted against the epochs.
#[derive(Clone, Copy)]
pub enum Figure {
    /// Test top-1 in percent.
    TestTop1,
    /// Mean training loss.
    TrainLoss,
}

/// One chart.
struct Panel {
    title: String,
    y_label: &'static str,
    lines: Vec<Line>,
    /// What the dashed curves are; `None` if there are none.
    published_label: Option<String>,
}

/// The curves of one row.
struct Line {
    label: String,
    colour: RGBColor,
    /// One curve per seed.
    runs: Vec<Vec<(i32, f64)>>,
    /// The published curve of the full-size counterpart, if any.
    published: Vec<(i32, f64)>,
}

/// Colours that remain distinct with colour blindness and are visible on white and on black (after Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x2f, 0x7f, 0xc1),
    RGBColor(0xd9, 0x5f, 0x0e),
    RGBColor(0x14, 0x9c, 0x74),
    RGBColor(0xc0, 0x5f, 0xa2),
    RGBColor(0xa8, 0x8a, 0x1c),
    RGBColor(0x7a, 0x6f, 0xd0),
];

const PANEL: (u32, u32) = (520, 380);
const LEGEND_LINE: u32 = 18;

/// An SVG with one panel per family and figure, side by side.
pub fn svg(panels: &[(&FamilySummary, Figure)], medium: Medium) -> Result<String> {
    let panels: Vec<Panel> = panels.iter().map(|&(family, figure)| Panel::new(family, figure)).collect();
    let legend = panels.iter().map(|panel| panel.lines.len() + 1).max().unwrap_or(0) as u32;
    let size = (PANEL.0 * panels.len() as u32, PANEL.1 + LEGEND_LINE * legend);
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        if medium == Medium::File {
            root.fill(&WHITE)?;
        }
        for (area, panel) in root.split_evenly((1, panels.len())).iter().zip(&panels) {
            panel.draw(area)?;
        }
        root.present()?;
    }
    let titles: Vec<&str> = panels.iter().map(|panel| panel.title.as_str()).collect();
    let described = format!("<svg role=\"img\" aria-label=\"{}\" ", titles.join("; "));
    text = text.replacen("<svg ", &described, 1);
    if medium == Medium::Page {
        text = text.replace("\"#000000\"", "\"currentColor\"");
    }
    Ok(text)
}

impl Panel {
    fn new(family: &FamilySummary, figure: Figure) -> Self {
        let lines = family.rows.iter().zip(COLOURS.iter().cycle());
        let (title, y_label) = match figure {
            Figure::TestTop1 => ("test top-1", "test top-1 (%)"),
            Figure::TrainLoss => ("training loss", "training loss"),
        };
        // An epoch of the sample is a hundredth of a published one, so the curves are not comparable.
        let published = family.family.published.as_ref().filter(|_| family.training.data != Data::Sample);
        Self {
            title: format!("{}: {title}", family.training.base),
            y_label,
            lines: lines.map(|(row, colour)| Line::new(row, *colour, figure, published.is_some())).collect(),
            published_label: published
                .map(|runs| format!("dashed: published, full-size {}, its first epochs", runs.model)),
        }
    }

    fn draw(&self, area: &DrawingArea<SVGBackend, Shift>) -> Result<()> {
        let (chart_area, legend_area) = area.split_vertically(PANEL.1);
        let ours = || self.lines.iter().flat_map(|line| line.runs.iter().flatten());
        let last = ours().map(|point| point.0).max().unwrap_or(1).max(2);
        let published = self.lines.iter().flat_map(|line| &line.published);
        let published = published.filter(|point| point.0 <= last);
        let values: Vec<f64> = ours().chain(published).map(|point| point.1).collect();
        let (low, high) = range(&values);

        let mut chart = ChartBuilder::on(&chart_area)
            .margin(12)
            .caption(&self.title, ("sans-serif", 16, &BLACK))
            .x_label_area_size(38)
            .y_label_area_size(52)
            .build_cartesian_2d(1..last, low..high)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(BLACK.mix(0.15))
            .light_line_style(TRANSPARENT)
            .axis_style(BLACK.mix(0.6))
            .label_style(("sans-serif", 12, &BLACK))
            .axis_desc_style(("sans-serif", 13, &BLACK))
            .x_labels(last.min(10) as usize)
            .y_labels(6)
            .y_label_formatter(&|value| short(*value, high - low))
            .x_desc("epoch")
            .y_desc(self.y_label)
            .draw()?;
        for line in &self.lines {
            let published = line.published.iter().copied().filter(|point| point.0 <= last);
            let published: Vec<_> = published.collect();
            let faint = line.colour.mix(0.55).stroke_width(1);
            chart.draw_series(DashedLineSeries::new(published, 5, 4, faint))?;
            for run in &line.runs {
                chart.draw_series(LineSeries::new(run.iter().copied(), line.colour.stroke_width(2)))?;
                let dots = run.iter().map(|&point| Circle::new(point, 3, line.colour.filled()));
                chart.draw_series(dots)?;
            }
        }
        self.draw_legend(&legend_area)
    }

    fn draw_legend(&self, area: &DrawingArea<SVGBackend, Shift>) -> Result<()> {
        const LEFT: i32 = 64;
        let middle = |index: usize| index as i32 * LEGEND_LINE as i32 + 6;
        let text = ("sans-serif", 13).into_font().color(&BLACK);
        for (index, line) in self.lines.iter().enumerate() {
            let y = middle(index);
            let sample = vec![(LEFT, y), (LEFT + 24, y)];
            area.draw(&PathElement::new(sample, line.colour.stroke_width(3)))?;
            area.draw(&Text::new(line.label.clone(), (LEFT + 32, y - 6), text.clone()))?;
        }
        let Some(label) = &self.published_label else {
            return Ok(());
        };
        let y = middle(self.lines.len());
        for x in [LEFT, LEFT + 9, LEFT + 18] {
            let dash = vec![(x, y), (x + 6, y)];
            area.draw(&PathElement::new(dash, BLACK.mix(0.6).stroke_width(1)))?;
        }
        area.draw(&Text::new(label.clone(), (LEFT + 32, y - 6), text))?;
        Ok(())
    }
}

impl Line {
    fn new(row: &RowSummary, colour: RGBColor, figure: Figure, published: bool) -> Self {
        let point = |epoch: &Epoch| match figure {
            Figure::TestTop1 => (epoch.epoch as i32, epoch.test_top1),
            Figure::TrainLoss => (epoch.epoch as i32, epoch.train_loss),
        };
        let published = row.row.published.as_ref().filter(|_| published);
        let curve = published.map_or([].as_slice(), |published| &published.curve);
        let runs = row.records.iter().map(|record| record.epochs.iter().map(point).collect());
        Self {
            label: row.row.label.clone(),
            colour,
            runs: runs.collect(),
            published: curve.iter().map(point).collect(),
        }
    }
}

/// The lowest and highest value with a margin; 0 to 1 if there are no values.
fn range(values: &[f64]) -> (f64, f64) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if low > high {
        return (0.0, 1.0);
    }
    let room = ((high - low) * 0.06).max(0.01);
    ((low - room).max(0.0), high + room)
}

/// A tick label with as many decimals as an axis of length `span` needs.
fn short(value: f64, span: f64) -> String {
    if span > 8.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}
