#![allow(missing_docs, clippy::unwrap_used)]
use candle_core::{DType, Device, Shape, Tensor, Var};
use convnn_core::{Grid, Result, Streams, backward, ops::{self, *}};
use std::time::Instant;
fn var(shape: impl Into<Shape>, s: f64) -> Var { Var::rand_f64(-1.0 * s, s, shape, DType::F32, &Device::Cpu).unwrap() }
fn cpu() -> f64 {
    std::fs::read_dir("/proc/self/task").unwrap().map(|d| std::fs::read_to_string(d.unwrap().path().join("schedstat")).unwrap().split(' ').next().unwrap().parse::<f64>().unwrap()).sum::<f64>() * 1e-9
}
fn best<R>(mut f: impl FnMut() -> R) -> f64 {
    let mut b = f64::INFINITY;
    let start = Instant::now();
    let mut n = 0;
    let t = Instant::now(); std::hint::black_box(f());
    let inner = ((2e-3 / t.elapsed().as_secs_f64()) as usize).clamp(1, 1000);
    while n < 5 || start.elapsed().as_secs_f64() < 0.6 { let t = cpu(); for _ in 0..inner { std::hint::black_box(f()); } b = b.min((cpu() - t) / inner as f64); n += 1; }
    b * 1e3
}
fn op(filter: &str, name: &str, n: usize, k: impl Fn() -> Result<Tensor>, r: impl Fn() -> Result<Tensor>) {
    if !name.contains(filter) { return; }
    let f = best(|| k().unwrap());
    let b = best(|| backward(&k().unwrap()).unwrap());
    let y = k().unwrap();
    let ones = best(|| y.ones_like().unwrap());
    let bwd = b - f - ones;
    let rf = best(|| r().unwrap());
    let rb = best(|| r().unwrap().backward().unwrap());
    let gb = |ms: f64, arrays: usize| n as f64 * 4.0 * arrays as f64 / ms / 1e6;
    println!("{name:32} fwd {f:8.3} ms {:6.1} GB/s | bwd {bwd:8.3} ms {:6.1} GB/s | ref fwd {:5.1}x both {:5.1}x", gb(f, 2), gb(bwd, 3), rf / f, rb / b);
}
fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let filter = filter.as_str();
    for (rows, w) in [(128, 4096), (6304, 768)] {
        let x = var((rows, w), 3.0);
        op(filter, &format!("relu {rows}x{w}"), rows * w, || relu(&x), || relu_reference(&x));
        op(filter, &format!("gelu {rows}x{w}"), rows * w, || gelu(&x), || gelu_reference(&x));
        let g = || Streams::new(0).generator("d");
        op(filter, &format!("dropout {rows}x{w}"), rows * w, || ops::dropout(&x, 0.1, &mut g()), || dropout_reference(&x, 0.1, &mut g()));
    }
    for (rows, w) in [(6304, 197), (6304, 9)] {
        let x = var((rows, w), 3.0);
        op(filter, &format!("softmax {rows}x{w}"), rows * w, || softmax(&x), || softmax_reference(&x));
    }
    for (rows, w) in [(128, 10), (128, 100)] {
        let x = var((rows, w), 3.0);
        let t = Tensor::from_vec((0..rows as u32).map(|i| i % w as u32).collect::<Vec<_>>(), rows, &Device::Cpu).unwrap();
        op(filter, &format!("cross_entropy {rows}x{w}"), rows * w, || cross_entropy(&x, &t), || cross_entropy_reference(&x, &t));
    }
    for (rows, w) in [(6304, 192), (6304, 768)] {
        let (x, g, b) = (var((rows, w), 1.0), var(w, 1.0), var(w, 1.0));
        op(filter, &format!("layer_norm {rows}x{w}"), rows * w, || layer_norm(&x, &g, &b), || layer_norm_reference(&x, &g, &b));
    }
    for (rows, w) in [(128 * 1024, 64), (128 * 256, 128), (128 * 64, 256), (512, 512)] {
        let (x, g, b) = (var((rows, w), 1.0), var(w, 1.0), var(w, 1.0));
        let (running_mean, running_var) = (&var(w, 1.0), &Var::ones(w, DType::F32, &Device::Cpu).unwrap());
        let s = Statistics::Batch { running_mean, running_var };
        op(filter, &format!("batch_norm {rows}x{w}"), rows * w, || batch_norm(&x, &g, &b, s, Activation::Relu), || batch_norm_reference(&x, &g, &b, s, Activation::Relu));
        let s = Statistics::Running { mean: running_mean, variance: running_var };
        op(filter, &format!("batch_norm_eval {rows}x{w}"), rows * w, || batch_norm(&x, &g, &b, s, Activation::Relu), || batch_norm_reference(&x, &g, &b, s, Activation::Relu));
    }
    for (b, s, c) in [(128, 32, 64), (128, 8, 256), (128, 2, 512)] {
        let x = var((b, s * s, c), 1.0);
        let g = Grid::new(s, s);
        op(filter, &format!("max_pool {s}x{s}x{c}"), b * s * s * c, || Ok(max_pool_2x2(&x, g)?.0), || Ok(max_pool_2x2_reference(&x, g)?.0));
    }
    for (r, i, o) in [(128, 512, 4096), (128, 4096, 4096), (6304, 192, 192), (6304, 192, 576), (6304, 192, 768), (6304, 768, 192), (32, 192, 10), (512, 512, 512), (128, 4096, 10)] {
        let name = format!("linear {r}x{i}->{o}");
        if !name.contains(filter) { continue; }
        let (x, w, b) = (var((r, i), 1.0), var((o, i), 1.0), var(o, 1.0));
        let fl = 2e-6 * (r * i * o) as f64;
        let f = best(|| linear(&x, &w, Some(&b)).unwrap());
        let xd = x.as_detached_tensor();
        let (wd, bd) = (w.as_detached_tensor(), b.as_detached_tensor());
        let y = linear(&x, &w, Some(&b)).unwrap();
        let ones = best(|| y.ones_like().unwrap());
        let dw = best(|| backward(&linear(&xd, &w, Some(&bd)).unwrap()).unwrap()) - f - ones;
        let db = best(|| backward(&linear(&xd, &wd, Some(&b)).unwrap()).unwrap()) - f - ones;
        let dx = best(|| backward(&linear(&x, &wd, Some(&bd)).unwrap()).unwrap()) - f - ones;
        let rf = best(|| linear_reference(&x, &w, Some(&b)).unwrap());
        println!("{name:32} fwd {f:7.3} ms {:6.1} GF/s | dx {dx:7.3} ms {:6.1} | dw {dw:7.3} ms {:6.1} | db {db:6.3} | ref fwd {rf:7.3} {:6.1}", fl / f, fl / dx, fl / dw, fl / rf);
    }
    if "repeated".contains(filter) {
        let (x, w, b) = (var((128, 512), 1.0), var((4096, 512 * 49), 1.0), var(4096, 1.0));
        let f = best(|| repeated_linear(&x, &w, Some(&b), 49).unwrap());
        let both = best(|| backward(&repeated_linear(&x, &w, Some(&b), 49).unwrap()).unwrap());
        println!("repeated fwd {f:.2} ms, {:.1} GB/s; bwd {:.2} ms", 411.0 / f, both - f);
    }
    if "optimizer".contains(filter) {
        let n = 1 << 24;
        let (p, g) = (var(n, 1.0), var(n, 1.0));
        let mut m = Moments::zeros(&p).unwrap();
        let step = AdamWStep { lr: 1e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 1e-2, step: 1, grad_scale: 0.5 };
        let t = best(|| adamw_step(&p, &g, &mut m, &step).unwrap());
        println!("adamw {t:.2} ms {:.1} GB/s", 7.0 * n as f64 * 4e-6 / t);
        let t = best(|| adamw_step_reference(&p, &g, &mut m, &step).unwrap());
        println!("adamw ref {t:.2} ms");
        let t = best(|| gradient_norm(&[&g]).unwrap());
        println!("norm {t:.2} ms {:.1} GB/s", n as f64 * 4e-6 / t);
        let (a, mut b) = (vec![1f32; n], vec![0f32; n]);
        let t = best(|| b.copy_from_slice(&a));
        println!("copy 1 thread {t:.2} ms {:.1} GB/s", 2.0 * n as f64 * 4e-6 / t);
        use rayon::prelude::*;
        let t = best(|| b.par_chunks_mut(16384).zip(a.par_chunks(16384)).for_each(|(b, a)| b.copy_from_slice(a)));
        println!("copy threads {t:.2} ms {:.1} GB/s", 2.0 * n as f64 * 4e-6 / t);
    }
}
