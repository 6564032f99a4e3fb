//! What one sees of a run: curves, events, tables, and the commands that look at runs from outside.

use crate::command::{convnn, fingerprint, finish, metrics, result, start, succeed, tiny_vgg};
use serde_json::Value;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[track_caller]
fn fits_80_columns(text: &str) {
    for line in text.lines().filter(|line| !line.contains('/')) {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
        assert_eq!(line.trim_end(), line);
    }
}

/// The steps of the events in the files of a run, in the order in which TensorBoard reads them, and where it drops
/// earlier ones: (step, whether this is a restart).
fn event_steps(run: &Path) -> Vec<(u64, bool)> {
    let mut files: Vec<_> =
        std::fs::read_dir(run.join("tensorboard")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let bytes = std::fs::read(file).unwrap();
        let mut at = 0;
        while at < bytes.len() {
            let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            let event = &bytes[at + 12..at + 12 + length];
            at += 16 + length;
            // After the wall time: a step is field 2; field 7 after it is a session log, field 5 a summary.
            let Some((&0x10, rest)) = event[9..].split_first() else { continue };
            let size = rest.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
            let step = rest[..size].iter().rev().fold(0, |step, byte| step << 7 | u64::from(byte & 0x7f));
            found.push((step, rest[size] == 7 << 3 | 2));
        }
    }
    found
}

#[test]
fn a_run_shows_its_results_and_what_to_do_next() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("it's a run");
    let finished = succeed(&mut tiny_vgg(&out, 2));
    fits_80_columns(&finished.stdout);
    // A warning is one line, however long.
    let plain: Vec<_> = finished.stderr.lines().filter(|line| !line.starts_with(" WARN")).collect();
    fits_80_columns(&plain.join("\n"));
    for part in ["95 % interval", "mean of all 2", "best epoch *", "next:", "--resume --epochs 4", r"it'\''s a run'"] {
        assert!(finished.stdout.contains(part), "`{part}` is missing:\n{}", finished.stdout);
    }
    assert!(!finished.stdout.contains("last five"), "{}", finished.stdout);
    for part in ["of memory", "of disk", "epoch 1/2"] {
        assert!(finished.stderr.contains(part), "`{part}` is missing:\n{}", finished.stderr);
    }
    assert_eq!(result(&out)["test_images"], 256);
    let curves = std::fs::read_to_string(out.join("curves.svg")).unwrap();
    for part in ["accuracy", "loss", "learning rate", "top-1 (%)", "epoch"] {
        assert!(curves.contains(part), "`{part}` is missing");
    }

    let longer = succeed(convnn().args(["train", "--resume", "--epochs", "6", "--out"]).arg(&out));
    assert!(longer.stdout.contains("mean of the last five") && longer.stdout.contains("2–6"), "{}", longer.stdout);
    let restarts: Vec<_> = event_steps(&out).into_iter().filter(|step| step.1).collect();
    let steps_per_epoch = 512 / 32;
    assert_eq!(restarts, [(2 * steps_per_epoch + 1, true)]);
}

#[test]
fn steps_in_tensorboard_rise_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let mut child = start(&mut tiny_vgg(&out, 12));
    // Killed somewhere after the first checkpoint.
    while !out.join("checkpoints/epoch-0001").exists() {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    std::thread::sleep(std::time::Duration::from_millis(60));
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "the run ended before it was killed");
    succeed(tiny_vgg(&out, 12).arg("--resume"));
    let mut shown: Vec<u64> = Vec::new();
    for (step, restart) in event_steps(&out) {
        match restart {
            true => shown.retain(|&earlier| earlier < step),
            false => shown.push(step),
        }
    }
    // Each step has its own event; the last of an epoch has two.
    assert!(shown.windows(2).all(|pair| pair[0] <= pair[1]), "{shown:?}");
    assert_eq!(shown.len(), 12 * (16 + 1), "{shown:?}");
}

