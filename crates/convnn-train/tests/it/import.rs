//! `convnn import` on small checkpoints that PyTorch wrote (`tests/checkpoints/make_checkpoints.py`), and on other files.

use crate::command::{Finished, contents, convnn, finish, succeed};
use candle_core::{DType, Device, Tensor};
use convnn_core::testing;
use convnn_models::weights::{self, Stored, Tensors};
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
        testing::compare(name, &found[name], tensor, tolerance).unwrap();
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
        let Stored { config, tensors, .. } = weights::load(&out).unwrap();
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
    let Stored { config, mut tensors, .. } = weights::load(&out).unwrap();
    assert_eq!(config.classes(), 100);
    let mut expected = expected("vgg.safetensors");
    let half = |tensors: &mut Tensors| tensors.remove("features.0.bias").unwrap();
    testing::compare("half", &half(&mut tensors), &half(&mut expected), 1e-3).unwrap();
    same(&tensors, &expected, 0.0);
    // What was written is a model: it can be imported again with its own configuration.
    let again = folder.path().join("again");
    let mut command = convnn();
    command.arg("import").arg(out.join("model.safetensors")).arg("--config").arg(out.join("config.json"));
    succeed(command.arg("--out").arg(&again));
    assert_eq!(weights::load(&again).unwrap().config, config);
}

/// Without a preset the one that fits is found, or those that fit are named.
#[test]
fn the_preset_that_fits() {
    let folder = tempfile::tempdir().unwrap();
    let write = |preset: &str| {
        let shapes = convnn_models::preset(preset).unwrap().config().shapes().unwrap();
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
    assert!(
        stderr.contains("no preset fits; compared with vit_compact, the nearest: ") && !stdout.is_empty(),
        "{stderr}"
    );
    assert!(!out.exists());
    let Finished { code, stdout, .. } = attempt(&write("vit_compact_attention"));
    assert_eq!(code, Some(0));
    assert!(stdout.contains(" tensors of vit_compact_attention, 10 classes"), "{stdout}");
}

/// Under `model_state_dict`, beside the best accuracy (a tensor too) and the arguments, which choose the options.
#[test]
fn a_published_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let file = checkpoint("published.pth");
    let Finished { stdout, .. } = succeed(&mut import(&file, "vit_compact", &VIT, &out));
    assert!(stdout.starts_with("20 tensors of vit_compact, 10 classes, into "), "{stdout}");
    let lines: Vec<_> = stdout.lines().collect();
    // layer.heads and layer.neighbors are given by --set.
    let read = "from the file's arguments: layer.kernel=depthwise, layer.similarity=cosine, layer.modulation=softmax, \
                layer.candidates={ random = { n = 16 } }";
    assert_eq!(lines[1..], [read]);
    let Stored { config, tensors, .. } = weights::load(&out).unwrap();
    same(&tensors, &expected("vit.safetensors"), 0.0);
    let layer = &serde_json::to_value(config).unwrap()["layer"];
    assert_eq!((&layer["similarity"], &layer["candidates"]["random"]["n"]), (&"cosine".into(), &16.into()));
    // --set goes before the arguments.
    let sets = [&VIT[..], &["layer.similarity=dot", "layer.candidates=all"]].concat();
    let out = folder.path().join("set");
    let Finished { stdout, .. } = succeed(&mut import(&file, "vit_compact", &sets, &out));
    assert!(stdout.contains(": layer.kernel=depthwise, layer.modulation=softmax\n"), "{stdout}");
    let layer = &serde_json::to_value(weights::load(&out).unwrap().config).unwrap()["layer"];
    assert_eq!((&layer["similarity"], &layer["candidates"]), (&"dot".into(), &"all".into()));
    // Arguments that say nothing about the model are no obstacle.
    let out = folder.path().join("vgg");
    succeed(&mut import(&checkpoint("namespace.pth"), "vgg11_compact", &VGG, &out));
    same(&weights::load(&out).unwrap().tensors, &expected("vgg.safetensors"), 0.0);
}

/// What shapes cannot tell is printed, as far as nobody set it.
#[test]
fn assumptions_are_printed() {
    let folder = tempfile::tempdir().unwrap();
    let sets = [&VIT[..], &["layer.similarity=euclidean"]].concat();
    let Finished { stdout, .. } =
        succeed(&mut import(&checkpoint("vit.pth"), "vit_compact", &sets, &folder.path().join("out")));
    let assumed = "(change with --set): layer.modulation=softmax, layer.candidates=all";
    let found: std::collections::BTreeSet<_> =
        stdout.lines().nth(1).unwrap().split(": ").nth(1).unwrap().split(", ").collect();
    assert_eq!(found, assumed.split(": ").nth(1).unwrap().split(", ").collect(), "{stdout}");
    assert!(stdout.contains("assumed, because the shapes of tensors do not determine them (change"), "{stdout}");
}

