//! Writing to a terminal that may turn out to be a closed pipe.

use std::fmt::Display;
use std::io::{self, Write};

/// Writes a line of progress to stderr.
pub fn say(line: impl Display) {
    // A closed pipe must not end a run in progress, and there is nowhere else to report the error.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Writes `text` to stdout. A reader that has closed the pipe has read enough.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// `1 thread`, `2 threads`.
pub fn threads(count: usize) -> String {
    if count == 1 { "1 thread".to_owned() } else { format!("{count} threads") }
}

/// `90 s`, `12 min`, `3.4 h`, `2.1 days`
pub fn duration(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 99.5 => format!("{seconds:.0} s"),
        seconds if seconds < 99.5 * 60.0 => format!("{:.0} min", seconds / 60.0),
        seconds if seconds < 48.0 * 3600.0 => format!("{:.1} h", seconds / 3600.0),
        seconds => format!("{:.1} days", seconds / 86_400.0),
    }
}

/// Lines of cells, aligned; the first column on the left, the others on the right. The first line is followed by a rule.
pub fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |c: usize| lines.iter().filter_map(|line| line.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        let mut row = String::new();
        for (c, cell) in line.iter().enumerate() {
            let fill = " ".repeat(widths[c].saturating_sub(cell.chars().count()));
            row += &if c == 0 { format!("  {cell}{fill}") } else { format!("  {fill}{cell}") };
        }
        text += &format!("{}\n", row.trim_end());
        if index == 0 {
            text += &format!("  {}\n", "─".repeat(widths.iter().sum::<usize>() + 2 * columns.saturating_sub(1)));
        }
    }
    text
}
