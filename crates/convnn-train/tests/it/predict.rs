//! `convnn predict`: pictures of all kinds, with the model inside the program.

use crate::bad_input::refused;
use crate::command::{convnn, finish, succeed, tiny_vgg};
use convnn_data::Dataset;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn predict(arguments: &[&Path]) -> Command {
    let mut command = convnn();
    command.arg("predict").args(arguments);
    command
}

/// Pictures of the image crate's and the data crate's tests.
fn golden(name: &str) -> PathBuf {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folders = ["convnn-image/tests/golden", "convnn-data/tests/golden/pictures"];
    folders.map(|folder| crates.join(folder).join(name)).into_iter().find(|path| path.exists()).unwrap()
}

fn write_png(path: &Path, planes: &[u8], side: usize) {
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), side as u32, side as u32);
    encoder.set_color(png::ColorType::Rgb);
    let plane = side * side;
    let rgb: Vec<u8> = (0..3 * plane).map(|i| planes[i % 3 * plane + i / 3]).collect();
    encoder.write_header().unwrap().write_image_data(&rgb).unwrap();
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Pictures of a folder are normalized as the weights want it, not as a run on that folder would.
#[test]
fn weights_keep_their_normalization_on_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset::sample();
    let labels = data.test.labels(convnn_data::Labels::Fine).unwrap();
    for (index, label) in labels.iter().enumerate() {
        for part in ["train", "test"] {
            let class = folder.path().join(part).join(&data.classes[usize::from(*label)]);
            fs::create_dir_all(&class).unwrap();
            write_png(&class.join(format!("{index:03}.png")), data.test.image(index), 32);
        }
    }
    let embedded = Path::new(env!("CARGO_MANIFEST_DIR")).join("embedded");
    let scores = |data: &Path| {
        let mut command = convnn();
        command.arg("eval").arg(&embedded).args(["--json", "--data"]).arg(data);
        let found: Value = serde_json::from_str(&succeed(&mut command).stdout).unwrap();
        ["images", "top1", "loss"].map(|key| found[key].as_f64().unwrap())
    };
    let (pictures, sample) = (scores(folder.path()), scores(Path::new("sample")));
    assert_eq!(pictures[..2], sample[..2]);
    // The images come in another order.
    assert!((pictures[2] - sample[2]).abs() < 1e-6, "{pictures:?}, {sample:?}");
}

/// The test images of the sample, as files: as many are right as `convnn eval` counts.
#[test]
fn a_folder_of_test_images_is_predicted_as_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset::sample();
    let labels = data.test.labels(convnn_data::Labels::Fine).unwrap();
    for (index, label) in labels.iter().enumerate() {
        let path = folder.path().join(format!("{index:03}-{}.png", data.classes[usize::from(*label)]));
        write_png(&path, data.test.image(index), 32);
    }
    let mut command = predict(&[folder.path()]);
    let found = objects(&succeed(command.args(["--json", "--top", "1", "--batch-size", "100"])).stdout);
    assert_eq!(found.len(), labels.len());
    let is_right = |object: &&Value| {
        let (image, label) = (object["image"].as_str().unwrap(), object["predictions"][0]["label"].as_str().unwrap());
        image.ends_with(&format!("-{label}.png"))
    };
    let right = found.iter().filter(is_right).count();
    let embedded = Path::new(env!("CARGO_MANIFEST_DIR")).join("embedded");
    let mut command = convnn();
    command.arg("eval").arg(embedded).args(["--data", "sample", "--json"]);
    let evaluated: Value = serde_json::from_str(&succeed(&mut command).stdout).unwrap();
    assert_eq!(100.0 * right as f64 / labels.len() as f64, evaluated["top1"].as_f64().unwrap());
    // A shipped model is worth its name, on images that it was not trained on.
    assert!(right * 100 >= labels.len() * 80, "{right} of {}", labels.len());
    // With one line per picture, and low confidence said.
    let lines = succeed(&mut predict(&[folder.path()])).stdout;
    assert_eq!(lines.lines().count(), labels.len());
    let doubtful = found.iter().filter(|object| object["confident"] == false).count();
    assert_eq!(lines.lines().filter(|line| line.ends_with("low confidence")).count(), doubtful);
}

