//! Text for people: aligned tables, and numbers with their units.

/// A table of cells. Its first column names the row and is aligned left, as is every column in `left`.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
    left: Vec<usize>,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|&heading| heading.to_owned()).collect()], left: vec![0] }
    }

    /// The same table with another column aligned left.
    #[must_use]
    pub fn left(mut self, column: usize) -> Self {
        self.left.push(column);
        self
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The lines, columns two spaces apart and without trailing spaces.
    pub fn lines(&self) -> Vec<String> {
        self.spaced("  ")
    }

    /// The lines, columns one space apart if otherwise a line would have more than `most` characters.
    pub fn lines_within(&self, most: usize) -> Vec<String> {
        let lines = self.lines();
        let fits = lines.iter().all(|line| line.chars().count() <= most);
        if fits { lines } else { self.spaced(" ") }
    }

    fn spaced(&self, gap: &str) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |c: usize| self.rows.iter().filter_map(|row| row.get(c)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|c| width(c).unwrap_or(0)).collect();
        let line = |row: &Vec<String>| {
            let cell = |(c, cell): (usize, &String)| match self.left.contains(&c) {
                true => format!("{cell:<width$}", width = widths[c]),
                false => format!("{cell:>width$}", width = widths[c]),
            };
            row.iter().enumerate().map(cell).collect::<Vec<_>>().join(gap).trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}

/// `40 s`, `12 min`, `3 h 05 min`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    match (seconds / 3600, seconds / 60) {
        (0, 0..=1) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {:02} min", minutes % 60),
    }
}

/// `3 min ago`, `5 days ago`.
pub fn age(seconds: f64) -> String {
    match seconds / 86_400.0 {
        days if days >= 2.0 => format!("{days:.0} days ago"),
        _ => format!("{} ago", duration(seconds)),
    }
}

/// `640 KB`, `12 MB`, `3.4 GB`, in powers of 1000.
pub fn bytes(bytes: u64) -> String {
    let number = bytes as f64;
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.0} KB", number / 1e3),
        1_000_000..1_000_000_000 => format!("{:.0} MB", number / 1e6),
        _ => format!("{:.1} GB", number / 1e9),
    }
}

/// `12345678` as `12,345,678`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `text` as one word of a shell command.
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,+@%".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// `text` with control characters and changes of the writing direction escaped, so that a name can not move the cursor
/// or add a line.
pub fn printable(text: &str) -> String {
    let unsafe_to_print = |c: char| {
        c.is_control() || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if unsafe_to_print(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_without_spaces() {
        let mut table = Table::new(&["run", "top-1 %", "state"]).left(2);
        table.row(vec!["first".to_owned(), "9.5".to_owned(), "done".to_owned()]);
        table.row(vec!["é".to_owned(), "43.21".to_owned(), String::new()]);
        assert_eq!(table.lines(), ["run    top-1 %  state", "first      9.5  done", "é        43.21"]);
        assert_eq!(table.lines_within(21), table.lines());
        assert_eq!(table.lines_within(20), ["run   top-1 % state", "first     9.5 done", "é       43.21"]);
    }

    #[test]
    fn numbers_have_units() {
        for (seconds, text) in [(0.4, "0 s"), (119.0, "119 s"), (120.0, "2 min"), (11_100.0, "3 h 05 min")] {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!((age(60.0), age(900_000.0)), ("60 s ago".to_owned(), "10 days ago".to_owned()));
        for (number, text) in
            [(12, "12 bytes"), (64_000, "64 KB"), (512_400_000, "512 MB"), (10_500_000_000, "10.5 GB")]
        {
            assert_eq!(bytes(number), text);
        }
        assert_eq!((grouped(7), grouped(1_234_567)), ("7".to_owned(), "1,234,567".to_owned()));
    }

    #[test]
    fn words_survive_a_shell_and_a_terminal() {
        assert_eq!(shell_word("runs/a-1"), "runs/a-1");
        assert_eq!(shell_word("it's here"), r"'it'\''s here'");
        assert_eq!(printable("a\nb\u{1b}[2Jü"), r"a\nb\u{1b}[2Jü");
    }
}
