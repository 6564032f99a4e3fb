//! Element by element: ReLU, GELU, dropout; row by row: softmax and cross entropy.

use super::{time_op, variable};
use candle_core::{Device, Tensor};
use convnn_core::{Streams, nn, reference};
use criterion::{Criterion, criterion_group};

/// Name, rows, width.
const SHAPES: &[(&str, usize, usize)] = &[("vgg_classifier", 128, 4096), ("vit_mlp", 32 * 197, 768)];
const SCORES: &[(&str, usize, usize)] = &[("vit_scores", 32 * 197, 197), ("neighbors", 32 * 197, 9)];
const LOGITS: &[(&str, usize, usize)] = &[("cifar10", 128, 10), ("cifar100", 128, 100)];

fn elementwise(c: &mut Criterion) {
    for &(name, rows, width) in SHAPES {
        let x = &variable((rows, width), name);
        let n = (rows * width) as u64;
        time_op(c, &format!("relu/{name}"), n, &[x], || nn::relu(x), || reference::relu(x));
        time_op(c, &format!("gelu/{name}"), n, &[x], || nn::gelu(x, None), || reference::gelu(x, None));
        let generator = || Streams::new(0).generator("dropout/0/bench");
        let kernel = || nn::dropout(x, 0.1, &mut generator());
        time_op(c, &format!("dropout/{name}"), n, &[x], kernel, || reference::dropout(x, 0.1, &mut generator()));
    }
}

fn rowwise(c: &mut Criterion) {
    for &(name, rows, width) in SCORES {
        let x = &variable((rows, width), name);
        let n = (rows * width) as u64;
        time_op(c, &format!("softmax/{name}"), n, &[x], || nn::softmax(x), || reference::softmax(x));
    }
    for &(name, rows, width) in LOGITS {
        let x = &variable((rows, width), name);
        let labels: Vec<u32> = (0..rows as u32).map(|i| i * 7 % width as u32).collect();
        let t = &Tensor::from_vec(labels, rows, &Device::Cpu).unwrap();
        let (kernel, reference) = (|| nn::cross_entropy(x, t), || reference::cross_entropy(x, t));
        time_op(c, &format!("cross_entropy/{name}"), (rows * width) as u64, &[x], kernel, reference);
    }
}

criterion_group!(benches, elementwise, rowwise);
