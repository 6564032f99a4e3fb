//! Golden tensors of the PyTorch peer: outputs, every gradient, and the losses of the first training steps.

use crate::{mixer, parameters, path};
use candle_core::{DType, Tensor, Var};
use convnn_core::{Parameters, Pass, Streams, backward, check, ops};
use convnn_models::weights::{self, Tensors};
use convnn_models::{Model, golden};
use serde_json::{Map, Value};
use std::collections::HashMap;

const TOLERANCE: f64 = 1e-4;

/// A golden file.
struct Case {
    layer: String,
    config: Map<String, Value>,
    tensors: HashMap<String, Tensor>,
}

fn read(name: &str) -> Case {
    let path = path("fixtures").join(format!("{name}.safetensors"));
    let bytes = std::fs::read(&path).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = metadata.metadata().clone().unwrap();
    Case {
        layer: metadata["layer"].clone(),
        config: serde_json::from_str(&metadata["config"]).unwrap(),
        tensors: weights::read(&path).unwrap(),
    }
}

impl Case {
    /// The tensors whose name starts with `prefix`, without it.
    fn named(&self, prefix: &str) -> Tensors {
        let named = |(name, t): (&String, &Tensor)| Some((name.strip_prefix(prefix)?.to_owned(), t.clone()));
        self.tensors.iter().filter_map(named).collect()
    }
}

#[track_caller]
fn same(label: &str, actual: &Tensor, expected: &Tensor) {
    check::compare(label, actual, expected, TOLERANCE).unwrap();
}

fn mixer_case(name: &str) {
    let case = read(name);
    let (dim, config) = golden::mixer(&case.layer, &case.config).unwrap();
    let parameters = parameters(DType::F32);
    let mixer = mixer(&config, case.tensors["input"].dim(1).unwrap(), dim, &parameters);
    weights::load_into(&parameters, &case.named("param.")).unwrap();
    let input = Var::from_tensor(&case.tensors["input"]).unwrap();
    let output = mixer.forward_t(&input, &Pass::evaluation()).unwrap();
    same(&format!("{name} output"), &output, &case.tensors["output"]);
    let gradients = backward(&(output * &case.tensors["grad_output"]).unwrap().sum_all().unwrap()).unwrap();
    same(&format!("{name} grad.input"), gradients.get(&input).unwrap(), &case.tensors["grad.input"]);
    let expected = case.named("grad.");
    let trainable = parameters.trainable();
    assert_eq!(expected.len(), trainable.len() + 1);
    for (parameter, var) in trainable {
        same(&format!("{name} grad.{parameter}"), gradients.get(&var).unwrap(), &expected[&parameter]);
    }
}

#[test]
fn mixers() {
    for name in [
        "multi_head_attention",
        "kvt_attention",
        "sparse_attention_local",
        "sparse_attention_strided",
        "local_attention",
        "local_attention_published",
        "branching_tokens_conv1d",
        "branching_tokens_attention",
        "conv_nn_attention_dot",
        "conv_nn_attention_heads",
    ] {
        mixer_case(name);
    }
}

/// One step of PyTorch's AdamW with the gradient clipped to a norm, in plain operations.
struct AdamW {
    moments: Vec<(Tensor, Tensor)>,
    rate: f64,
    decay: f64,
    clip: f64,
}

impl AdamW {
    fn new(parameters: &Parameters, config: &Map<String, Value>) -> Self {
        let number = |name: &str| config[name].as_f64().unwrap();
        let moments =
            parameters.trainable().into_iter().map(|(_, v)| (v.zeros_like().unwrap(), v.zeros_like().unwrap()));
        let moments = moments.collect();
        Self { moments, rate: number("lr"), decay: number("weight_decay"), clip: number("clip_grad_norm") }
    }

    fn step(&mut self, parameters: &Parameters, loss: &Tensor, step: i32) -> candle_core::Result<()> {
        let gradients = backward(loss).map_err(candle_core::Error::from)?;
        let vars = parameters.trainable();
        let gradient = |var: &Var| gradients.get(var).unwrap().to_dtype(DType::F64);
        let mut squares = 0.0;
        for (_, var) in &vars {
            squares += gradient(var)?.sqr()?.sum_all()?.to_scalar::<f64>()?;
        }
        let scale = (self.clip / (squares.sqrt() + 1e-6)).min(1.0);
        let (first, second) = (0.9, 0.999f64);
        for ((_, var), (mean, square)) in vars.iter().zip(&mut self.moments) {
            let gradient = (gradient(var)? * scale)?;
            *mean = ((mean.to_dtype(DType::F64)? * first)? + (&gradient * (1.0 - first))?)?;
            *square = ((square.to_dtype(DType::F64)? * second)? + (gradient.sqr()? * (1.0 - second))?)?;
            let corrected = (&*mean / (1.0 - f64::powi(first, step)))?;
            let spread = ((&*square / (1.0 - second.powi(step)))?.sqrt()? + 1e-8)?;
            let decayed = (var.to_dtype(DType::F64)? * (1.0 - self.rate * self.decay))?;
            var.set(&(decayed - ((corrected / spread)? * self.rate)?)?.to_dtype(var.dtype())?)?;
        }
        Ok(())
    }
}

fn training_case(name: &str) {
    let case = read(name);
    let config = golden::model(&case.layer, &case.config).unwrap();
    // In f32 neighbors that are nearly equally close change places after a step, with another rounding another path.
    let parameters = parameters(DType::F64);
    let model = Model::new(&config, parameters.builder()).unwrap();
    let start = weights::accept(name, &config, case.named("param.")).unwrap();
    for (name, var) in parameters.all() {
        var.set(&start[&name].to_dtype(DType::F64).unwrap()).unwrap();
    }
    let input = &case.tensors["input"].to_dtype(DType::F64).unwrap();
    same(&format!("{name} output"), &model.forward_t(input, &Pass::evaluation()).unwrap(), &case.tensors["output"]);
    let targets = case.tensors["target"].to_dtype(DType::U32).unwrap();
    let mut optimizer = AdamW::new(&parameters, &case.config);
    let mut losses = Vec::new();
    for step in 0..case.tensors["losses"].elem_count() as u64 {
        let logits = model.forward_t(input, &Pass::training(&Streams::new(0), step)).unwrap();
        let loss = ops::cross_entropy(&logits, &targets).unwrap();
        losses.push(loss.detach());
        optimizer.step(&parameters, &loss, step as i32 + 1).unwrap();
    }
    same(&format!("{name} losses"), &Tensor::stack(&losses, 0).unwrap(), &case.tensors["losses"]);
}

#[test]
fn training() {
    training_case("vgg_hybrid_training");
    training_case("vit_conv_nn_training");
}

#[test]
fn a_changed_weight_is_noticed() {
    let case = read("multi_head_attention");
    let (dim, config) = golden::mixer(&case.layer, &case.config).unwrap();
    let parameters = parameters(DType::F32);
    let mixer = mixer(&config, case.tensors["input"].dim(1).unwrap(), dim, &parameters);
    let mut values = case.named("param.");
    let changed = (&values["W_v.weight"] * 1.01).unwrap();
    values.insert("W_v.weight".to_owned(), changed);
    weights::load_into(&parameters, &values).unwrap();
    let output = mixer.forward_t(&case.tensors["input"], &Pass::evaluation()).unwrap();
    check::compare("output", &output, &case.tensors["output"], TOLERANCE).unwrap_err();
}
