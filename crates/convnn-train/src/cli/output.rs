//! Standard output and the log.

use convnn_train::progress::Progress;
use convnn_train::{Error, Result};
use indicatif::ProgressBar;
use std::io::{self, Write};
use std::path::PathBuf;
use tracing_subscriber::EnvFilter;

/// Prints a line of results.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    let failed = |source| Error::Io { action: "write", path: PathBuf::from(STDOUT), source };
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(failed)
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
        // Work goes on if nobody reads the log any more.
        self.0.suspend(|| drop(io::stderr().write_all(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
