//! Optimizers, averages of weights and losses against PyTorch, step by step.

use candle_core::safetensors::load;
use candle_core::{DType, Device, Tensor, Var, backprop::GradStore};
use convnn_core::optim::{AdamW, AdamWConfig, Momentum, Muon, MuonConfig, Sgd, SgdConfig, WeightAverage};
use convnn_core::{backward, nn, testing};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::path::Path;

/// Summing in another order is all that may differ.
const TOLERANCE: f64 = 1e-14;

struct Trajectories {
    tensors: HashMap<String, Tensor>,
    cases: Map<String, Value>,
}

impl Trajectories {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trajectories/trajectories.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let cases = serde_json::from_str(&metadata.metadata().as_ref().unwrap()["cases"]).unwrap();
        Self { tensors: load(&path, &Device::Cpu).unwrap(), cases }
    }

    /// The names and options of the cases with the option `key`.
    fn with(&self, key: &str) -> Vec<(&String, &Value)> {
        let cases: Vec<_> = self.cases.iter().filter(|(_, options)| !options[key].is_null()).collect();
        assert!(cases.len() >= 6);
        cases
    }

    fn get(&self, name: &str) -> &Tensor {
        &self.tensors[name]
    }
}

enum Optimizer {
    AdamW(AdamW),
    Sgd(Sgd),
    Muon(Muon),
}

impl Optimizer {
    fn new(vars: &[(String, Var)], options: &Value) -> Self {
        let number = |key: &str| options[key].as_f64();
        let (learning_rate, weight_decay) = (number("lr").unwrap(), number("weight_decay").unwrap());
        let (clip_grad_norm, clip_grad_value) = (number("clip_grad_norm"), number("clip_grad_value"));
        let decay_norms_and_biases = options["decay_norms_and_biases"].as_bool().unwrap();
        match options["optimizer"].as_str().unwrap() {
            "SGD" => {
                let momentum = match (number("momentum"), options["nesterov"].as_bool()) {
                    (None, _) => Momentum::None,
                    (Some(momentum), Some(true)) => Momentum::Nesterov(momentum),
                    (Some(momentum), _) => Momentum::HeavyBall(momentum),
                };
                let config = SgdConfig {
                    learning_rate,
                    momentum,
                    weight_decay,
                    decay_norms_and_biases,
                    clip_grad_norm,
                    clip_grad_value,
                };
                Self::Sgd(Sgd::named(vars.to_vec(), config).unwrap())
            }
            name => {
                let default = AdamWConfig::default();
                let config = AdamWConfig {
                    learning_rate,
                    beta1: options["betas"][0].as_f64().unwrap_or(default.beta1),
                    beta2: options["betas"][1].as_f64().unwrap_or(default.beta2),
                    eps: number("eps").unwrap_or(default.eps),
                    weight_decay,
                    decoupled: name != "Adam",
                    decay_norms_and_biases,
                    clip_grad_norm,
                    clip_grad_value,
                };
                match name {
                    "Muon" => {
                        let config = MuonConfig { momentum: number("momentum").unwrap(), adamw: config };
                        Self::Muon(Muon::named(vars.to_vec(), config).unwrap())
                    }
                    _ => Self::AdamW(AdamW::named(vars.to_vec(), config).unwrap()),
                }
            }
        }
    }

    fn update(&mut self, gradients: &GradStore) {
        let norm = match self {
            Self::AdamW(adamw) => adamw.update(gradients),
            Self::Sgd(sgd) => sgd.update(gradients),
            Self::Muon(muon) => muon.update(gradients),
        };
        assert!(norm.unwrap() > 0.0);
    }
}

#[test]
fn optimizers_follow_pytorch() {
    let all = Trajectories::read();
    for (name, options) in all.with("optimizer") {
        for (dtype, tolerance) in [(DType::F64, TOLERANCE), (DType::F32, 2e-6)] {
            let var = |name: &str| Var::from_tensor(&all.get(name).to_dtype(dtype).unwrap()).unwrap();
            let vars: Vec<_> = ["weight", "bias"].map(|name| (name.to_owned(), var(name))).into();
            let mut optimizer = Optimizer::new(&vars, options);
            let mut average = options["ema_decay"].as_f64().map(|decay| WeightAverage::new(vars.clone(), decay));
            for step in 0..6 {
                let losses = vars.iter().map(|(name, var)| {
                    let gradient = all.get(&format!("{name}.{step}")).to_dtype(dtype).unwrap();
                    (var.as_tensor() * gradient).unwrap().sum_all().unwrap()
                });
                optimizer.update(&backward(&losses.reduce(|a, b| (a + b).unwrap()).unwrap()).unwrap());
                let mut shown: Vec<_> =
                    vars.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
                if let Some(average) = &mut average {
                    average.update().unwrap();
                    shown = average.state();
                }
                for (key, found) in shown {
                    let expected = all.get(&format!("{name}/{key}")).get(step).unwrap().to_dtype(dtype).unwrap();
                    testing::compare(&format!("{name}, {key} after step {step}"), &found, &expected, tolerance)
                        .unwrap();
                }
            }
        }
    }
}

#[test]
fn losses_are_pytorchs() {
    let all = Trajectories::read();
    for (name, options) in all.with("loss") {
        let logits = Var::from_tensor(all.get("logits")).unwrap();
        let (targets, smoothing) =
            (all.get(options["targets"].as_str().unwrap()), options["label_smoothing"].as_f64().unwrap());
        let loss = match options["loss"].as_str().unwrap() {
            "mse" => nn::mean_squared_error(&logits, targets, smoothing),
            _ => nn::cross_entropy_with(&logits, targets, smoothing),
        };
        let loss = loss.unwrap();
        let gradients = backward(&loss).unwrap();
        testing::compare(name, &loss, all.get(&format!("{name}/loss")), TOLERANCE).unwrap();
        let gradient = gradients.get(&logits).unwrap();
        testing::compare(name, gradient, all.get(&format!("{name}/gradient")), TOLERANCE).unwrap();
    }
}
