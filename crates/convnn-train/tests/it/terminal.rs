//! The progress bar on a real terminal, which `script` of util-linux makes.

use crate::command::finish;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The trainer in a terminal with `columns` columns, or `None` if there is no `script`.
fn in_terminal(columns: usize, out: &Path, epochs: usize) -> Option<Command> {
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("SKIPPED: the program `script` of util-linux is not installed");
        return None;
    }
    let train = format!(
        "stty rows 24 cols {columns}; exec '{}' train --preset vit_compact_random --data sample --epochs {epochs} \
         --out '{}' --set model.patch=8 --set model.dim=16 --set model.mlp=32 --set model.layers=2 --set batch_size=32",
        env!("CARGO_BIN_EXE_convnn"),
        out.display()
    );
    let mut command = Command::new("script");
    command.args(["-qec", &train, "/dev/null"]).env("TERM", "xterm-256color").env("SHELL", "/bin/sh");
    for name in ["NO_COLOR", "COLUMNS", "CONVNN_LOG"] {
        command.env_remove(name);
    }
    Some(command)
}

/// What stands on a line at some moment, without colors.
fn lines(text: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain += before;
        let end = after.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(after.len() - 1);
        rest = &after[end + 1..];
    }
    plain += rest;
    plain.split(['\r', '\n']).map(str::to_owned).collect()
}

#[test]
fn progress_fits_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    for columns in [80, 40] {
        let Some(mut command) = in_terminal(columns, &folder.path().join(columns.to_string()), 2) else { return };
        let finished = finish(&mut command);
        assert_eq!(finished.code, Some(0), "{finished:?}");
        let text = finished.stdout;
        let shown: Vec<_> =
            lines(&text).into_iter().filter(|line| line.ends_with(" left") || line.contains(" left ")).collect();
        assert!(shown.len() > 3, "{columns}: {text:?}");
        for line in &shown {
            assert!(line.chars().count() <= columns, "{columns}: {} columns: {line:?}", line.chars().count());
            assert!(line.starts_with("epoch ") && line.contains("loss "), "{line:?}");
            assert_eq!(line.contains(['━', '─']), columns == 80, "{line:?}");
        }
        // Lines that wrapped would have to be left upwards; and the cursor is never hidden.
        assert!(!text.contains("\u{1b}[1A") && !text.contains("\u{1b}[?25l"), "{columns}: {text:?}");
        let (before, summary) = text.split_once("test images").unwrap();
        assert!(before.ends_with("\r\u{1b}[2K") && !summary.contains('\u{1b}'), "the bar is still there: {text:?}");
    }
}

/// The byte that Ctrl-C sends becomes a signal in the terminal.
#[test]
fn ctrl_c_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let Some(mut command) = in_terminal(80, &out, 100_000) else { return };
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut text = Vec::new();
    let mut read_until = |part: &str| {
        let started = Instant::now();
        while !String::from_utf8_lossy(&text).contains(part) {
            let mut bytes = [0; 4096];
            let count = stdout.read(&mut bytes).unwrap();
            assert!(
                count > 0 && started.elapsed() < Duration::from_secs(60),
                "{part}: {:?}",
                String::from_utf8_lossy(&text)
            );
            text.extend(&bytes[..count]);
        }
    };
    read_until(" left");
    stdin.write_all(b"\x03").unwrap();
    stdin.flush().unwrap();
    read_until("SIGINT: finishing the step and saving");
    read_until("stopped by signal 2");
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
