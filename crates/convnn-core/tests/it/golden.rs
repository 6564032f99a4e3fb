//! Every layer of this crate against its golden tensors: the output and each gradient.

use candle_core::{DType, Device, Tensor};
use convnn_core::testing::golden::{self, Case, Subject};
use convnn_core::{Parameters, Pass, Result};
use serde_json::Map;
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn cosine() -> Case {
    Case::read(&fixtures().join("conv_nn_2d_cosine.safetensors")).unwrap()
}

#[test]
fn golden_tensors_in_both_precisions() {
    let mut failures = Vec::new();
    let files = golden::files(&fixtures()).unwrap();
    for file in &files {
        let case = Case::read(file).unwrap();
        match golden::check(&case, golden::layer) {
            Ok(outcome) if outcome.passes() && !outcome.sensitive => {}
            other => failures.push(format!("{}: {other:?}", case.name)),
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(files.len() >= 45);
}

/// The comparison can fail: 1 % off in one number is found and the tensor is named.
#[test]
fn a_changed_tensor_is_named() {
    for (changed, named) in [
        ("output", "output"),
        ("grad.input", "grad.input"),
        ("grad.conv1d_layer.bias", "grad.conv1d_layer.bias"),
        // What the case starts from shows in everything that depends on it.
        ("param.conv1d_layer.weight", "output"),
        ("input", "output"),
    ] {
        let mut case = cosine();
        scale_largest(&mut case, changed, 1.01);
        let outcome = golden::check(&case, golden::layer).unwrap();
        assert!(!outcome.passes() && outcome.max_error > golden::TOLERANCE);
        assert_eq!(outcome.differences[0].tensor, named);
    }
}

#[test]
fn a_nan_never_passes() {
    for name in ["grad.input", "input"] {
        let mut case = cosine();
        scale_largest(&mut case, name, f32::NAN);
        let outcome = golden::check(&case, golden::layer).unwrap();
        assert!(!outcome.passes() && outcome.max_error.is_nan(), "{name}: {outcome:?}");
    }
}

/// A case without gradients compares the output alone.
#[test]
fn an_output_alone() {
    let mut case = cosine();
    case.tensors.retain(|name, _| !name.starts_with("grad"));
    assert!(golden::check(&case, golden::layer).unwrap().passes());
    scale_largest(&mut case, "output", 1.01);
    assert_eq!(golden::check(&case, golden::layer).unwrap().differences.len(), 1);
}

/// A case without parameters: `output` of the f64 numbers `input`.
fn case(input: &[f64], output: &[f64]) -> Case {
    let tensor = |values: &[f64]| Tensor::new(values, &Device::Cpu).unwrap();
    let tensors = [("input".to_owned(), tensor(input)), ("output".to_owned(), tensor(output))];
    Case { name: "own".to_owned(), layer: "own".to_owned(), config: Map::new(), tensors: tensors.into() }
}

/// A step between two numbers that f32 does not tell apart: f32 misses it, but so does f64 close by.
#[test]
fn a_case_that_rounding_decides_is_sensitive() {
    let step = |_: &Case, _: &Parameters| -> Result<Subject> {
        Ok(Subject::layer(|x, _| Ok(x.gt(1.0)?.to_dtype(x.dtype())?), vec![None]))
    };
    let outcome = golden::check(&case(&[0.5, 1.0 + 1e-9], &[0.0, 1.0]), step).unwrap();
    assert!(outcome.passes() && outcome.sensitive, "{outcome:?}");
}

#[test]
fn a_case_that_f32_misses_for_another_reason_fails() {
    let wrong_in_f32 = |_: &Case, _: &Parameters| -> Result<Subject> {
        let forward = |x: &Tensor, _: &Pass| Ok(if x.dtype() == DType::F32 { (x * 1.01)? } else { x.clone() });
        Ok(Subject::layer(forward, vec![None]))
    };
    let outcome = golden::check(&case(&[0.5, 1.0], &[0.5, 1.0]), wrong_in_f32).unwrap();
    assert!(!outcome.passes() && !outcome.sensitive, "{outcome:?}");
}

fn scale_largest(case: &mut Case, name: &str, factor: f32) {
    let tensor = &case.tensors[name];
    let mut values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let largest = (0..values.len()).max_by(|&a, &b| values[a].abs().total_cmp(&values[b].abs())).unwrap();
    values[largest] *= factor;
    let changed = Tensor::from_vec(values, tensor.dims(), &Device::Cpu).unwrap();
    case.tensors.insert(name.to_owned(), changed);
}
