//! Standard output and the log.

use convnn_models::files::write_durably;
use convnn_train::progress::Progress;
use convnn_train::text::printable;
use convnn_train::{Error, Result};
use indicatif::ProgressBar;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tracing_subscriber::EnvFilter;

/// Prints one line of results, with the control characters of names in it escaped.
pub fn print_line(text: &str) -> Result<()> {
    print(&printable(text))
}

/// Prints results: one or more lines.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    let failed = |source| Error::Io { action: "write", path: PathBuf::from(STDOUT), source };
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(failed)
}

/// Writes a result to a file, which is replaced as a whole.
pub fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    write_durably(path, content.as_ref()).map_err(Error::io("write", path))
}

/// Whether nobody reads standard output any more, as with `convnn info | head -1`.
pub fn is_closed(error: &Error) -> bool {
    matches!(error, Error::Io { path, source, .. }
        if path.as_os_str() == STDOUT && source.kind() == io::ErrorKind::BrokenPipe)
}

const STDOUT: &str = "standard output";

/// Starts logging to standard error, between the lines of `progress`. `CONVNN_LOG` selects what is logged.
pub fn start_log(progress: &Progress) {
    let chosen = std::env::var("CONVNN_LOG").unwrap_or_else(|_| "warn,convnn=info,convnn_train=info".to_owned());
    let bar = progress.bar();
    // It can only fail if a log was started before, which then stays.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(chosen))
        .with_target(false)
        .without_time()
        .with_ansi(false)
        // It would report them on standard error, and panic if that is closed.
        .log_internal_errors(false)
        .with_writer(move || AroundBar(bar.clone()))
        .try_init();
}

/// Hides the bar while a line is written.
struct AroundBar(ProgressBar);

impl Write for AroundBar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // An event is one line, whatever the names in it.
        let text = String::from_utf8_lossy(bytes);
        let line = format!("{}\n", printable(text.trim_end_matches('\n')));
        // Training goes on if nobody reads the log any more.
        let _ = self.0.suspend(|| io::stderr().write_all(line.as_bytes()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
