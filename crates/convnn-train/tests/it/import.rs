//! `convnn import` on small checkpoints that PyTorch wrote (`tests/checkpoints/make.py`), and on what is none.

use crate::command::{Finished, contents, convnn, finish, succeed};
use candle_core::{DType, Device, Tensor};
use convnn_core::check;
use convnn_models::weights::{self, Tensors};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

fn checkpoint(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoints").join(name)
}

const VIT: [&str; 6] =
    ["model.dim=8", "model.mlp=8", "model.layers=1", "model.patch=4", "layer.neighbors=3", "layer.heads=1"];
const VGG: [&str; 3] = ["layer.kind=conv2d", "model.features=[4,\"M\"]", "layer.kernel_size=3"];

fn import(file: &Path, preset: &str, sets: &[&str], out: &Path) -> Command {
    let mut command = convnn();
    command.arg("import").arg(file).args(["--preset", preset]).args(sets.iter().flat_map(|set| ["--set", set]));
    command.arg("--out").arg(out);
    command
}

/// The tensors of a safetensors file without the buffers that hold no weights.
fn expected(name: &str) -> Tensors {
    let tensors = weights::read(&checkpoint(name)).unwrap().into_iter();
    tensors.filter(|(name, _)| !name.ends_with(".num_batches_tracked") && !name.ends_with(".pe")).collect()
}

#[track_caller]
fn same(found: &Tensors, expected: &Tensors, tolerance: f64) {
    assert!(found.keys().eq(expected.keys()), "{:?}", found.keys());
    for (name, tensor) in expected {
        check::compare(name, &found[name], tensor, tolerance).unwrap();
    }
}

#[test]
fn a_state_dictionary() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["vit.pth", "vit.safetensors"] {
        let out = folder.path().join(file);
        let Finished { stdout, .. } = succeed(&mut import(&checkpoint(file), "vit_compact", &VIT, &out));
        assert!(stdout.starts_with("20 tensors of vit_compact, 10 classes, into "), "{stdout}");
        assert!(stdout.contains("; 1 buffer without weights left out"), "{stdout}");
        let (config, tensors) = weights::load(&out).unwrap();
        assert_eq!(config.classes(), 10);
        // Every name as it was, W_q and W_k too.
        same(&tensors, &expected("vit.safetensors"), 0.0);
        assert!(std::fs::read_to_string(out.join("README.md")).unwrap().contains(file));
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2, "nothing is left aside");
}

/// Under a key beside an optimizer, every name behind `module.`, as parameters, transposed, in half precision; and with
/// the number of classes that it has.
#[test]
fn a_wrapped_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let file = checkpoint("vgg_wrapped.pth");
    let Finished { stdout, .. } = succeed(&mut import(&file, "vgg11_compact", &VGG, &out));
    assert!(stdout.starts_with("8 tensors of vgg11_compact, 100 classes, into "), "{stdout}");
    let (config, mut tensors) = weights::load(&out).unwrap();
    assert_eq!(config.classes(), 100);
    let mut expected = expected("vgg.safetensors");
    let half = |tensors: &mut Tensors| tensors.remove("features.0.bias").unwrap();
    check::compare("half", &half(&mut tensors), &half(&mut expected), 1e-3).unwrap();
    same(&tensors, &expected, 0.0);
    // What was written is a model: it can be imported again with its own configuration.
    let again = folder.path().join("again");
    let mut command = convnn();
    command.arg("import").arg(out.join("model.safetensors")).arg("--config").arg(out.join("config.json"));
    succeed(command.arg("--out").arg(&again));
    assert_eq!(weights::load(&again).unwrap().0, config);
}

/// Without a preset the one that fits is found, or those that fit are named.
#[test]
fn the_preset_that_fits() {
    let folder = tempfile::tempdir().unwrap();
    let write = |preset: &str| {
        let shapes = (convnn_models::preset(preset).unwrap().config)().shapes().unwrap();
        let zeros = |shape: Vec<usize>| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        let tensors: Tensors = shapes.into_iter().map(|(name, shape)| (name, zeros(shape))).collect();
        let file = folder.path().join(format!("{preset}.safetensors"));
        std::fs::write(&file, safetensors::serialize(&tensors, None).unwrap()).unwrap();
        file
    };
    let out = folder.path().join("out");
    let attempt = |file: &Path| finish(convnn().arg("import").arg(file).arg("--out").arg(&out));
    let Finished { code, stderr, .. } = attempt(&write("vit_compact"));
    assert_eq!(code, Some(2));
    assert!(stderr.contains("`--preset` is not given; expected one of vit_compact, vit_compact_random"), "{stderr}");
    let Finished { code, stdout, stderr } = attempt(&checkpoint("vit.pth"));
    assert_eq!(code, Some(2));
    assert!(stderr.contains("not a checkpoint of any preset, and that of ") && !stdout.is_empty(), "{stderr}");
    assert!(!out.exists());
    let Finished { code, stdout, .. } = attempt(&write("vit_compact_attention"));
    assert_eq!(code, Some(0));
    assert!(stdout.contains(" tensors of vit_compact_attention, 10 classes"), "{stdout}");
}

