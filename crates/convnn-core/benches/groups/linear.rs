//! Linear layers; the throughput counts multiply-adds of the forward pass.

use super::{time_op, variable};
use convnn_core::{nn, reference};
use criterion::{Criterion, criterion_group};

/// Name, rows, inputs, outputs.
const LAYERS: &[(&str, usize, usize, usize)] = &[
    ("vgg_classifier3", 128, 4096, 4096),
    ("vit_projection", 32 * 197, 192, 192),
    ("vit_mlp0", 32 * 197, 192, 768),
    ("vit_mlp3", 32 * 197, 768, 192),
    ("vit_head", 32, 192, 10),
];

fn linear(c: &mut Criterion) {
    for &(name, rows, inputs, outputs) in LAYERS {
        let (x, w, b) = (&variable((rows, inputs), name), &variable((outputs, inputs), "w"), &variable(outputs, "b"));
        let (kernel, reference) = (|| nn::linear(x, w, Some(b)), || reference::linear(x, w, Some(b)));
        time_op(c, &format!("linear/{name}"), (rows * inputs * outputs) as u64, &[x, w, b], kernel, reference);
    }
}

fn repeated_linear(c: &mut Criterion) {
    let (batch, channels, outputs, repeats) = (128, 512, 4096, 49);
    let (x, b) = (&variable((batch, channels), "x"), &variable(outputs, "b"));
    let w = &variable((outputs, channels * repeats), "w");
    let kernel = || nn::repeated_linear(x, w, Some(b), repeats);
    let reference = || reference::repeated_linear(x, w, Some(b), repeats);
    let n = (outputs * channels * repeats) as u64;
    time_op(c, "repeated_linear/vgg_classifier0", n, &[x, w, b], kernel, reference);
}

criterion_group!(benches, linear, repeated_linear);
