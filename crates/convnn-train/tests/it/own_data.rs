//! Folders of pictures, augmentation, held-out images and averaged flips, through the binary.

use crate::command::{Finished, convnn, fingerprint, finish, result, succeed, tiny_vit};
use convnn_data::Dataset;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A folder of pictures in three classes, of which `train/newt` has a name of its own. The pictures are those of the data
/// crate's tests, of different sizes, formats and colors.
fn pictures(classes: [&str; 3]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../convnn-data/tests/golden/pictures");
    let mut files: Vec<PathBuf> = fs::read_dir(source).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().unwrap() != "rgb");
    files.sort();
    for (i, file) in files.iter().cycle().take(36).enumerate() {
        let class = folder.path().join("train").join(classes[i % 3]);
        fs::create_dir_all(&class).unwrap();
        fs::copy(file, class.join(format!("{i:02}.{}", file.extension().unwrap().to_str().unwrap()))).unwrap();
    }
    folder
}

fn train_on(data: &Path, out: &Path, options: &[&str]) -> Command {
    let mut command = convnn();
    command.args(["train", "--preset", "vgg11_compact", "--set", "epochs=1", "--set", "batch_size=8"]);
    command.args(["--set", "model.features=[\"M\", \"M\", 4, \"M\", 8, \"M\"]"]);
    command.args(options).arg("--data").arg(data).arg("--out").arg(out);
    command
}

#[test]
fn a_folder_of_pictures_is_trained_on_evaluated_and_resumed() {
    let (data, out) = (pictures(["eft", "frog", "newt"]), tempfile::tempdir().unwrap());
    let run = out.path().join("run");
    succeed(&mut train_on(data.path(), &run, &["--holdout", "6"]));
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    for line in ["dataset = \"folder\"", "classes = 3", "holdout = 6", "test_share = 0.2"] {
        assert!(config.contains(line), "{line} in {config}");
    }
    let description: serde_json::Value =
        serde_json::from_slice(&fs::read(run.join("weights/config.json")).unwrap()).unwrap();
    assert_eq!(description["labels"], serde_json::json!(["eft", "frog", "newt"]));
    assert_eq!(description["preprocessing"]["size"], 32);

    // 36 pictures: 2 of the 12 of each class are for testing.
    let eval = |path: &Path, data: Option<&Path>, options: &[&str]| {
        let mut command = convnn();
        command.args(["eval", "--json"]).args(options).arg(path);
        command.args(data.iter().flat_map(|data| [Path::new("--data"), data]));
        serde_json::from_str::<serde_json::Value>(&succeed(&mut command).stdout).unwrap()
    };
    let of_run = eval(&run, None, &[]);
    assert_eq!((of_run["images"].as_u64(), of_run["dataset"].as_str()), (Some(6), Some("folder")), "{of_run}");
    let of_weights = eval(&run.join("weights"), Some(data.path()), &[]);
    assert_eq!(of_run["loss"], of_weights["loss"]);
    assert_eq!(of_run["loss"], result(&run)["final"]["loss"]);
    let epoch = run.join("checkpoints/epoch-0001");
    assert_eq!(eval(&epoch, None, &[])["loss"], of_run["loss"]);
    let others = pictures(["eft", "newt", "toad"]);
    for weights in [&run, &epoch] {
        let refused = finish(convnn().arg("eval").arg(weights).arg("--data").arg(others.path()));
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains("class 1 of"), "{refused:?}");
    }
    let flipped = eval(&run, None, &["--flips"]);
    assert_ne!(flipped["loss"], of_run["loss"]);

    succeed(&mut train_on(data.path(), &run, &["--holdout", "6", "--resume", "--set", "epochs=2"]));
    assert_eq!(result(&run)["epochs"].as_u64(), Some(2));

    // Other classes, or another number of them, are not those of the weights.
    let refused = |classes: [&str; 3], part: &str| {
        let other = pictures(classes);
        for weights in [run.clone(), run.join("weights")] {
            let mut command = convnn();
            let Finished { code, stderr, .. } = finish(command.args(["eval", "--data"]).arg(other.path()).arg(weights));
            assert!(code == Some(2) && stderr.contains(part), "{stderr}");
        }
    };
    refused(["eft", "frog", "toad"], "`toad`; expected `newt`");
    refused(["eft", "frog", "frog"], "2, the number of classes in folder");
}

#[test]
fn a_broken_picture_or_an_impossible_part_ends_before_anything_is_written() {
    let (data, out) = (pictures(["a", "b", "c"]), tempfile::tempdir().unwrap());
    let run = out.path().join("run");
    let refused = |options: &[&str], part: &str| {
        let Finished { code, stderr, .. } = finish(&mut train_on(data.path(), &run, options));
        assert!(code == Some(2) && stderr.contains(part), "{stderr}");
        assert!(!run.exists());
    };
    refused(&["--holdout", "30"], "30 images cannot be held out for validation; expected at most 29");
    refused(&["--set", "test_share=1"], "test_share");
    refused(&["--set", "mixup=-1"], "`mixup` is -1");
    refused(&["--set", "augmentation=[{crop={padding=0}}]"], "crop.padding is 0; expected 1 to 1024 pixels");
    refused(&["--set", "augmentation=[\"turn\"]"], "turn");
    fs::write(data.path().join("train/b/00.png"), "no picture").unwrap();
    refused(&[], "train/b/00.png: ");
}

/// Every step, mixup and CutMix: the same weights for any number of threads, and after a stop between two epochs.
#[test]
fn augmented_runs_do_not_depend_on_threads_or_stops() {
    let folder = tempfile::tempdir().unwrap();
    let steps = "augmentation=[\"crop\", \"flip\", \"resized_crop\", \"rand_augment\", \"noise\", \"random_erasing\"]";
    let run = |name: &str, epochs: usize, threads: &str| {
        let out = folder.path().join(name);
        let mut command = tiny_vit(&out, epochs);
        command.args(["--set", steps, "--set", "mixup=0.2", "--set", "cutmix=1.0", "--set", "holdout=64"]);
        succeed(command.args(["--threads", threads, "--resume"]));
        fingerprint(&out)
    };
    let first = run("one", 2, "1");
    assert_eq!(run("two", 2, "2"), first);
    run("stopped", 1, "4");
    assert_eq!(run("stopped", 2, "4").0, first.0);
}

/// The mirror image of every test image gives the same mean.
#[test]
fn averaged_flips_do_not_tell_an_image_from_its_mirror_image() {
    use candle_core::Tensor;
    use convnn_train::view::View;
    let config = convnn_models::preset("vgg11_compact").unwrap().config();
    let session = convnn_train::session::Session::new(&config, 3).unwrap();
    let model = session.model_to_evaluate().unwrap();
    let images = Dataset::sample().test.first(8).image_tensor().unwrap();
    let mirrored = images.flip(&[3]).unwrap();
    let logits = |view: View, images: &Tensor| view.logits(&model, images).unwrap().to_vec2::<f32>().unwrap();
    assert_ne!(logits(View::Image, &images), logits(View::Image, &mirrored));
    assert_eq!(logits(View::Flips, &images), logits(View::Flips, &mirrored));
    for row in logits(View::Flips, &images) {
        let sum: f32 = row.iter().map(|log| log.exp()).sum();
        assert!((sum - 1.).abs() < 1e-5, "probabilities sum to {sum}");
    }
}
