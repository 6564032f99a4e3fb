//! Select, score, aggregate, convolve: the layers of VGG-11 on 32×32 images, of ViT-Tiny, and one large image.

use super::{time_op, variable};
use candle_core::{Device, Tensor};
use convnn_core::operator::{
    Neighbors, Rho, Score, Selection, Weights, aggregate as aggregate_op, convolution as convolution_op, score,
    select as select_op, stencil,
};
use convnn_core::{Grid, Similarity, reference};
use criterion::{Criterion, Throughput, criterion_group};

/// Name, B, N, D, K.
const SELECT: &[(&str, usize, usize, usize, usize)] = &[
    ("b32_c3_n1156_k9", 32, 1156, 3, 9),
    ("b32_c64_n324_k9", 32, 324, 64, 9),
    ("b32_c192_n197_k9", 32, 197, 192, 9),
    ("b1_c64_n16384_k9", 1, 16384, 64, 9),
    ("b128_c128_n64_k9", 128, 64, 128, 9),
    ("b128_c512_n4_k4", 128, 4, 512, 4),
];
/// Name, B, N, C, K, O.
const AGGREGATE: &[(&str, usize, usize, usize, usize, usize)] = &[
    ("b32_c64_n324_k9_o128", 32, 324, 64, 9, 128),
    ("b32_c256_n100_k9_o256", 32, 100, 256, 9, 256),
    ("b128_c3_n1024_k9_o32", 128, 1024, 3, 9, 32),
    ("b128_c64_n256_k9_o64", 128, 256, 64, 9, 64),
    ("b128_c512_n16_k9_o256", 128, 16, 512, 9, 256),
    ("b128_c512_n4_k9_o256", 128, 4, 512, 9, 256),
];
/// Name, B, side, C, O.
const CONVOLUTION: &[(&str, usize, usize, usize, usize)] = &[
    ("vgg11_0", 128, 32, 3, 64),
    ("vgg11_4", 128, 16, 64, 128),
    ("vgg11_8", 128, 8, 128, 256),
    ("vgg11_11", 128, 8, 256, 256),
    ("vgg11_15", 128, 4, 256, 512),
    ("vgg11_18", 128, 4, 512, 512),
    ("vgg11_22", 128, 2, 512, 512),
];

fn neighbors(b: usize, n: usize, k: usize) -> Neighbors {
    let rows: Vec<u32> = (0..b * n * k).map(|i| (i * 7919 % n) as u32).collect();
    Neighbors::new(&Tensor::from_vec(rows, (b, n, k), &Device::Cpu).unwrap(), n).unwrap()
}

fn select(c: &mut Criterion) {
    let mut group = c.benchmark_group("select");
    for &(name, b, n, d, k) in SELECT {
        let x = variable((b, n, d), name);
        let own = Some((0..n as u32).collect());
        let selection = Selection { neighbors: k, own, ..Default::default() };
        // Rounding may order equal scores otherwise, so that the first image alone is compared, and allows a few.
        let first = x.narrow(0, 0, 1).unwrap().narrow(1, 0, n.min(1200)).unwrap();
        let check = Selection { own: Some((0..n.min(1200) as u32).collect()), ..selection.clone() };
        let rows = |neighbors: Neighbors| neighbors.index().flatten_all().unwrap().to_vec1::<u32>().unwrap();
        let found = rows(select_op(&first, &first, &check).unwrap());
        let expected = rows(reference::select(&first, &first, &check).unwrap());
        let other = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
        assert!(other * 1000 <= found.len(), "{name}: {other} of {} differ", found.len());
        group.throughput(Throughput::Elements((b * n * n) as u64));
        group.bench_function(name, |b| b.iter(|| select_op(&x, &x, &selection).unwrap()));
    }
    group.finish();
}

fn aggregate(c: &mut Criterion) {
    for &(name, b, n, channels, k, o) in AGGREGATE {
        let (v, w, bias) = (&variable((b, n, channels), name), &variable((o, channels, k), "w"), &variable(o, "b"));
        let (neighbors, weights) = (&neighbors(b, n, k), &Weights::Standard(w.as_tensor().clone()));
        let multiply_adds = (b * n * channels * k * o) as u64;
        let kernel = || aggregate_op(v, neighbors, &Rho::One, weights, Some(bias));
        let plain = || reference::aggregate(v, neighbors, &Rho::One, weights, Some(bias));
        time_op(c, &format!("aggregate/{name}"), multiply_adds, &[v, w, bias], kernel, plain);
    }
    let (v, w, rho) = (&variable((32, 197, 192), "v"), &variable((192, 1, 9), "w"), &variable((32, 197, 9), "rho"));
    let neighbors = &neighbors(32, 197, 9);
    let (of_rho, weights) = (&Rho::Weights(rho.as_tensor().clone()), &Weights::Depthwise(w.as_tensor().clone()));
    let kernel = || aggregate_op(v, neighbors, of_rho, weights, None);
    let plain = || reference::aggregate(v, neighbors, of_rho, weights, None);
    time_op(c, "aggregate_depthwise/vit_tiny", 32 * 197 * 192 * 9, &[v, w, rho], kernel, plain);
    let (q, form) = (&variable((32, 197, 192), "q"), Score::of_attention(Similarity::Dot, 192));
    let kernel = || score(q, v, neighbors, form);
    let plain = || reference::score(q, v, neighbors, form);
    time_op(c, "score/vit_tiny", 32 * 197 * 192 * 9, &[q, v], kernel, plain);
}

fn convolution(c: &mut Criterion) {
    for &(name, b, side, channels, o) in CONVOLUTION {
        let (x, w) = (&variable((b, side * side, channels), name), &variable((o, channels, 3, 3), "w"));
        let (bias, grid) = (&variable(o, "b"), Grid::new(side, side));
        let kernel = || convolution_op(x, grid, w, Some(bias));
        let window = stencil(grid, 3, &Device::Cpu).unwrap();
        let weights = Weights::Standard(w.as_tensor().clone());
        let plain = || reference::aggregate(x, &window, &Rho::One, &weights, Some(bias));
        let multiply_adds = (b * side * side * channels * o * 9) as u64;
        time_op(c, &format!("convolution/{name}"), multiply_adds, &[x, w, bias], kernel, plain);
    }
}

criterion_group!(benches, select, aggregate, convolution);
