//! Every layer of this crate against its golden tensors: the output and each gradient (SPEC section 5).
#![allow(clippy::unwrap_used, missing_docs)]

use candle_core::{DType, Device, Tensor, Var};
use convnn_core::{
    Branching2d, ConvNn1d, ConvNn2d, ConvNn2dAttention, ConvNnAttention, Parameters, Pass, Result, Streams, check,
};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// What the files were made with: their own tolerance.
const TOLERANCE: f64 = 1e-4;

struct Fixture {
    layer: String,
    config: String,
    tensors: HashMap<String, Tensor>,
}

fn read(path: &Path) -> Fixture {
    let bytes = std::fs::read(path).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = metadata.metadata().clone().unwrap();
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).unwrap();
    Fixture { layer: metadata["layer"].clone(), config: metadata["config"].clone(), tensors }
}

type Forward = Box<dyn Fn(&Tensor) -> Result<Tensor>>;

/// The layer of a fixture, its parameters set to those of the fixture.
fn build(fixture: &Fixture, parameters: &Parameters) -> Forward {
    let sample = fixture.tensors.get("candidates").map(|t| t.to_dtype(DType::U32).unwrap().to_vec1::<u32>().unwrap());
    macro_rules! layer {
        ($layer:ident) => {{
            let layer = $layer::new(&serde_json::from_str(&fixture.config).unwrap(), parameters.builder()).unwrap();
            let layer = match sample {
                Some(sample) => layer.with_candidates(sample),
                None => layer,
            };
            Box::new(move |x: &Tensor| layer.forward(x, &Pass::evaluation()))
        }};
    }
    let forward: Forward = match fixture.layer.as_str() {
        "conv_nn_1d" => layer!(ConvNn1d),
        "conv_nn_2d" => layer!(ConvNn2d),
        "conv_nn_2d_attention" => layer!(ConvNn2dAttention),
        "branching_2d" => layer!(Branching2d),
        "conv_nn_attention" => layer!(ConvNnAttention),
        other => panic!("no layer {other}"),
    };
    let named: BTreeMap<String, Var> = parameters.all().into_iter().collect();
    let expected = fixture.tensors.keys().filter(|name| name.starts_with("param.")).count();
    assert_eq!(named.len(), expected, "parameters {:?}", named.keys());
    for (name, var) in named {
        let value = &fixture.tensors[&format!("param.{name}")];
        assert_eq!(value.dims(), var.dims(), "{name}");
        var.set(&value.to_dtype(var.dtype()).unwrap()).unwrap();
    }
    forward
}

fn compare_case(case: &str, fixture: &Fixture, dtype: DType) -> std::result::Result<f64, String> {
    let parameters = Parameters::new(&Streams::new(0), dtype, &Device::Cpu);
    let forward = build(fixture, &parameters);
    let get = |name: &str| fixture.tensors[name].to_dtype(dtype).unwrap();
    let x = Var::from_tensor(&get("input")).unwrap();
    let y = forward(&x).map_err(|e| format!("{case}: {e}"))?;
    let mut worst = check::compare(&format!("{case}: output"), &y, &get("output"), TOLERANCE)?;
    let grads = convnn_core::backward(&(y * get("grad_output")).unwrap().sum_all().unwrap()).unwrap();
    let inputs = std::iter::once(("input".to_owned(), x)).chain(parameters.all());
    for (name, var) in inputs {
        let found = grads.get(var.as_tensor()).cloned().unwrap_or_else(|| var.zeros_like().unwrap());
        let label = format!("{case}: grad.{name}");
        worst = worst.max(check::compare(&label, &found, &get(&format!("grad.{name}")), TOLERANCE)?);
    }
    Ok(worst)
}

#[test]
fn golden_tensors_in_both_precisions() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut cases = 0;
    let mut failures = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let case = path.file_stem().unwrap().to_string_lossy().into_owned();
        let fixture = read(&path);
        for dtype in [DType::F32, DType::F64] {
            if let Err(line) = compare_case(&case, &fixture, dtype) {
                failures.push(format!("{dtype:?} {line}"));
            }
        }
        cases += 1;
    }
    assert!(failures.is_empty(), "{failures:#?}");
    assert_eq!(cases, 34);
}

/// The comparison itself can fail: 1 % off in one tensor is found and named.
#[test]
fn a_changed_tensor_is_named() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for name in ["output", "grad.input", "param.conv1d_layer.weight", "grad.conv1d_layer.bias"] {
        let mut fixture = read(&folder.join("conv_nn_2d_cosine.safetensors"));
        let tensor = &fixture.tensors[name];
        let mut values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let largest = (0..values.len()).max_by(|&a, &b| values[a].abs().total_cmp(&values[b].abs())).unwrap();
        values[largest] *= 1.01;
        let changed = Tensor::from_vec(values, tensor.dims(), &Device::Cpu).unwrap();
        fixture.tensors.insert(name.to_owned(), changed);
        let line = compare_case("changed", &fixture, DType::F32).unwrap_err();
        // A changed parameter shows first in the output.
        let named = if name.starts_with("param") { "output" } else { name };
        assert!(line.contains(named), "{line}");
    }
}