/// The authors' 2026 code scores queries against keys under the same names, so that W_q and W_k are exchanged.
#[test]
fn code_of_2026() {
    let folder = tempfile::tempdir().unwrap();
    let mut exchanged = expected("vit.safetensors");
    let path = |name: &str| format!("transformer_encoder.0.attention.{name}.weight");
    let (query, key) = (exchanged.remove(&path("W_q")).unwrap(), exchanged.remove(&path("W_k")).unwrap());
    exchanged.insert(path("W_q"), key);
    exchanged.insert(path("W_k"), query);
    for (file, flag, reason) in [
        ("fast.pth", None, "its kernels are named `conv_weight`"),
        ("imagenet.pth", None, "its arguments name ImageNet"),
        ("vit.pth", Some("--authors-2026"), "--authors-2026"),
    ] {
        let out = folder.path().join(file);
        let mut command = import(&checkpoint(file), "vit_compact", &VIT, &out);
        let Finished { stdout, .. } = succeed(command.args(flag));
        assert!(stdout.ends_with(&format!("as the authors' 2026 code needs: {reason}\n")), "{stdout}");
        same(&weights::load(&out).unwrap().tensors, &exchanged, 0.0);
    }
    let out = folder.path().join("vgg");
    let mut command = import(&checkpoint("vgg_wrapped.pth"), "vgg11_compact", &VGG, &out);
    let Finished { code, stderr, .. } = finish(command.arg("--authors-2026"));
    assert_eq!(code, Some(2));
    assert!(stderr.contains("`--authors-2026` is given for a checkpoint of `conv2d`; expected"), "{stderr}");
    // The 2025 code computed something else with more heads.
    let mut many = weights::read(&checkpoint("vit.safetensors")).unwrap();
    let kernel = many[&path("conv")].narrow(0, 0, 4).unwrap();
    many.insert(path("conv"), kernel);
    let file = folder.path().join("heads.safetensors");
    std::fs::write(&file, safetensors::serialize(&many, None).unwrap()).unwrap();
    let sets = [&VIT[..], &["layer.heads=2"]].concat();
    let Finished { stdout, .. } = succeed(&mut import(&file, "vit_compact", &sets, &folder.path().join("heads")));
    assert!(stdout.contains("mixes tokens up with more than one head"), "{stdout}");
}

#[test]
fn half_precision_becomes_f32() {
    let folder = tempfile::tempdir().unwrap();
    for (file, tolerance) in [("half.pth", 1e-3), ("bfloat16.pth", 1e-2)] {
        let out = folder.path().join(file);
        succeed(&mut import(&checkpoint(file), "vit_compact", &VIT, &out));
        let tensors = weights::load(&out).unwrap().tensors;
        assert!(tensors.values().all(|tensor| tensor.dtype() == DType::F32));
        same(&tensors, &expected("vit.safetensors"), tolerance);
    }
}

#[test]
fn a_slash_at_the_end_and_an_empty_folder() {
    let folder = tempfile::tempdir().unwrap();
    let file = checkpoint("vit.pth");
    let new = format!("{}/new/", folder.path().display());
    succeed(&mut import(&file, "vit_compact", &VIT, Path::new(&new)));
    let empty = format!("{}/empty/", folder.path().display());
    std::fs::create_dir(&empty).unwrap();
    succeed(&mut import(&file, "vit_compact", &VIT, Path::new(&empty)));
    let here = folder.path().join("here");
    std::fs::create_dir(&here).unwrap();
    succeed(import(&file, "vit_compact", &VIT, Path::new(".")).current_dir(&here));
    for name in ["new", "empty", "here"] {
        weights::load(&folder.path().join(name)).unwrap();
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3, "nothing is left aside");
}

/// The published runs' local attention is not the textbook one, and imported weights are theirs.
#[test]
fn local_attention_is_as_published() {
    let folder = tempfile::tempdir().unwrap();
    let sets = ["model.dim=8", "model.mlp=8", "model.layers=1", "model.patch=4", "layer.kind=local_attention"];
    let file = written(folder.path(), "vit_compact", &sets);
    let out = folder.path().join("out");
    succeed(&mut import(&file, "vit_compact", &sets, &out));
    let text = std::fs::read_to_string(out.join("config.json")).unwrap();
    let layer = &serde_json::from_str::<serde_json::Value>(&text).unwrap()["layer"];
    assert_eq!(layer["kind"], "local_attention");
    // A model without the option has one form of local attention alone.
    assert_ne!(layer.get("published"), Some(&false.into()));
}

