//! Optimizers and the gradient norm on one large parameter, beside a copy of it: the bound that memory sets.

use super::variable;
use candle_core::Tensor;
use convnn_core::optim::{self, AdamW, AdamWConfig, Momentum, Sgd, SgdConfig};
use convnn_core::{backward, reference};
use criterion::{Criterion, Throughput, criterion_group};
use std::{hint::black_box, time::Duration};

/// Elements of VGG's second classifier weight.
const LEN: usize = 4096 * 4096;

fn optimizers(c: &mut Criterion) {
    let [p, g] = ["p", "g"].map(|name| variable(LEN, name));
    let gradients = backward(&(p.as_tensor() * g.as_tensor()).unwrap().sum_all().unwrap()).unwrap();
    let vars = || vec![("p".to_owned(), p.clone())];
    let mut adamw = AdamW::named(vars(), AdamWConfig::default()).unwrap();
    let momentum = Momentum::Nesterov(0.9);
    let mut sgd = Sgd::named(vars(), SgdConfig { momentum, ..SgdConfig::default() }).unwrap();
    let g: [&Tensor; 1] = [&g];
    let (found, expected) = (optim::gradient_norm(&g).unwrap(), reference::gradient_norm(&g).unwrap());
    assert!((found / expected - 1.0).abs() < 1e-9);

    let mut group = c.benchmark_group("optimizer");
    group.sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    let bytes = |arrays: usize| Throughput::Bytes((arrays * LEN * 4) as u64);
    // The gradient is read twice: for its norm and for the update.
    group.throughput(bytes(8));
    group.bench_function("adamw", |b| b.iter(|| adamw.update(&gradients).unwrap()));
    group.throughput(bytes(6));
    group.bench_function("sgd", |b| b.iter(|| sgd.update(&gradients).unwrap()));
    group.throughput(bytes(1));
    group.bench_function("gradient_norm kernel", |b| b.iter(|| black_box(optim::gradient_norm(&g).unwrap())));
    group.bench_function("gradient_norm reference", |b| b.iter(|| black_box(reference::gradient_norm(&g).unwrap())));
    group.throughput(bytes(2));
    let (from, mut to) = (vec![1f32; LEN], vec![0f32; LEN]);
    group.bench_function("copy on one thread", |b| b.iter(|| black_box(&mut to).copy_from_slice(black_box(&from))));
    group.finish();
}

criterion_group!(benches, optimizers);
