//! Golden tensors of the PyTorch twin: outputs, gradients, and the losses of the first training steps.

use crate::{mixer, parameters, path};
use candle_core::DType;
use convnn_core::testing::golden::{self, Case};
use convnn_core::{Pass, testing};
use convnn_models::weights::{self, Tensors};
use serde_json::json;

fn read(name: &str) -> Case {
    Case::read(&path("fixtures").join(format!("{name}.safetensors"))).unwrap()
}

/// The parameters of a case.
fn values(case: &Case) -> Tensors {
    let named = case.tensors.iter().filter_map(|(name, t)| Some((name.strip_prefix("param.")?.to_owned(), t.clone())));
    named.collect()
}

#[test]
fn every_case_passes() {
    let files = golden::files(&path("fixtures")).unwrap();
    assert_eq!(files.len(), 13, "golden files");
    for file in files {
        let case = Case::read(&file).unwrap();
        let outcome = golden::check(&case, convnn_models::golden::build).unwrap();
        assert!(outcome.passes(), "{}: {:?}", case.name, outcome.differences);
    }
}

#[test]
fn a_changed_weight_is_noticed() {
    let mut case = read("multi_head_attention");
    let weight = case.tensors.get_mut("param.W_v.weight").unwrap();
    *weight = (&*weight * 1.01).unwrap();
    let outcome = golden::check(&case, convnn_models::golden::build).unwrap();
    assert_eq!(outcome.differences[0].tensor, "output");
}

#[test]
fn unknown_kinds_and_options_are_named() {
    let line = |case: &Case| golden::check(case, convnn_models::golden::build).unwrap_err().to_string();
    let mut case = read("kvt_attention");
    case.config.insert("neighbours".to_owned(), json!(9));
    assert!(line(&case).starts_with("config: option `neighbours` is 9: unknown field `neighbours`"), "{}", line(&case));
    case.layer = "kvt".to_owned();
    assert!(line(&case).contains("`kvt`; expected one of conv_nn_1d, "), "{}", line(&case));
}

/// Without a pattern, sparse attention is multi-head attention.
#[test]
fn sparse_attention_to_all_tokens() {
    let case = read("multi_head_attention");
    let options = json!({ "kind": "sparse_attention", "mode": "all", "heads": case.config["heads"] });
    let (parameters, input) = (parameters(DType::F32), &case.tensors["input"]);
    let (_, tokens, dim) = input.dims3().unwrap();
    let mixer = mixer(&serde_json::from_value(options).unwrap(), tokens, dim, &parameters);
    let names = [("W_q", "q_proj"), ("W_k", "k_proj"), ("W_v", "v_proj"), ("W_o", "out_proj")];
    let values = values(&case);
    let renamed = names.map(|(from, to)| (format!("{to}.weight"), values[&format!("{from}.weight")].clone()));
    weights::load_into(&parameters, &renamed.into()).unwrap();
    let output = mixer.forward_t(input, &Pass::evaluation()).unwrap();
    testing::compare("output", &output, &case.tensors["output"], golden::TOLERANCE).unwrap();
}