#[test]
fn pictures_of_every_kind_are_predicted() {
    let kinds = ["cmyk.jpg", "animated.webp", "animated.png", "deep.png", "wide.png", "small.png"].map(golden);
    let folder = tempfile::tempdir().unwrap();
    let pixel = folder.path().join("one pixel.png");
    write_png(&pixel, &[200, 100, 0], 1);
    let mut paths: Vec<&Path> = kinds.iter().map(PathBuf::as_path).collect();
    paths.push(&pixel);
    let text = succeed(&mut predict(&paths)).stdout;
    for path in &paths {
        assert!(text.contains(&*path.to_string_lossy()), "{text}");
    }
    // Bars: a name and three classes each.
    assert!(text.lines().filter(|line| line.ends_with(" %")).count() == 3 * paths.len(), "{text}");
    let probabilities = |object: &Value| {
        let rows = object["predictions"].as_array().unwrap();
        rows.iter().map(|row| row["probability"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    let mut command = predict(&paths);
    for object in objects(&succeed(command.args(["--json", "--top", "100"])).stdout) {
        let values = probabilities(&object);
        assert_eq!(values.len(), 10);
        assert!((values.iter().sum::<f64>() - 1.0).abs() < 1e-5 && values.is_sorted_by(|a, b| a >= b), "{values:?}");
    }
}

#[test]
fn a_picture_on_standard_input() {
    let mut command = predict(&[Path::new("-")]);
    let mut child = command.arg("--json").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&fs::read(golden("small.png")).unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let found = objects(&String::from_utf8(output.stdout).unwrap());
    let expected = objects(&succeed(predict(&[&golden("small.png")]).arg("--json")).stdout);
    assert_eq!(found[0]["image"], "standard input");
    assert_eq!(found[0]["predictions"], expected[0]["predictions"]);
}

/// One bad picture is named, and the others are predicted.
#[test]
fn unreadable_pictures_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = fs::read(golden("small.png")).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    write("a.png", &bytes);
    write("b.png", &bytes[..bytes.len() / 2]);
    write("c.jpg", b"text");
    let mut huge = bytes.clone();
    huge[16..20].copy_from_slice(&20_000u32.to_be_bytes());
    huge[20..24].copy_from_slice(&20_000u32.to_be_bytes());
    write("d.png", &huge);
    let finished = finish(&mut predict(&[folder.path()]));
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
    assert!(finished.stdout.contains("a.png"), "{}", finished.stdout);
    for name in ["b.png", "c.jpg", "d.png"] {
        let named = finished.stderr.lines().filter(|line| line.contains(name)).count();
        assert_eq!(named, 1, "{name}: {}", finished.stderr);
    }
    assert!(finished.stderr.contains("3 of 4 pictures cannot be read"), "{}", finished.stderr);
    refused(&mut predict(&[&folder.path().join("none.png")]), &["none.png", "No such file"]);
    let empty = tempfile::tempdir().unwrap();
    refused(&mut predict(&[empty.path()]), &["holds no pictures"]);
    refused(predict(&[&golden("small.png")]).arg("--weights").arg(empty.path()), &["holds no weights"]);
    refused(&mut predict(&[]), &["<IMAGE>"]);
}

/// A run that has just been trained names its classes.
#[test]
fn weights_of_a_run_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    succeed(&mut tiny_vgg(&run, 1));
    let of =
        |weights: &Path| succeed(predict(&[&golden("small.png")]).arg("--weights").arg(weights).arg("--json")).stdout;
    assert_eq!(of(&run), of(&run.join("weights")));
    let labels = &objects(&of(&run))[0]["predictions"];
    assert!(Dataset::sample().classes.iter().any(|name| *name == labels[0]["label"].as_str().unwrap()), "{labels}");
}
