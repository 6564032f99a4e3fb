//! Optimizer steps and the gradient norm on one large parameter, beside a copy of it: the roof of memory.

use super::variable;
use candle_core::{Tensor, Var};
use convnn_core::{check, ops};
use criterion::{Criterion, Throughput, criterion_group};
use std::{hint::black_box, time::Duration};

/// Elements of VGG's second classifier weight.
const LEN: usize = 4096 * 4096;

const STEP: ops::AdamWStep =
    ops::AdamWStep { lr: 1e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 1e-2, step: 1, grad_scale: 0.5 };
const SGD: ops::SgdStep =
    ops::SgdStep { lr: 1e-4, momentum: ops::Momentum::Nesterov(0.9), weight_decay: 1e-2, grad_scale: 0.5 };

fn optimizers(c: &mut Criterion) {
    let [p, g, q] = ["p", "g", "p"].map(|name| variable(LEN, name));
    let [mut of_p, mut of_q] = [&p, &q].map(|v| ops::Moments::zeros(v).unwrap());
    ops::adamw_step(&p, &g, &mut of_p, &STEP).unwrap();
    ops::adamw_step_reference(&q, &g, &mut of_q, &STEP).unwrap();
    check::compare("adamw", &p, &q, 1e-6).unwrap();
    let (mut v, mut w): (Option<Var>, Option<Var>) = (None, None);
    ops::sgd_step(&p, &g, &mut v, &SGD).unwrap();
    ops::sgd_step_reference(&q, &g, &mut w, &SGD).unwrap();
    check::compare("sgd", &p, &q, 1e-6).unwrap();
    let gradients: [&Tensor; 1] = [&g];
    let (found, expected) =
        (ops::gradient_norm(&gradients).unwrap(), ops::gradient_norm_reference(&gradients).unwrap());
    assert!((found / expected - 1.0).abs() < 1e-9);

    let mut group = c.benchmark_group("optimizer");
    group.sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    let bytes = |arrays: usize| Throughput::Bytes((arrays * LEN * 4) as u64);
    group.throughput(bytes(7));
    group.bench_function("adamw kernel", |b| b.iter(|| ops::adamw_step(&p, &g, &mut of_p, &STEP).unwrap()));
    group
        .bench_function("adamw reference", |b| b.iter(|| ops::adamw_step_reference(&p, &g, &mut of_p, &STEP).unwrap()));
    group.throughput(bytes(5));
    group.bench_function("sgd kernel", |b| b.iter(|| ops::sgd_step(&p, &g, &mut v, &SGD).unwrap()));
    group.bench_function("sgd reference", |b| b.iter(|| ops::sgd_step_reference(&p, &g, &mut v, &SGD).unwrap()));
    group.throughput(bytes(1));
    group.bench_function("gradient_norm kernel", |b| b.iter(|| black_box(ops::gradient_norm(&gradients).unwrap())));
    group.bench_function("gradient_norm reference", |b| {
        b.iter(|| black_box(ops::gradient_norm_reference(&gradients).unwrap()))
    });
    group.throughput(bytes(2));
    let (from, mut to) = (vec![1f32; LEN], vec![0f32; LEN]);
    group.bench_function("copy on one thread", |b| b.iter(|| black_box(&mut to).copy_from_slice(black_box(&from))));
    group.finish();
}

criterion_group!(benches, optimizers);