#[test]
fn streams_that_cannot_be_written_do_not_stop_training() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, full, closed) = (folder.path().join("whole"), folder.path().join("full"), folder.path().join("closed"));
    succeed(&mut tiny_vgg(&whole, 1));
    let device = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let status = tiny_vgg(&full, 1).stderr(device()).stdout(device()).status().unwrap();
    assert!(status.code().is_some_and(|code| code != 101 && code != 0), "the result could not be printed: {status}");

    let mut child = tiny_vgg(&closed, 1).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    drop((child.stderr.take(), child.stdout.take()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    for run in [full, closed] {
        assert_eq!(fingerprint(&run), fingerprint(&whole));
        assert!(run.join("DONE").exists());
    }
}

#[test]
fn runs_are_listed_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("a"), folder.path().join("b"));
    succeed(&mut tiny_vgg(&first, 2));
    succeed(tiny_vgg(&second, 2).args(["--set", "learning_rate=0.01"]));
    std::fs::remove_file(second.join("DONE")).unwrap();
    std::fs::create_dir(folder.path().join("empty")).unwrap();

    let list = succeed(convnn().arg("runs").arg(folder.path())).stdout;
    assert_eq!(list.lines().count(), 3, "{list}");
    assert!(list.contains("done") && list.contains("stopped") && list.contains("2/2"), "{list}");

    let [page, picture] = ["page.html", "curves.svg"].map(|name| folder.path().join(name));
    let mut compare = convnn();
    compare.arg("runs").args([&first, &second]);
    let text = succeed(compare.arg("--html").arg(&page).arg("--svg").arg(&picture)).stdout;
    let different: Vec<_> = text.lines().skip_while(|line| !line.starts_with("key that differs")).skip(1).collect();
    assert_eq!(different.len(), 1, "{text}");
    assert_eq!(different[0].split_whitespace().collect::<Vec<_>>(), ["learning_rate", "0.05", "0.01"]);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("<code>learning_rate</code>") && page.contains("<svg"), "{page}");
    assert!(std::fs::read_to_string(picture).unwrap().contains("test accuracy"));

    let found = json(&succeed(compare.arg("--json")).stdout);
    let last = &metrics(&first)[1]["test_top1"];
    assert_eq!((&found["runs"][0]["top1"], &found["runs"][0]["state"]), (last, &"done".into()));
    assert_eq!(found["differing"]["learning_rate"], serde_json::json!(["0.05", "0.01"]));
    let nothing = finish(convnn().arg("runs").arg(folder.path().join("empty")));
    assert_eq!(nothing.code, Some(2), "{nothing:?}");
}

#[test]
fn an_evaluation_tells_classes_and_confusions() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    succeed(&mut tiny_vgg(&out, 1));
    let [csv, svg] = ["confusion.csv", "confusion.svg"].map(|name| folder.path().join(name));
    let text = succeed(convnn().arg("eval").arg(&out).arg("--csv").arg(&csv).arg("--svg").arg(&svg)).stdout;
    fits_80_columns(&text);
    assert!(text.contains("airplane") && text.contains("calibration error"), "{text}");

    let found = json(&succeed(convnn().arg("eval").arg(&out).arg("--json")).stdout);
    let table: Vec<Vec<u64>> = serde_json::from_value(found["confusion"].clone()).unwrap();
    let right: u64 = (0..10).map(|class| table[class][class]).sum();
    assert_eq!(table.iter().flatten().sum::<u64>(), 256);
    assert_eq!(found["top1"], 100.0 * right as f64 / 256.0);
    let interval = [0, 1].map(|i| found["top1_interval"][i].as_f64().unwrap());
    let top1 = found["top1"].as_f64().unwrap();
    assert!(interval[0] < top1 && top1 < interval[1] && interval[1] - interval[0] < 13.0, "{interval:?}");
    let lines: Vec<String> = std::fs::read_to_string(csv).unwrap().lines().map(str::to_owned).collect();
    let row: Vec<u64> = lines[1].split(',').skip(1).map(|cell| cell.parse().unwrap()).collect();
    assert_eq!((lines.len(), row), (11, table[0].clone()));
    assert!(std::fs::read_to_string(svg).unwrap().contains("predicted class"));
}

#[test]
fn an_evaluation_tells_what_rounding_changes() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    succeed(&mut tiny_vgg(&out, 1));
    let found = json(&succeed(convnn().arg("eval").arg(&out).args(["--f64", "--json"])).stdout);
    let layers = found["f64"]["other_neighbors"].as_array().unwrap();
    let percent: Vec<f64> = layers.iter().map(|layer| layer["percent"].as_f64().unwrap()).collect();
    // Images have pixels of almost the same direction in color, and so near ties; most neighbors are clear all the same.
    assert!(percent[0] > 0.0 && percent.iter().all(|percent| (0.0..50.0).contains(percent)), "{percent:?}");
    let [narrow, wide] = [&found, &found["f64"]].map(|scores| scores["top1"].as_f64().unwrap());
    let reclassified = found["f64"]["reclassified"].as_f64().unwrap();
    assert!((narrow - wide).abs() <= 100.0 * reclassified / 256.0, "{narrow}, {wide}, {reclassified}");
    let text = succeed(convnn().arg("eval").arg(&out).arg("--f64")).stdout;
    fits_80_columns(&text);
    assert!(text.contains("top-1 in f64") && text.contains("% differ, layer by layer"), "{text}");
    assert!(json(&succeed(convnn().arg("eval").arg(&out).arg("--json")).stdout)["f64"].is_null());
}

