//! Every operation of the checkpoint writer may fail or be the last one: a checkpoint loads, and the resumed run ends with
//! the same bits.

use crate::command::{contents, copy, fingerprint, finish, start, succeed, tiny_vgg};
use candle_core::Tensor;
use convnn_train::checkpoint::{Checkpoint, Checkpoints, Formats};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The library that makes operations fail, built from `fail_point.c`.
pub fn fail_point() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fail_point.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fail_point-{}.so", std::process::id()));
        succeed(Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl"));
        library
    })
}

/// The newest checkpoint of a run, which must load.
#[track_caller]
pub fn newest(run: &Path) -> Checkpoint {
    Checkpoints::new(run.join("checkpoints")).newest(Formats::Known).unwrap().0.unwrap()
}

/// The files below `run` that are hidden, or in hidden folders.
fn leftovers(run: &Path) -> Vec<PathBuf> {
    let is_hidden = |path: &PathBuf| {
        let mut parts = path.strip_prefix(run).unwrap().components();
        parts.any(|part| part.as_os_str().to_string_lossy().starts_with('.'))
    };
    contents(run).into_iter().map(|(path, _)| path).filter(is_hidden).collect()
}

/// Lets the n-th operation below the folder of the checkpoints fail, for every n.
fn fails_everywhere(error: i32) {
    let folder = tempfile::tempdir().unwrap();
    let (whole, base) = (folder.path().join("whole"), folder.path().join("base"));
    succeed(&mut tiny_vgg(&whole, 4));
    succeed(&mut tiny_vgg(&base, 1));
    let expected = fingerprint(&whole);
    for n in 1.. {
        let run = folder.path().join(format!("run-{n}"));
        copy(&base, &run);
        let mark = folder.path().join(format!("mark-{n}"));
        let mut command = tiny_vgg(&run, 4);
        command.arg("--resume").env("LD_PRELOAD", fail_point()).env("FAIL_MARK", &mark);
        command.env("FAIL_UNDER", run.join("checkpoints")).env("FAIL_AT", n.to_string());
        let finished = finish(command.env("FAIL_WITH", error.to_string()));
        if !mark.exists() {
            assert_eq!(finished.code, Some(0), "{finished:?}");
            assert!(n > 40, "only {n} operations were found");
            return;
        }
        match error {
            0 => assert_eq!(finished.code, None, "{n}: {finished:?}"),
            // Removing leftovers after an error may fail unnoticed.
            _ if finished.code == Some(0) => {}
            _ => assert!(finished.stderr.lines().last().unwrap().contains("checkpoints"), "{n}: {finished:?}"),
        }
        assert!(newest(&run).state.epoch >= 1, "{n}");
        succeed(tiny_vgg(&run, 4).arg("--resume"));
        assert_eq!(fingerprint(&run), expected, "{n}");
        assert!(leftovers(&run).is_empty(), "{n}: {:?}", leftovers(&run));
        std::fs::remove_dir_all(&run).unwrap();
    }
}

#[test]
fn killed_at_every_operation() {
    fails_everywhere(0);
}

#[test]
fn an_error_at_every_operation() {
    fails_everywhere(libc::EIO);
}

/// The disk is full from the n-th operation that takes space on, for every n; there are at least `least`. Each time there is
/// one line and the exit code of a full disk, nothing is lost, and once there is room again the run ends with the same bits.
fn full_from_every_write_on(part: &str, least: usize) {
    let folder = tempfile::tempdir().unwrap();
    let (whole, base) = (folder.path().join("whole"), folder.path().join("base"));
    succeed(&mut tiny_vgg(&whole, 2));
    succeed(&mut tiny_vgg(&base, 1));
    let expected = fingerprint(&whole);
    for n in 1.. {
        let run = folder.path().join(format!("run-{n}"));
        copy(&base, &run);
        let mark = folder.path().join(format!("mark-{n}"));
        let mut command = tiny_vgg(&run, 2);
        command.arg("--resume").env("LD_PRELOAD", fail_point()).env("FAIL_MARK", &mark).env("FAIL_FULL", "1");
        command.env("FAIL_UNDER", run.join(part)).env("FAIL_AT", n.to_string());
        let finished = finish(command.env("FAIL_WITH", libc::ENOSPC.to_string()));
        if !mark.exists() {
            assert_eq!(finished.code, Some(0), "{finished:?}");
            assert!(n > least, "only {} operations that take space were found below {part}", n - 1);
            return;
        }
        assert_eq!(finished.code, Some(5), "{n}: {finished:?}");
        let last = finished.stderr.lines().last().unwrap();
        assert!(last.contains(part) && last.to_lowercase().contains("no space left"), "{n}: {last}");
        assert!(newest(&run).state.epoch >= 1, "{n}");
        succeed(tiny_vgg(&run, 2).arg("--resume"));
        assert_eq!(fingerprint(&run), expected, "{n}");
        assert!(leftovers(&run).is_empty(), "{n}: {:?}", leftovers(&run));
        std::fs::remove_dir_all(&run).unwrap();
    }
}

