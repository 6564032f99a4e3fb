//! Reports of a reproduction: terminal, Markdown, HTML and CSV.

pub mod chart;
mod html;
pub mod markdown;
mod results_csv;
mod table;
mod terminal;
mod words;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::files;
use crate::summary::Summary;

pub use html::page as html_page;
pub use results_csv::text as csv_text;
pub use terminal::tables as terminal_tables;
pub use words::made;

/// Writes `report.html`, `report.md` and `results.csv` to `out`, and returns their paths.
pub fn write(summary: &Summary, out: &Path) -> Result<Vec<PathBuf>> {
    let files = [
        ("report.html", html::page(summary)?),
        ("report.md", markdown::page(summary)),
        ("results.csv", results_csv::text(summary)?),
    ];
    let mut paths = Vec::new();
    for (name, text) in files {
        let path = out.join(name);
        files::write(&path, &text)?;
        paths.push(path);
    }
    Ok(paths)
}
