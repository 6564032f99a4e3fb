//! One process at a time in a run folder.

use crate::bad_input::refused;
use crate::command::{contents, convnn, copy, finish, start, succeed, tiny_vgg};
use crate::failures::fail_point;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// An unfinished run.
fn unfinished() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    succeed(&mut tiny_vgg(&run, 1));
    std::fs::remove_file(run.join("DONE")).unwrap();
    (folder, run)
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned()
}

/// The id of a process that has ended.
fn ended() -> u32 {
    let mut child = start(&mut Command::new("true"));
    child.wait().unwrap();
    child.id()
}

#[test]
fn the_lock_of_a_process_that_has_ended_is_taken_over() {
    let (_folder, run) = unfinished();
    for stale in [format!("{} {}\n", ended(), host()), format!("{}\n", ended()), String::new()] {
        std::fs::write(run.join(".lock"), &stale).unwrap();
        succeed(tiny_vgg(&run, 1).arg("--resume"));
        assert!(!run.join(".lock").exists(), "{stale:?}");
        std::fs::remove_file(run.join("DONE")).unwrap();
    }
}

#[test]
fn the_lock_of_another_host_is_respected() {
    let (_folder, run) = unfinished();
    std::fs::write(run.join(".lock"), "4711 node17.cluster\n").unwrap();
    let before = contents(&run);
    let says = ["process 4711 on host \"node17.cluster\"", "if nothing uses it any more, remove that file"];
    refused(tiny_vgg(&run, 1).arg("--resume"), &says);
    assert_eq!(contents(&run), before);
    // A run can be evaluated all the same.
    succeed(convnn().arg("eval").arg(&run));
}

#[test]
fn what_is_not_a_lock_is_left_alone() {
    let (folder, run) = unfinished();
    let lock = run.join(".lock");
    let precious = folder.path().join("precious");
    std::fs::write(&precious, "precious\n").unwrap();
    std::os::unix::fs::symlink(&precious, &lock).unwrap();
    refused(tiny_vgg(&run, 1).arg("--resume"), &["is a link"]);
    assert_eq!(std::fs::read(&precious).unwrap(), b"precious\n");
    std::fs::remove_file(&lock).unwrap();
    for text in [&b"precious\n"[..], b"4711 host more\n", b"\xff\xfe"] {
        std::fs::write(&lock, text).unwrap();
        refused(tiny_vgg(&run, 1).arg("--resume"), &["is not a lock of convnn"]);
        assert_eq!(std::fs::read(&lock).unwrap(), text);
    }
    std::fs::remove_file(&lock).unwrap();
    succeed(Command::new("mkfifo").arg(&lock));
    refused(tiny_vgg(&run, 1).arg("--resume"), &["is not a regular file"]);
}

#[test]
fn without_flock_the_contents_decide() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let without = |epochs: usize| {
        let mut command = tiny_vgg(&run, epochs);
        command.arg("--resume").env("LD_PRELOAD", fail_point()).env("NO_LOCKS", "1");
        command
    };
    let mut first = start(&mut without(1000));
    while !run.join("metrics.jsonl").exists() {
        assert!(first.try_wait().unwrap().is_none());
    }
    refused(&mut without(1000), &[&format!("in use by process {} on host", first.id())]);
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(run.join(".lock").exists());
    let shorter = finish(&mut without(1));
    assert!(shorter.stderr.contains("`epochs` is 1000"), "the lock was taken over: {shorter:?}");
    assert!(!run.join(".lock").exists());
    std::fs::write(run.join(".lock"), "4711 node17\n").unwrap();
    refused(&mut without(1000), &["process 4711 on host \"node17\""]);
}

#[test]
fn simultaneous_starts_get_folders_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let template = tiny_vgg(Path::new("unused"), 1);
    let without_out = template.get_args().filter(|&argument| argument != "--out" && argument != "unused");
    let arguments: Vec<_> = without_out.collect();
    let children: Vec<_> = (0..4).map(|_| start(convnn().args(&arguments).current_dir(&folder))).collect();
    for mut child in children {
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    for number in 1..=4 {
        assert!(folder.path().join(format!("runs/vgg11_compact-{number}/DONE")).exists(), "{number}");
    }
}

#[test]
fn leftovers_are_swept() {
    let (_folder, run) = unfinished();
    let clean = run.with_file_name("clean");
    copy(&run, &clean);
    for folder in [".saving-weights", ".old-weights", "checkpoints/.saving-epoch-0002", "checkpoints/.old-epoch-0001"] {
        std::fs::create_dir(run.join(folder)).unwrap();
        std::fs::write(run.join(folder).join("model.safetensors"), "x").unwrap();
    }
    for file in [".config.toml.4711", ".result.json.1"] {
        std::fs::write(run.join(file), "x").unwrap();
    }
    for run in [&run, &clean] {
        succeed(tiny_vgg(run, 2).arg("--resume"));
    }
    // The weights were about to be replaced.
    std::fs::rename(run.join("weights"), run.join(".old-weights")).unwrap();
    succeed(tiny_vgg(&run, 3).arg("--resume"));
    succeed(tiny_vgg(&clean, 3).arg("--resume"));
    let names = |run: &Path| {
        let files = contents(run).into_iter().map(|(path, _)| path.strip_prefix(run).unwrap().to_owned());
        files.filter(|path| !path.starts_with("tensorboard")).collect::<Vec<_>>()
    };
    assert_eq!(names(&run), names(&clean));
}
