//! The exit codes of the program.

use std::fmt::Write;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// Everything was done.
    Success,
    /// A computation failed, or its result is not what it should be.
    Failure,
    /// An argument, a key, a file or a folder that was given cannot be used.
    Input,
    /// Training diverged.
    Diverged,
    /// A file or folder could not be read or written.
    Files,
    /// There was no room for a file.
    NoSpace,
    /// The run was stopped by a signal, after everything was saved unless a second one came.
    Signal(i32),
}

/// Every code with its meaning.
const TABLE: [(&str, &str); 7] = [
    ("0", "success"),
    ("1", "failure: a computation failed, or a comparison found a difference"),
    ("2", "unusable input: an argument, a key, a file or a folder; nothing was changed"),
    ("3", "training diverged; the last finite checkpoint is kept"),
    ("4", "a file or folder could not be read or written, or a transfer failed"),
    ("5", "no space left on the device, or within a quota or limit"),
    (
        "128+N",
        "stopped by signal N, such as 130 for Ctrl-C and 143 for SIGTERM, after everything was saved unless a second one came",
    ),
];

impl Exit {
    /// The code.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Input => 2,
            Self::Diverged => 3,
            Self::Files => 4,
            Self::NoSpace => 5,
            Self::Signal(number) => 128u8.saturating_add(u8::try_from(number).unwrap_or(0)),
        }
    }
}

/// The codes for `--help`.
pub fn text() -> String {
    let rows: Vec<_> = TABLE.iter().map(|(code, meaning)| format!("  {code:<7}{meaning}")).collect();
    format!("Exit codes:\n{}", rows.join("\n"))
}

/// The codes as docs/exit-codes.md.
pub fn markdown() -> String {
    let mut text =
        "# Exit codes\n\n`convnn` ends with one of these codes.\n\n| code | meaning |\n|---|---|\n".to_owned();
    for (code, meaning) in TABLE {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {code} | {meaning} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_table() {
        let all = [Exit::Success, Exit::Failure, Exit::Input, Exit::Diverged, Exit::Files, Exit::NoSpace];
        let codes: Vec<_> = all.iter().map(|exit| exit.code().to_string()).collect();
        let table: Vec<_> = TABLE.iter().map(|(code, _)| (*code).to_owned()).collect();
        assert_eq!(codes, table[..6]);
        assert_eq!((Exit::Signal(2).code(), Exit::Signal(15).code()), (130, 143));
    }
}
