//! Batch norm with ReLU, and layer norm.

use super::{time_op, variable};
use convnn_core::nn::{self, Activation, Statistics};
use convnn_core::reference;
use criterion::{Criterion, criterion_group};

/// Name, rows, channels: the maps of VGG-11 at batch 128.
const MAPS: &[(&str, usize, usize)] = &[
    ("32x32x64", 128 * 1024, 64),
    ("16x16x128", 128 * 256, 128),
    ("8x8x256", 128 * 64, 256),
    ("2x2x512", 128 * 4, 512),
];

fn batch_norm(c: &mut Criterion) {
    for &(name, rows, channels) in MAPS {
        let (x, w, b) = (&variable((rows, channels), name), &variable(channels, "weight"), &variable(channels, "bias"));
        let (running_mean, running_var) = (&variable(channels, "mean"), &variable(channels, "variance"));
        let batch = Statistics::Batch { running_mean, running_var, momentum: 0.1 };
        let kernel = || nn::batch_norm(x, w, b, batch, Activation::Relu);
        let reference = || reference::batch_norm(x, w, b, batch, Activation::Relu);
        time_op(c, &format!("batch_norm_relu/{name}"), (rows * channels) as u64, &[x, w, b], kernel, reference);
    }
}

fn layer_norm(c: &mut Criterion) {
    for (name, rows, width) in [("vit_tiny", 32 * 197, 192), ("vit_compact", 128 * 65, 128)] {
        let (x, w, b) = (&variable((rows, width), name), &variable(width, "weight"), &variable(width, "bias"));
        let (kernel, reference) = (|| nn::layer_norm(x, w, b), || reference::layer_norm(x, w, b));
        time_op(c, &format!("layer_norm/{name}"), (rows * width) as u64, &[x, w, b], kernel, reference);
    }
}

criterion_group!(benches, batch_norm, layer_norm);
