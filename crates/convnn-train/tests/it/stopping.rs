//! Signals: the step is finished, everything is saved, and the exit code names the signal.

use crate::command::{convnn, fingerprint, finish, metrics, start, succeed, tiny_vgg, tiny_vit};
use crate::failures::newest;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[track_caller]
fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(120), "{what}: nothing happens");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn send(signal: &str, child: &Child) {
    succeed(Command::new("kill").args(["-s", signal, &child.id().to_string()]));
}

/// `command`, for which SIGHUP is not ignored even if the tests run under `nohup`.
fn heeding_hang_ups(command: &Command) -> Command {
    let mut env = Command::new("env");
    env.arg("--default-signal=HUP").arg(command.get_program()).args(command.get_args());
    env
}

/// Starts `command` with its standard error in a pipe, and waits for the end of an epoch.
fn start_epoch(command: &mut Command, run: &Path) -> Child {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("an epoch", || !metrics(run).is_empty());
    child
}

#[test]
fn every_signal_saves_and_has_its_own_code() {
    let folder = tempfile::tempdir().unwrap();
    for (signal, code) in [("HUP", 129), ("INT", 130), ("USR1", 138), ("USR2", 140), ("TERM", 143), ("XCPU", 152)] {
        let run = folder.path().join(signal);
        let child = start_epoch(&mut heeding_hang_ups(&tiny_vit(&run, 1000)), &run);
        send(signal, &child);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(&format!("SIG{signal}: finishing the step")) && text.contains("--resume"), "{text}");
        assert!(newest(&run).state.step > 0);
        assert!(!run.join(".lock").exists());
    }
}

/// `timeout` sends its signal twice within a tenth of a millisecond.
#[test]
fn a_repeat_within_a_second_is_the_same_signal() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    succeed(&mut tiny_vit(&whole, 30));
    for attempt in 0..10 {
        let run = folder.path().join(format!("run-{attempt}"));
        let child = start_epoch(&mut tiny_vit(&run, 30), &run);
        let id = child.id();
        let twice = format!("kill -s TERM {id} && kill -s {} {id}", ["TERM", "INT"][attempt % 2]);
        succeed(Command::new("sh").args(["-c", &twice]));
        let output = child.wait_with_output().unwrap();
        // Of two signals, either may arrive first.
        let codes = if attempt % 2 == 0 { &[143][..] } else { &[143, 130] };
        assert!(output.status.code().is_some_and(|code| codes.contains(&code)), "{output:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("everything is saved"));
    }
    let run = folder.path().join("run-0");
    succeed(tiny_vit(&run, 30).arg("--resume"));
    assert_eq!(fingerprint(&run), fingerprint(&whole));

    let run = folder.path().join("timeout");
    let command = tiny_vit(&run, 100_000);
    let mut timeout = Command::new("timeout");
    timeout.args(["--preserve-status", "3"]).arg(command.get_program()).args(command.get_args());
    let finished = finish(&mut timeout);
    assert_eq!(finished.code, Some(143), "{finished:?}");
    assert!(finished.stderr.contains("everything is saved"), "{finished:?}");
}

#[test]
fn a_later_second_signal_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    // A step of many seconds.
    let mut command = convnn();
    command.args(["train", "--preset", "vgg11", "--data", "sample", "--set", "batch_size=256", "--threads", "1"]);
    let child = command.arg("--out").arg(&run).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the start", || run.join("metrics.jsonl").exists());
    send("TERM", &child);
    std::thread::sleep(Duration::from_millis(1500));
    send("INT", &child);
    let sent = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(sent.elapsed() < Duration::from_secs(5), "{:?}", sent.elapsed());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("SIGTERM: finishing the step") && !text.contains("saved in"), "{text}");
}

#[test]
fn nohup_keeps_training() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let command = tiny_vit(&run, 5);
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
    let child = start_epoch(&mut shell, &run);
    send("HUP", &child);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
    assert!(run.join("DONE").exists());
}

/// `script` runs the trainer in a terminal, which hangs up when `script` is killed.
#[test]
fn a_terminal_that_hangs_up() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, run) = (folder.path().join("whole"), folder.path().join("run"));
    succeed(&mut tiny_vit(&whole, 30));
    let command = heeding_hang_ups(&tiny_vit(&run, 30));
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let line: Vec<_> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let mut script = start(Command::new("script").args(["--quiet", "--command", &line.join(" "), "/dev/null"]));
    wait_for("an epoch", || !metrics(&run).is_empty());
    script.kill().unwrap();
    script.wait().unwrap();
    wait_for("the end", || !run.join(".lock").exists());
    assert!(!run.join("DONE").exists(), "it did not stop");
    assert!(newest(&run).state.step > 0);
    succeed(tiny_vit(&run, 30).arg("--resume"));
    assert_eq!(fingerprint(&run), fingerprint(&whole));
}

#[test]
fn nobody_reads_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, epochs, stderr: Stdio| {
        let mut command = tiny_vgg(&folder.path().join(name), epochs);
        command.arg("--resume").stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap()
    };
    for epochs in [1, 3] {
        let mut piped = run("piped", epochs, Stdio::piped());
        drop(piped.stderr.take());
        assert_eq!(piped.wait().unwrap().code(), Some(0));
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert_eq!(run("full", epochs, full.into()).wait().unwrap().code(), Some(0));
    }
    assert_eq!(fingerprint(&folder.path().join("piped")), fingerprint(&folder.path().join("full")));
}
