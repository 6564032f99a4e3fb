//! `convnn parity` on the golden tensors of the crates, and on copies with something wrong.

use crate::command::{Finished, convnn, finish, succeed};
use candle_core::{DType, Device, Tensor};
use convnn_core::testing::{self, golden::Case};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::process::Stdio;

fn fixtures(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(of).join("tests/fixtures")
}

fn parity(paths: &[&Path]) -> Finished {
    finish(convnn().arg("parity").args(paths))
}

/// The lines on standard error that are not progress.
fn errors(finished: &Finished) -> Vec<&str> {
    finished.stderr.lines().filter(|line| !line.starts_with('[')).collect()
}

/// A case that can be changed before it is written elsewhere.
#[derive(Clone)]
struct Copy(Case);

impl Copy {
    fn of(of: &str, case: &str) -> Self {
        Self(Case::read(&fixtures(of).join(format!("{case}.safetensors"))).unwrap())
    }

    fn write(&self, path: &Path) {
        let bytes = safetensors::serialize(&self.0.tensors, Some(self.0.metadata())).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Multiplies the largest value of `name` by `factor`.
    fn scale_largest(mut self, name: &str, factor: f32) -> Self {
        let tensor = &self.0.tensors[name];
        let mut values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let largest = (0..values.len()).max_by(|&a, &b| values[a].abs().total_cmp(&values[b].abs())).unwrap();
        values[largest] *= factor;
        let changed = Tensor::from_vec(values, tensor.dims(), &Device::Cpu).unwrap();
        self.0.tensors.insert(name.to_owned(), changed);
        self
    }

    fn checked(&self) -> Finished {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copy.safetensors");
        self.write(&path);
        parity(&[&path])
    }

    #[track_caller]
    fn differs_in(&self, tensor: &str) {
        let Finished { code, stdout, stderr } = self.checked();
        assert_eq!(code, Some(1), "{tensor}: {stdout}{stderr}");
        let line = stdout.lines().next().unwrap();
        assert!(line.starts_with(&format!("FAIL {} {tensor} error=", self.0.name)), "{tensor}: {line}");
        assert_eq!(stdout.lines().last(), Some("0 passed, 1 failed"));
    }

    /// Exit code 2, and one error line with all of `parts`.
    #[track_caller]
    fn refused(&self, parts: &[&str]) {
        let finished = self.checked();
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert_eq!(finished.stdout, "0 passed, 1 failed\n");
        let [line] = errors(&finished)[..] else { panic!("{finished:?}") };
        for part in [&["error: ", "copy.safetensors: "], parts].concat() {
            assert!(line.contains(part), "{part:?} in {line:?}");
        }
    }

    fn with_config(mut self, change: impl FnOnce(&mut Map<String, Value>)) -> Self {
        change(&mut self.0.config);
        self
    }

    fn with(mut self, name: &str, tensor: Tensor) -> Self {
        self.0.tensors.insert(name.to_owned(), tensor);
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.0.tensors.remove(name).unwrap();
        self
    }
}

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
}