#[test]
fn a_disk_full_from_every_write_of_a_checkpoint_on() {
    full_from_every_write_on("checkpoints", 7);
}

#[test]
fn a_disk_full_from_every_write_of_the_weights_folder_on() {
    full_from_every_write_on(".saving-weights", 8);
}

#[test]
fn twenty_kills_at_random_moments() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, run) = (folder.path().join("whole"), folder.path().join("run"));
    let started = Instant::now();
    succeed(&mut tiny_vgg(&whole, 60));
    let time = started.elapsed().as_secs_f64();
    let mut random = 20251114u64;
    let mut kills = 0;
    for _ in 0..20 {
        let mut child = start(tiny_vgg(&run, 60).arg("--resume"));
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        std::thread::sleep(Duration::from_secs_f64(time * 0.08 * (random >> 40) as f64 / (1u64 << 24) as f64));
        child.kill().unwrap();
        kills += usize::from(!child.wait().unwrap().success());
        Checkpoints::new(run.join("checkpoints")).newest(Formats::Known).unwrap();
    }
    assert!(kills >= 10, "only {kills} runs were killed before their end");
    succeed(tiny_vgg(&run, 60).arg("--resume"));
    assert_eq!(fingerprint(&run), fingerprint(&whole));
}

/// Unmounts at the end of a test.
pub struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// A file system in memory at `path`, or `None` if this user may not mount one.
pub fn mount(path: &Path, megabytes: usize) -> Option<Mounted> {
    std::fs::create_dir_all(path).unwrap();
    let size = format!("size={megabytes}m");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path).output();
    mounted.ok().filter(|output| output.status.success()).map(|_| Mounted(path.to_owned()))
}

/// Needs a user who may mount; a limit of the file size is tested for everybody.
#[test]
fn a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, disk) = (folder.path().join("whole"), folder.path().join("disk"));
    let Some(_mounted) = mount(&disk, 8) else { return };
    let run = disk.join("run");
    succeed(&mut tiny_vgg(&whole, 3));
    succeed(&mut tiny_vgg(&run, 1));
    // Fill it, and leave room for less than a checkpoint.
    let mut ballast = Vec::new();
    while std::fs::write(disk.join(format!("ballast-{}", ballast.len())), vec![0; 4096]).is_ok() {
        ballast.push(disk.join(format!("ballast-{}", ballast.len())));
    }
    for room in [0, 1, 1] {
        for file in ballast.drain(ballast.len() - room..) {
            std::fs::remove_file(file).unwrap();
        }
        let finished = finish(tiny_vgg(&run, 3).arg("--resume"));
        assert!(!matches!(finished.code, None | Some(0 | 101)), "{finished:?}");
        assert!(finished.stderr.contains("no space left to "), "{finished:?}");
        assert_eq!(newest(&run).state.epoch, 1);
    }
    ballast.iter().for_each(|file| std::fs::remove_file(file).unwrap());
    succeed(tiny_vgg(&run, 3).arg("--resume"));
    assert_eq!(fingerprint(&run), fingerprint(&whole));
}

/// The optimizer of a checkpoint in the second epoch remembers numbers that blow the model up in the next step.
#[test]
fn divergence_keeps_the_last_finite_checkpoint() {
    for step in [1, 7] {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        succeed(&mut tiny_vgg(&run, 1));
        let Checkpoint { mut state, model, optimizer, .. } = newest(&run);
        (state.batch, state.step) = (step, state.step + step as u64);
        let model: Vec<_> = model.into_iter().collect();
        let huge = |tensor: &Tensor| tensor.ones_like().unwrap().affine(1e38, 0.0).unwrap();
        let optimizer: Vec<_> = optimizer.into_iter().map(|(name, tensor)| (name, huge(&tensor))).collect();
        let checkpoints = Checkpoints::new(run.join("checkpoints"));
        checkpoints.save(&state, &model, &optimizer).unwrap();
        let finished = finish(tiny_vgg(&run, 3).arg("--resume"));
        assert_eq!(finished.code, Some(3), "{finished:?}");
        let line = finished.stderr.lines().last().unwrap();
        let kept = format!("the checkpoint epoch-0001-batch-{step:05} is kept");
        for part in ["training has diverged", &kept, "`learning_rate`"] {
            assert!(line.contains(part), "{line}");
        }
        assert!(run.join("checkpoints/epoch-0001").exists());
        // A model that is not finite is not saved either.
        let before = contents(&run);
        let nan: Vec<_> = model.iter().map(|(name, tensor)| (name.clone(), (tensor / 0.0).unwrap())).collect();
        let error = checkpoints.save(&state, &nan, &optimizer).unwrap_err().to_string();
        assert!(error.contains("expected finite numbers"), "{error}");
        assert_eq!(contents(&run), before);
    }
}
