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