#[test]
fn a_preset_is_shown_layer_by_layer() {
    let text = succeed(convnn().args(["info", "vgg11_compact"])).stdout;
    let row: Vec<_> = text.lines().find(|line| line.starts_with("0 ")).unwrap().split_whitespace().collect();
    // 3 → 8 + 8 channels of 9 neighbors and a 3×3 window, joined by a 1×1: 2·(8·27 + 8) + 16·16 + 16 parameters.
    assert_eq!(row[..4], ["0", "branching_2d", "16×32×32", "720"]);
    assert_eq!(row[5..], ["1024", "1156", "9"]);
    let found = json(&succeed(convnn().args(["info", "vgg11_compact", "--json"])).stdout);
    let layers = found["layers"].as_array().unwrap();
    let parameters: u64 = layers.iter().map(|layer| layer["params"].as_u64().unwrap()).sum();
    assert_eq!(found["params"], parameters);

    fits_80_columns(&succeed(convnn().arg("info")).stdout);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("my.toml");
    std::fs::write(&file, succeed(convnn().args(["info", "vit_compact", "--toml"])).stdout).unwrap();
    let out = folder.path().join("run");
    let refused = finish(
        convnn().args(["train", "--data", "sample", "--set", "epochs=0", "--config"]).arg(&file).arg("--out").arg(&out),
    );
    assert!(refused.stderr.contains("epochs"), "the file is a configuration: {refused:?}");
}

#[test]
fn every_preset_fits_80_columns() {
    let presets = convnn_models::presets();
    assert!(presets.len() > 20, "only {} presets", presets.len());
    for preset in presets {
        for line in succeed(convnn().args(["info", preset.name])).stdout.lines() {
            let columns = line.chars().count();
            assert!(columns <= 80, "{}: {columns} columns: {line}", preset.name);
        }
    }
}

/// Bytes in a text such as `expected: 92 MB of memory`.
fn expected_memory(stderr: &str) -> f64 {
    let words: Vec<&str> = stderr.split_whitespace().collect();
    let at = words.windows(2).position(|pair| pair == ["of", "memory,"]).unwrap_or_else(|| panic!("{stderr}"));
    let unit = if words[at - 1] == "GB" { 1e9 } else { 1e6 };
    words[at - 2].parse::<f64>().unwrap() * unit
}

#[test]
#[cfg(target_os = "linux")]
fn the_expected_memory_is_what_a_run_takes() {
    let folder = tempfile::tempdir().unwrap();
    for preset in ["vgg11_compact", "vit_compact"] {
        let out = folder.path().join(preset);
        let mut command = convnn();
        command.args(["train", "--preset", preset, "--data", "sample", "--epochs", "1", "--set", "batch_size=64"]);
        let mut child = command.arg("--out").arg(&out).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut peak = 0.0f64;
        while child.try_wait().unwrap().is_none() {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
            peak = peak.max(1024.0 * kilobytes.unwrap_or(0.0));
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let mut stderr = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut stderr).unwrap();
        assert!(child.wait().unwrap().success(), "{stderr}");
        let ratio = expected_memory(&stderr) / peak;
        assert!((0.85..1.15).contains(&ratio), "{preset}: {ratio:.3} of the {peak} bytes that it took:\n{stderr}");
    }
}

#[test]
fn a_dry_run_says_what_the_run_would_need_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let shown = succeed(tiny_vgg(&out, 3).arg("--dry-run")).stdout;
    fits_80_columns(&shown);
    for part in ["512 to train on, 256 to test on", "at batch size", "per checkpoint)", ": 3 epochs of "] {
        assert!(shown.contains(part), "`{part}` is missing:\n{shown}");
    }
    let needs = json(&succeed(tiny_vgg(&out, 3).args(["--dry-run", "--json"])).stdout);
    assert_eq!((needs["train_images"].as_u64(), needs["test_images"].as_u64()), (Some(512), Some(256)));
    assert!(needs["seconds_per_epoch"].as_f64().unwrap() > 0.0 && needs["memory_bytes"].as_u64().unwrap() > 1_000_000);
    assert!(!out.exists());
}
