//! The head of a VGG on maps of any size.

use crate::{normal, parameters};
use candle_core::{DType, IndexOp, Tensor};
use convnn_core::{Pass, testing};
use convnn_models::{Model, ModelConfig};
use serde_json::json;

/// PyTorch's adaptive average pool of (B, C, H, W) to 7×7, cell by cell.
fn pooled(x: &Tensor) -> Tensor {
    let (_, _, height, width) = x.dims4().unwrap();
    let cell = |i: usize, side: usize| i * side / 7..((i + 1) * side).div_ceil(7);
    let cells: Vec<Tensor> = (0..49)
        .map(|i| x.i((.., .., cell(i / 7, height), cell(i % 7, width))).unwrap().mean((2, 3)).unwrap())
        .collect();
    Tensor::stack(&cells, 2).unwrap() // (B, C, 49)
}

/// One convolution of side 1 that passes positive inputs on, so that what reaches the head is known.
#[test]
fn maps_of_any_size_are_pooled_as_in_pytorch() {
    for side in [1, 2, 5, 7, 9, 16] {
        let config = json!({
            "model": { "architecture": "vgg", "features": [3], "hidden": 5, "classes": 4, "image": side },
            "layer": { "kind": "conv2d", "kernel_size": 1 },
        });
        let config: ModelConfig = serde_json::from_value(config).unwrap();
        let parameters = parameters(DType::F64);
        let model = Model::new(&config, parameters.builder()).unwrap();
        let get = |name: &str| parameters.all().into_iter().find(|(n, _)| n == name).unwrap().1;
        let identity = Tensor::eye(3, DType::F64, &candle_core::Device::Cpu).unwrap().reshape((3, 3, 1, 1)).unwrap();
        get("features.0.weight").set(&identity).unwrap();
        get("features.0.bias").set(&get("features.0.bias").zeros_like().unwrap()).unwrap();
        let images = normal("images", &[2, 3, side, side], DType::F64).abs().unwrap();
        let linear = |x: &Tensor, i: usize| {
            let [weight, bias] = ["weight", "bias"].map(|name| get(&format!("classifier.{i}.{name}")));
            x.matmul(&weight.t().unwrap()).unwrap().broadcast_add(&bias).unwrap()
        };
        // Batch norm in evaluation, at its initial statistics.
        let x = (pooled(&images).flatten_from(1).unwrap() / (1.0f64 + 1e-5).sqrt()).unwrap();
        let x = linear(&linear(&linear(&x, 0).relu().unwrap(), 3).relu().unwrap(), 6);
        let logits = model.forward_t(&images, &Pass::evaluation()).unwrap();
        testing::compare(&format!("side {side}"), &logits, &x, 1e-12).unwrap();
    }
}