/// A safetensors file of zeros in the shapes of a model.
fn written(folder: &Path, preset: &str, sets: &[&str]) -> PathBuf {
    use convnn_train::config::{Assignment, Sources};
    let overrides = sets.iter().map(|set| Assignment::parse(set).unwrap()).collect();
    let config = Sources { preset: Some(preset), file: None, overrides }.resolve().unwrap().model;
    let zeros = |shape: Vec<usize>| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let tensors: Tensors = config.shapes().unwrap().into_iter().map(|(name, shape)| (name, zeros(shape))).collect();
    let file = folder.join("zeros.safetensors");
    std::fs::write(&file, safetensors::serialize(&tensors, None).unwrap()).unwrap();
    file
}

/// The message names the `--set` that makes the model fit, and that works.
#[test]
fn the_settings_that_fit_are_named() {
    let folder = tempfile::tempdir().unwrap();
    #[track_caller]
    fn named(folder: &Path, preset: Option<&str>, sets: &[&str], hint: &str) {
        let start =
            preset.unwrap_or(if sets[0].starts_with("model.features") { "vgg11_compact" } else { "vit_compact" });
        let file = written(folder, start, sets);
        let out = folder.join("out");
        let mut command = convnn();
        command.arg("import").arg(&file).args(preset.iter().flat_map(|name| ["--preset", name])).arg("--out").arg(&out);
        let Finished { code, stderr, .. } = finish(&mut command);
        assert_eq!(code, Some(2));
        let (_, found) = stderr.trim_end().split_once("; it fits with ").unwrap_or_else(|| panic!("{stderr}"));
        assert_eq!(found, hint);
        // As the reader would: the hint after what was typed before.
        let given =
            preset.filter(|_| !hint.starts_with("--preset")).map_or(String::new(), |name| format!("--preset {name}"));
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec \"$0\" import \"$1\" --out \"$2\" {given} {hint}")]);
        command.arg(env!("CARGO_BIN_EXE_convnn")).arg(&file).arg(&out);
        succeed(&mut command);
        std::fs::remove_dir_all(&out).unwrap();
    }
    let (vit, vgg) = (Some("vit_compact"), Some("vgg11_compact"));
    let at = folder.path();
    named(at, vit, &["layer.neighbors=5", "layer.heads=4"], "--set layer.neighbors=5 --set layer.heads=4");
    named(at, vit, &["model.layers=2", "layer.kernel=standard"], "--set model.layers=2 --set layer.kernel=standard");
    named(
        at,
        vit,
        &["layer.kind=sparse_attention", "model.mlp=64"],
        "--set model.mlp=64 --set layer.kind=sparse_attention",
    );
    named(
        at,
        vgg,
        &["layer.branch_ratio=0.25", "layer.kernel_size=5"],
        "--set layer.kernel_size=5 --set layer.branch_ratio=0.25",
    );
    named(at, vgg, &["layer.values=features_position"], "--set layer.values=features_position");
    named(
        at,
        vgg,
        &["layer.shuffle=both", "layer.shuffle_scale=2", "model.image=64"],
        "--set layer.shuffle=both --set layer.shuffle_scale=2",
    );
    named(
        at,
        vgg,
        &["layer.kind=conv_nn_2d", "layer.neighbors=4"],
        "--set layer.kind=conv_nn_2d --set layer.neighbors=4",
    );
    named(at, vgg, &["layer.branch_ratio=0"], "--set layer.branch_ratio=0.0");
    named(at, vgg, &["layer.branch_ratio=1"], "--set layer.branch_ratio=1.0");
    named(
        at,
        vgg,
        &["layer.kind=branching_2d_attention", "model.features=[8,16,\"M\",24,\"M\"]"],
        "--set 'model.features=[8, 16, \"M\", 24, \"M\"]' --set layer.kind=branching_2d_attention",
    );
    named(at, None, &["layer.neighbors=7"], "--preset vit_compact --set layer.neighbors=7");
}

/// The encoding of positions tells the side of the images, though it is no parameter.
#[test]
fn the_image_size_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (large, out) = (folder.path().join("large"), folder.path().join("out"));
    let zeros = written(folder.path(), "vit_compact", &["model.image=64"]);
    succeed(&mut import(&zeros, "vit_compact", &["model.image=64"], &large));
    let file = large.join("model.safetensors");
    let Finished { code, stderr, .. } = finish(&mut import(&file, "vit_compact", &[], &out));
    assert_eq!(code, Some(2));
    let parts = "`positional_encoding.pe` is [1, 257, 128], expected [1, 65, 128]; it fits with --set model.image=64\n";
    assert!(stderr.ends_with(parts), "{stderr}");
    succeed(&mut import(&file, "vit_compact", &["model.image=64"], &out));
}

