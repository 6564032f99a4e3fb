//! The summary of each preset: its sums, and what it says a training step keeps, against Candle's graph.

use candle_core::{DType, Device, Tensor};
use convnn_core::{Parameters, Pass, Streams, nn};
use convnn_models::{Model, ModelConfig, presets};
use std::collections::HashSet;

/// Values of every tensor with a gradient in the graph of a training step with `batch` images; tensors that share memory
/// count once.
fn in_graph(config: &ModelConfig, batch: usize) -> usize {
    let streams = Streams::new(1);
    let parameters = Parameters::new(&streams, DType::F32, &Device::Cpu);
    let model = Model::new(config, parameters.builder()).unwrap();
    let side = config.image_size();
    let images = Tensor::rand(0f32, 1.0, (batch, 3, side, side), &Device::Cpu).unwrap();
    let labels = Tensor::zeros(batch, DType::U32, &Device::Cpu).unwrap();
    let logits = model.forward_t(&images, &Pass::training(&streams, 0)).unwrap();
    let loss = nn::cross_entropy(&logits, &labels).unwrap();
    let mut seen = HashSet::new();
    let graph = loss.sorted_nodes();
    let first = graph.iter().filter(|node| seen.insert(std::ptr::from_ref(&*node.storage_and_layout().0)));
    first.map(|node| node.elem_count()).sum()
}

/// Values per image that the graph does not show: the images with their copy, and the indices of neighbors.
fn beside_graph(config: &ModelConfig) -> u64 {
    let side = config.image_size();
    let index = |row: convnn_models::LayerSummary| match (row.kind.as_str(), row.tokens, row.choice) {
        ("conv2d" | "multi_head_attention" | "kvt_attention", ..) => 0,
        // The choice, and once more without the token itself, whose score is a constant.
        (kind, Some(tokens), Some(choice)) if kind.ends_with("2d_attention") => 2 * tokens * choice.neighbors,
        (_, Some(tokens), Some(choice)) => tokens * choice.neighbors,
        _ => 0,
    };
    let indices: usize = config.layers().unwrap().into_iter().map(index).sum();
    (2 * 3 * side * side + indices) as u64
}

#[test]
fn the_summary_says_what_a_training_step_keeps() {
    let mut wrong = Vec::new();
    for preset in presets().iter().filter(|preset| !["vgg13", "vgg16", "vgg19"].contains(&preset.name)) {
        let config = preset.config();
        // What depends on the batch, without what belongs to parameters.
        let found = (in_graph(&config, 3) - in_graph(&config, 2)) as u64 + beside_graph(&config);
        let said = config.memory().unwrap().kept;
        let ratio = said as f64 / found as f64;
        if !(0.97..1.03).contains(&ratio) {
            wrong.push(format!("{}: {said} values said, {found} found: {ratio:.3}", preset.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_rows_add_up_to_the_model() {
    for preset in presets() {
        let config = preset.config();
        let rows = config.layers().unwrap();
        let parameters: usize = rows.iter().map(|row| row.parameters).sum();
        assert_eq!(parameters, config.parameter_count().unwrap(), "{}", preset.name);
        assert_eq!(rows.iter().map(|row| row.flops).sum::<u64>(), config.flops().unwrap(), "{}", preset.name);
        assert_eq!(rows.last().unwrap().output, [config.classes()], "{}", preset.name);
        let chosen = rows.iter().filter_map(|row| row.choice);
        assert!(chosen.into_iter().all(|choice| choice.neighbors <= choice.candidates), "{}", preset.name);
    }
}
