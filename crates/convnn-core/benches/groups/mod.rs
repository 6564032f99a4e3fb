//! One file for each group of operations, and what they share.
#![allow(clippy::unwrap_used, missing_docs)]

pub mod activations;
pub mod attention;
pub mod linear;
pub mod neighbors;
pub mod norms;
pub mod optimizers;
pub mod pooling;

use candle_core::{DType, Device, Shape, Tensor, Var};
use convnn_core::{Result, Streams, backward, random::streams::uniform, testing};
use criterion::{Criterion, Throughput};
use std::{hint::black_box, time::Duration};

/// A variable with even random numbers from −1 to 1.
pub fn variable(shape: impl Into<Shape>, name: &str) -> Var {
    let shape = shape.into();
    let mut generator = Streams::new(0).generator(name);
    let values: Vec<f32> = (0..shape.elem_count()).map(|_| uniform(&mut generator) as f32 * 2.0 - 1.0).collect();
    Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
}

/// Compares kernel and reference, then times both, forward alone and with the gradients of `inputs`.
///
/// `label` is `op/shape`; `elements` what the throughput counts.
pub fn time_op(
    criterion: &mut Criterion,
    label: &str,
    elements: u64,
    inputs: &[&Var],
    kernel: impl Fn() -> Result<Tensor>,
    reference: impl Fn() -> Result<Tensor>,
) {
    let (y, expected) = (kernel().unwrap(), reference().unwrap());
    testing::compare(label, &y, &expected, 1e-4).unwrap();
    // Weighed by numbers that differ, since the gradient of a plain sum of a softmax is zero.
    let weights = variable(y.shape().clone(), "weights").into_inner().detach();
    let (found, expected) =
        (backward(&(y * &weights).unwrap()).unwrap(), backward(&(expected * weights).unwrap()).unwrap());
    for input in inputs {
        let input = input.as_tensor();
        let distance = distance(found.get(input).unwrap(), expected.get(input).unwrap());
        assert!(distance < 1e-3, "{label}: the gradients differ by {distance:e}");
    }
    let mut group = criterion.benchmark_group(label);
    group.sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    group.throughput(Throughput::Elements(elements));
    group.bench_function("kernel forward", |b| b.iter(|| black_box(kernel().unwrap())));
    group.bench_function("kernel both", |b| b.iter(|| black_box(backward(&kernel().unwrap()).unwrap())));
    group.bench_function("reference forward", |b| b.iter(|| black_box(reference().unwrap())));
    group.bench_function("reference both", |b| b.iter(|| black_box(backward(&reference().unwrap()).unwrap())));
    group.finish();
}

/// ‖a − b‖ / ‖b‖. Among millions of values some lie so near the kink of a ReLU that rounding decides their gradient, so
/// that a comparison element by element would fail on them; NaN fails all the same.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let square =
        |t: Tensor| t.to_dtype(DType::F64).unwrap().sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
    (square((a - b).unwrap()) / square(b.clone())).sqrt()
}
