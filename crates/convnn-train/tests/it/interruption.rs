//! A run that was killed, stopped or damaged ends with the weights of an undisturbed one.

use crate::command::{convnn, copy, fingerprint, finish, metrics, start, succeed, tiny_vgg, tiny_vit};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Waits until `holds` or the end of the process; returns whether it still runs.
fn wait_until(child: &mut Child, mut holds: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if holds() {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "nothing happens");
    }
}

/// Whether a checkpoint is being written in `run`.
fn is_saving(run: &Path) -> bool {
    std::fs::read_dir(run.join("checkpoints"))
        .into_iter()
        .flatten()
        .any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with(".saving-")))
}

#[test]
fn killed_in_the_middle_of_epochs() {
    for tiny in [tiny_vit as fn(&Path, usize) -> Command, tiny_vgg] {
        let folder = tempfile::tempdir().unwrap();
        let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
        succeed(&mut tiny(&whole, 5));
        let seconds = metrics(&whole)[2]["seconds"].as_f64().unwrap();
        let mut kills = 0;
        for (lines, share) in [(0, 0.3), (1, 0.5), (2, 0.2), (3, 0.8)] {
            let mut child = start(tiny(&killed, 5).arg("--resume"));
            if wait_until(&mut child, || metrics(&killed).len() >= lines && killed.join("environment.json").exists()) {
                std::thread::sleep(Duration::from_secs_f64(share * seconds));
                child.kill().unwrap();
            }
            kills += usize::from(!child.wait().unwrap().success());
        }
        assert!(kills >= 3, "only {kills} runs were killed before their end");
        // An incomplete line does no harm.
        let mut text = std::fs::read_to_string(killed.join("metrics.jsonl")).unwrap();
        text += "{\"epoch\":9,\"train_lo";
        std::fs::write(killed.join("metrics.jsonl"), text).unwrap();
        succeed(tiny(&killed, 5).arg("--resume"));
        assert_eq!(fingerprint(&killed), fingerprint(&whole));
    }
}

#[test]
fn stopped_by_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    succeed(&mut tiny_vit(&whole, 3));
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let stopped = folder.path().join(signal);
        let mut child = start(&mut tiny_vit(&stopped, 3));
        assert!(wait_until(&mut child, || !metrics(&stopped).is_empty()));
        let mut kill = Command::new("kill");
        succeed(kill.args(["-s", signal, &child.id().to_string()]));
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert!(!stopped.join("DONE").exists());
        let refused = finish(&mut tiny_vit(&stopped, 3));
        assert_eq!(refused.code, Some(2));
        assert!(refused.stderr.contains("--resume"), "{refused:?}");
        succeed(tiny_vit(&stopped, 3).arg("--resume"));
        assert_eq!(fingerprint(&stopped), fingerprint(&whole));
    }
}

#[test]
fn a_damaged_checkpoint_is_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, base) = (folder.path().join("whole"), folder.path().join("base"));
    succeed(&mut tiny_vgg(&whole, 3));
    succeed(&mut tiny_vgg(&base, 2));
    let expected = fingerprint(&whole);
    let mut case = 0;
    let mut check = |files: &[&str], damage: &dyn Fn(&Path)| {
        case += 1;
        let run = folder.path().join(format!("case-{case}"));
        copy(&base, &run);
        for file in files {
            damage(&run.join("checkpoints").join(file));
        }
        let resumed = succeed(tiny_vgg(&run, 3).arg("--resume"));
        for file in files {
            let (checkpoint, _) = file.split_once('/').unwrap();
            let line = resumed.stderr.lines().find(|line| line.contains("refused") && line.contains(checkpoint));
            assert!(line.is_some(), "{files:?}: {}", resumed.stderr);
        }
        assert_eq!(fingerprint(&run), expected, "{files:?}");
    };
    let flip = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        std::fs::write(path, bytes).unwrap();
    };
    let truncate = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
    };
    let remove = |path: &Path| std::fs::remove_file(path).unwrap();
    check(&["epoch-0002/model.safetensors"], &flip);
    check(&["epoch-0002/optimizer.safetensors"], &truncate);
    check(&["epoch-0002/state.json"], &truncate);
    check(&["epoch-0002/model.safetensors"], &remove);
}

#[test]
fn no_space_left_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, full) = (folder.path().join("whole"), folder.path().join("full"));
    succeed(&mut tiny_vgg(&whole, 2));
    succeed(&mut tiny_vgg(&full, 1));
    let resume = tiny_vgg(&full, 2);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -f 8; exec \"$0\" \"$@\""]).arg(resume.get_program()).args(resume.get_args());
    let finished = finish(limited.arg("--resume"));
    assert_eq!(finished.code, Some(5), "{finished:?}");
    let error = finished.stderr.lines().last().unwrap();
    assert!(error.starts_with("error: no space left to write") && error.contains("model.safetensors"), "{error}");
    assert!(!is_saving(&full), "what could not be written is removed");
    let evaluated = succeed(convnn().args(["eval", "--json"]).arg(&full));
    assert!(evaluated.stdout.contains("epoch-0001"), "{evaluated:?}");
    succeed(tiny_vgg(&full, 2).arg("--resume"));
    assert_eq!(fingerprint(&full), fingerprint(&whole));
}
