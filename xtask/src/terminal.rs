//! Writing to the terminal, which may be a pipe that somebody closed.

use std::fmt::Display;
use std::io::{self, Write};

/// A line of progress on stderr.
pub fn say(line: impl Display) {
    // A closed pipe must not end a run that is under way, so the error has nowhere to go.
    let _ = writeln!(io::stderr(), "{line}");
}

/// `text` on stdout. A reader that closed the pipe has read enough.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