/// A refusal: exit code 2, one line on standard error with all of `parts`, nothing written.
#[track_caller]
fn refused(file: &Path, parts: &[&str]) -> String {
    let folder: TempDir = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let Finished { code, stdout, stderr } = finish(import(file, "vit_compact", &VIT, &out).current_dir(folder.path()));
    assert_eq!(code, Some(2), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{part:?} in {stderr:?}");
    }
    assert!(contents(folder.path()).is_empty() && !out.exists());
    stdout
}

#[test]
fn names_and_shapes_that_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let tensors: Tensors = weights::read(&checkpoint("vit.safetensors")).unwrap().into_iter().collect();
    let changed = |change: &dyn Fn(&mut Tensors)| {
        let mut tensors = tensors.clone();
        change(&mut tensors);
        let file = folder.path().join("changed.safetensors");
        std::fs::write(&file, safetensors::serialize(&tensors, None).unwrap()).unwrap();
        file
    };
    let norm = "transformer_encoder.0.norm1.weight";
    let missing = "1 missing: `transformer_encoder.0.norm1.weight` [8]";
    refused(&changed(&|t| drop(t.remove(norm))), &["changed.safetensors: not a checkpoint of vit_compact: ", missing]);
    let stdout = refused(
        &changed(&|t| {
            let tensor = t.remove(norm).unwrap();
            t.insert("transformer_encoder.0.norm_1.weight".to_owned(), tensor);
        }),
        &[missing, "1 left over: `transformer_encoder.0.norm_1.weight` [8]"],
    );
    assert_eq!(stdout.lines().count(), 2, "{stdout}");
    assert!(stdout.starts_with("missing    transformer_encoder.0.norm1.weight [8]\n"), "{stdout}");
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    refused(&changed(&|t| drop(t.insert("extra".to_owned(), zeros(&[3])))), &["1 left over: `extra` [3]"]);
    let wrong = "1 of another shape: `classifier.weight` is [10, 7], expected [10, 8]";
    refused(&changed(&|t| drop(t.insert("classifier.weight".to_owned(), zeros(&[10, 7])))), &[wrong]);
    let positions = "positional_encoding.pe";
    refused(&changed(&|t| drop(t.insert(positions.to_owned(), zeros(&[1, 65, 8])))), &[positions, "fixed encoding"]);
    let whole = Tensor::zeros(8, DType::I64, &Device::Cpu).unwrap();
    refused(&changed(&|t| drop(t.insert(norm.to_owned(), whole.clone()))), &[norm, "of type i64"]);
}

/// A pickle that names anything but tensors is refused by that name, and nothing of it is run.
#[test]
fn more_than_tensors() {
    refused(&checkpoint("calls.pth"), &["calls.pth: the pickle names `posix.system`; expected tensors alone"]);
    refused(&checkpoint("namespace.pth"), &["the pickle names `argparse.Namespace`; expected tensors alone"]);
    assert!(!Path::new("convnn_was_here").exists());
}

#[test]
fn files_that_are_no_checkpoints() {
    refused(&checkpoint("before_1_6.pth"), &["a pickle without a zip around it, as PyTorch wrote before version 1.6"]);
    refused(&checkpoint("make.py"), &["make.py: no safetensors file"]);
    refused(&checkpoint("none.pth"), &["cannot read", "none.pth"]);
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(checkpoint("vit.pth")).unwrap();
    let file = folder.path().join("damaged.pth");
    for end in [2, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&file, &whole[..end]).unwrap();
        refused(&file, &["damaged.pth: "]);
    }
    // Whatever a byte of the pickle becomes, the answer is a line or the weights.
    let start = whole.windows(8).position(|bytes| bytes == b"data.pkl").unwrap();
    let out = folder.path().join("out");
    for at in (start..start + 2900).step_by(97) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        std::fs::write(&file, &damaged).unwrap();
        let Finished { code, stderr, .. } = finish(&mut import(&file, "vit_compact", &VIT, &out));
        assert!(code == Some(2) && stderr.lines().count() == 1 || code == Some(0), "byte {at}: {code:?} {stderr}");
        drop(std::fs::remove_dir_all(&out));
    }
}

#[test]
fn a_folder_in_use_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("notes"), "mine").unwrap();
    let Finished { code, stderr, .. } = finish(&mut import(&checkpoint("vit.pth"), "vit_compact", &VIT, folder.path()));
    assert_eq!(code, Some(2));
    assert!(stderr.contains("is not empty; expected a folder for new weights"), "{stderr}");
    assert_eq!(contents(folder.path()).len(), 1);
}