#[test]
fn every_case_passes() {
    let (core, models) = (fixtures("convnn-core"), fixtures("convnn-models"));
    let Finished { code, stdout, stderr } = parity(&[&core, &models]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let lines: Vec<_> = stdout.lines().collect();
    let (last, cases) = lines.split_last().unwrap();
    assert_eq!(*last, format!("{} passed, 0 failed", cases.len()));
    assert!(cases.len() >= 43);
    for line in cases {
        let (case, error) = line.strip_prefix("ok ").unwrap().split_once(" max_error=").unwrap();
        assert!(!case.contains(' '), "{line}");
        assert!(error.parse::<f64>().unwrap() <= 1e-4, "{line}");
    }
    assert!(cases[0] < cases[1] && stdout.contains("\nok vgg_hybrid_training "));
}

/// A file and a folder, in which other files are ignored.
#[test]
fn files_and_folders() {
    let folder = tempfile::tempdir().unwrap();
    let copy = Copy::of("convnn-core", "conv_nn_2d_cosine");
    copy.write(&folder.path().join("b.safetensors"));
    std::fs::write(folder.path().join("README.md"), "not a golden file").unwrap();
    std::fs::create_dir(folder.path().join("more.safetensors")).unwrap();
    copy.write(&folder.path().join("named_otherwise"));
    let Finished { code, stdout, .. } = parity(&[&folder.path().join("named_otherwise"), folder.path()]);
    assert_eq!((code, stdout.lines().last()), (Some(0), Some("2 passed, 0 failed")));
}

/// 1 % off in the largest value of any tensor is found. A result is named; of what a case starts from, everything that
/// depends on it is wrong, the output first.
#[test]
fn a_changed_tensor_is_named() {
    let copy = Copy::of("convnn-core", "conv_nn_2d_cosine");
    for name in ["output", "grad.input", "grad.conv1d_layer.weight", "grad.conv1d_layer.bias"] {
        copy.clone().scale_largest(name, 1.01).differs_in(name);
    }
    for name in ["input", "param.conv1d_layer.weight", "param.conv1d_layer.bias"] {
        copy.clone().scale_largest(name, 1.01).differs_in("output");
    }
    copy.scale_largest("grad_output", 1.01).differs_in("grad.conv1d_layer.bias");
    let training = Copy::of("convnn-models", "vit_conv_nn_training");
    for name in ["output", "losses", "param.positional_encoding.pe"] {
        training.clone().scale_largest(name, 1.01).differs_in(name);
    }
}

/// What is computed here, in the layout of the golden file.
#[test]
fn computed_tensors_are_dumped() {
    let (folder, core) = (tempfile::tempdir().unwrap(), fixtures("convnn-core"));
    let golden = Case::read(&core.join("conv_nn_2d_cosine.safetensors")).unwrap();
    succeed(convnn().arg("parity").arg(core.join("conv_nn_2d_cosine.safetensors")).arg("--dump").arg(folder.path()));
    for (precision, dtype) in [("f64", DType::F64), ("f32", DType::F32)] {
        let path = folder.path().join(format!("conv_nn_2d_cosine.{precision}.safetensors"));
        let dumped = Case::read(&path).unwrap();
        assert_eq!((&dumped.name, &dumped.config), (&golden.name, &golden.config));
        let computed = |name: &&String| *name == "output" || name.starts_with("grad.");
        assert!(dumped.tensors.keys().eq(golden.tensors.keys().filter(computed)), "{:?}", dumped.tensors.keys());
        for (name, tensor) in &dumped.tensors {
            assert_eq!(tensor.dtype(), dtype);
            testing::compare(name, tensor, &golden.tensors[name], 1e-4).unwrap();
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

/// A case without gradients.
#[test]
fn an_output_alone() {
    let mut copy = Copy::of("convnn-models", "multi_head_attention");
    copy.0.tensors.retain(|name, _| !name.starts_with("grad"));
    assert_eq!(copy.checked().code, Some(0));
    copy.scale_largest("output", 1.01).differs_in("output");
}

/// As with `convnn parity … | head -1`.
#[test]
fn the_exit_code_does_not_depend_on_a_reader() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy.safetensors");
    Copy::of("convnn-core", "conv_nn_2d_cosine").scale_largest("output", 1.01).write(&path);
    let mut child = convnn().arg("parity").arg(&path).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_nan_never_passes() {
    let copy = Copy::of("convnn-core", "conv_nn_2d_cosine");
    let nan = copy.clone().scale_largest("grad.input", f32::NAN);
    nan.differs_in("grad.input");
    assert!(nan.checked().stdout.contains("error=NaN"));
    copy.scale_largest("input", f32::NAN).differs_in("output");
}

#[test]
fn wrong_tensors() {
    let copy = Copy::of("convnn-core", "conv_nn_2d_cosine");
    let weight = "conv1d_layer.weight";
    for name in ["input", "output", "grad_output", "grad.input", &format!("param.{weight}"), &format!("grad.{weight}")]
    {
        copy.clone().without(name).refused(&[&format!("tensor `{name}` is missing; expected")]);
    }
    copy.clone().with("grad.other", zeros(&[2])).refused(&["tensor `grad.other` is unknown"]);
    let shape = copy.0.tensors[&format!("param.{weight}")].dims().to_vec();
    let param = format!("param.{weight}");
    let wrong = format!("tensor `{param}` has shape [1, 2, 3]; expected {shape:?}");
    copy.clone().with(&param, zeros(&[1, 2, 3])).refused(&[&wrong]);
    copy.clone()
        .with("input", zeros(&[2, 4, 9, 8]))
        .refused(&["tensor `input` has shape [2, 4, 9, 8]; expected [_, 5,"]);
    copy.clone().with("output", zeros(&[2, 6, 9])).refused(&["tensor `grad_output` has shape"]);
    copy.clone().with("grad.input", zeros(&[0])).refused(&["tensor `grad.input` has shape [0]; expected at least"]);
    let whole = Tensor::zeros(shape, DType::I64, &Device::Cpu).unwrap();
    copy.with(&param, whole).refused(&[&format!("tensor `{param}` is of type i64; expected floating-point")]);
}

#[test]
fn wrong_options() {
    let copy = Copy::of("convnn-core", "conv_nn_2d_cosine");
    let set = |key: &str, value: Value| copy.clone().with_config(|config| drop(config.insert(key.to_owned(), value)));
    set("neighbours", 9.into()).refused(&["option `neighbours` is 9: unknown field `neighbours`, expected one of"]);
    set("neighbors", "nine".into()).refused(&["option `neighbors` is \"nine\": invalid type"]);
    set("similarity", "taxicab".into()).refused(&["option `similarity` is \"taxicab\": unknown variant"]);
    set("neighbors", 1000.into()).refused(&["tensor `param.conv1d_layer.weight` has shape"]);
    let mut other = copy.clone();
    "conv_nn_3d".clone_into(&mut other.0.layer);
    other.refused(&["the metadata `layer` is `conv_nn_3d`; expected one of conv_nn_1d,"]);
    let mixer = Copy::of("convnn-models", "kvt_attention");
    mixer
        .clone()
        .with_config(|config| drop(config.insert("topk".to_owned(), 3.into())))
        .refused(&["option `topk` is 3"]);
    mixer
        .with_config(|config| drop(config.insert("neighbors".to_owned(), 1000.into())))
        .refused(&["`neighbors` is 1000"]);
    let training = Copy::of("convnn-models", "vit_conv_nn_training");
    training.clone().with_config(|config| drop(config.remove("lr"))).refused(&["option `lr` is missing"]);
    let sgd = training.with_config(|config| drop(config.insert("optimizer".to_owned(), "sgd".into())));
    sgd.refused(&["option `optimizer` is \"sgd\"; expected adamw"]);
}

#[test]
fn samples_of_candidates() {
    let copy = Copy::of("convnn-core", "conv_nn_2d_random");
    copy.clone().without("candidates").refused(&["tensor `candidates` is missing; expected a list of token indices"]);
    let sample = |values: &[i64]| copy.clone().with("candidates", Tensor::new(values, &Device::Cpu).unwrap());
    sample(&[1, -2]).refused(&["tensor `candidates` holds -2"]);
    sample(&[50, 51, 52]).refused(&["`neighbors` is 9, but there are only 4 candidates"]);
    let mut far: Vec<i64> = (0..20).collect();
    far[7] = 110;
    sample(&far).refused(&["`candidates` is a sample with token 110; expected numbers of the 110 tokens"]);
    let all = Copy::of("convnn-core", "conv_nn_2d_cosine");
    let sampled = all.with("candidates", Tensor::new(&[1i64, 2], &Device::Cpu).unwrap());
    sampled.refused(&["tensor `candidates` is unknown: no candidates are drawn"]);
}

#[test]
fn files_that_are_not_golden() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good.safetensors");
    Copy::of("convnn-core", "conv_nn_2d_cosine").write(&good);
    let not_golden = |name: &str, bytes: &[u8], part: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let finished = parity(&[&path, &good]);
        assert_eq!(finished.code, Some(2));
        // The others are checked all the same.
        let stdout = &finished.stdout;
        assert!(stdout.starts_with("ok conv_nn_2d_cosine ") && stdout.ends_with("\n1 passed, 1 failed\n"), "{stdout}");
        let [line] = errors(&finished)[..] else { panic!("{finished:?}") };
        assert!(line.contains(name) && line.contains(part), "{line}");
    };
    not_golden("text.safetensors", b"no tensors here", "not a safetensors file");
    not_golden("empty.safetensors", b"", "not a safetensors file");
    let whole = std::fs::read(&good).unwrap();
    not_golden("cut.safetensors", &whole[..whole.len() / 2], "not a safetensors file");
    let tensors = [("weight", zeros(&[2]))];
    let plain = safetensors::serialize(tensors, None).unwrap();
    not_golden("weights.safetensors", &plain, "its metadata lacks `config`");
    let refused = |path: &Path, part: &str| {
        let Finished { code, stderr, .. } = parity(&[path]);
        assert_eq!(code, Some(2));
        assert!(stderr.contains(part), "{stderr}");
    };
    refused(&folder.path().join("missing"), "cannot read");
    let empty = tempfile::tempdir().unwrap();
    refused(empty.path(), "holds no .safetensors file");
}