/// Names of a hostile file cannot steer the terminal.
#[test]
fn control_characters_are_escaped() {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors: Tensors = weights::read(&checkpoint("vit.safetensors")).unwrap().into_iter().collect();
    tensors.insert("\u{1b}[2Jextra\n".to_owned(), Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap());
    let file = folder.path().join("escapes.safetensors");
    std::fs::write(&file, safetensors::serialize(&tensors, None).unwrap()).unwrap();
    let stdout = refused(&file, &["1 left over: `\\u{1b}[2Jextra\\n` [1]"]);
    assert_eq!(stdout, "left over  \\u{1b}[2Jextra\\n [1]\n");
}

/// The authors' branching over tokens computes what no layer here does.
#[test]
fn branching_over_tokens() {
    let folder = tempfile::tempdir().unwrap();
    for other in ["conv1d", "attention"] {
        let sets = ["layer.kind=branching_tokens".to_owned(), format!("layer.other={other}")];
        let file = written(folder.path(), "vit_compact", &[&sets[0], &sets[1]]);
        refused(&file, &["zeros.safetensors: `transformer_encoder.0.attention.convnn.", "mixes tokens with features"]);
    }
}

/// A hundred tensors in one storage: the storage is read once.
#[test]
fn a_storage_of_many_tensors() {
    let stdout = refused(&checkpoint("views.pth"), &["100 left over: `part.0` [2]"]);
    assert_eq!(stdout.lines().filter(|line| line.starts_with("left over  part.")).count(), 100);
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
    refused(&changed(&|t| drop(t.insert(positions.to_owned(), zeros(&[1, 65, 8])))), &[positions, "; expected"]);
    let whole = Tensor::zeros(8, DType::I64, &Device::Cpu).unwrap();
    refused(&changed(&|t| drop(t.insert(norm.to_owned(), whole.clone()))), &[norm, "of type i64"]);
}

/// A pickle that names anything but tensors and arguments is refused by that name, and nothing of it is run.
#[test]
fn more_than_tensors() {
    refused(&checkpoint("calls.pth"), &["calls.pth: the pickle names posix.system, which is not a tensor type"]);
    refused(&checkpoint("namespace_calls.pth"), &["the pickle names posix.system, which is not a tensor type"]);
    assert!(!Path::new("convnn_was_here").exists());
}

#[test]
fn files_that_are_no_checkpoints() {
    refused(&checkpoint("before_1_6.pth"), &["a pickle without a zip around it, as PyTorch wrote before version 1.6"]);
    refused(&checkpoint("make_checkpoints.py"), &["make_checkpoints.py: no", "safetensors file"]);
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

/// A `.pth` file with `count` tensors that are one storage.
fn many_tensors(path: &Path, count: usize) {
    let text = |text: &str| [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    let storage =
        [&b"(("[..], &text("storage"), b"ctorch\nFloatStorage\n", &text("0"), &text("cpu"), b"K\x01tQ"].concat();
    let tensor = [&b"ctorch._utils\n_rebuild_tensor_v2\n"[..], &storage, b"K\x00K\x01\x85K\x01\x85\x89}tR"].concat();
    let mut program = b"\x80\x02}(".to_vec();
    for number in 0..count {
        program.extend([text(&format!("layer.{number}.weight")), tensor.clone()].concat());
    }
    program.extend(b"u.");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in [("archive/data.pkl", &program[..]), ("archive/data/0", &1.5f32.to_le_bytes())] {
        zip.start_file(name, stored).unwrap();
        std::io::Write::write_all(&mut zip, bytes).unwrap();
    }
    zip.finish().unwrap();
}

#[test]
fn many_tensors_on_one_storage_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("many.pth");
    for (count, says) in [(20_001, "20001 tensors; expected at most 20000"), (20_000, "left over")] {
        many_tensors(&file, count);
        let started = std::time::Instant::now();
        refused(&file, &[says]);
        assert!(started.elapsed() < std::time::Duration::from_secs(10), "{count}: {:?}", started.elapsed());
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_instead_of_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    succeed(Command::new("mkfifo").arg(&pipe));
    refused(&pipe, &["it is not a regular file"]);
    let finished = finish(convnn().arg("parity").arg(&pipe));
    assert!(finished.code == Some(2) && finished.stderr.contains("it is not a regular file"), "{finished:?}");
}

/// A killed import leaves its folder beside the one to be written; the next one removes it.
#[cfg(target_os = "linux")]
#[test]
fn what_a_killed_import_left_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let mut ended = crate::command::start(&mut Command::new("true"));
    ended.wait().unwrap();
    let (left, running) = (format!("out.{}.part", ended.id()), format!("out.{}.part", std::process::id()));
    for name in [&left, &running, &"other.part".to_owned()] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    succeed(&mut import(&checkpoint("vit.pth"), "vit_compact", &VIT, &folder.path().join("out")));
    assert!(!folder.path().join(left).exists());
    assert!(folder.path().join(running).exists() && folder.path().join("other.part").exists());
}
