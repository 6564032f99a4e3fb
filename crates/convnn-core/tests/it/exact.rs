//! The exact special cases of convolution: outputs and gradients of the ConvNN form, and what is refused.

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Conv2d, Conv2dConfig, Linear};
use convnn_core::{
    AttentionWeights, ConvNn2d, ConvNn2dConfig, ConvNnAttention, Grid, Kernel, Pass, Result, Similarity, Streams,
    backward, operator, random::streams, testing,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

const TOLERANCE: f64 = 1e-5;

fn config() -> Config {
    Config { cases: 64, rng_seed: RngSeed::Fixed(3), failure_persistence: None, ..Config::default() }
}

/// Numbers of the standard normal distribution that depend on `seed` and `name` alone.
fn normal(seed: u64, name: &str, shape: &[usize]) -> Var {
    let mut generator = Streams::new(seed).generator(name);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| streams::normal(&mut generator) as f32).collect();
    Var::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Compares the values of two functions and the gradients that a random cotangent sends to `vars`.
fn same(
    label: &str,
    vars: &[(&str, &Var)],
    actual: impl Fn() -> Result<Tensor>,
    expected: impl Fn() -> Result<Tensor>,
) {
    let (a, e) = (actual().unwrap(), expected().unwrap());
    testing::compare(&format!("{label}: output"), &a, &e, TOLERANCE).unwrap();
    let cotangent = normal(9, "cotangent", e.dims());
    let gradients = |y: Tensor| backward(&(y * cotangent.as_tensor()).unwrap().sum_all().unwrap()).unwrap();
    let (a, e) = (gradients(a), gradients(e));
    for (name, var) in vars {
        let (a, e) = (a.get(var).unwrap(), e.get(var).unwrap());
        testing::compare(&format!("{label}: gradient of {name}"), a, e, TOLERANCE).unwrap();
    }
}

/// The tokens of a map (B, C, H, W) through [`operator::convolution`], as a map again.
fn convolution(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (b, _, h, w) = x.dims4()?;
    let y = operator::convolution(&x.flatten_from(2)?.t()?.contiguous()?, Grid::new(h, w), weight, Some(bias))?;
    Ok(y.t()?.reshape((b, weight.dim(0)?, h, w))?)
}

/// A depthwise convolution as a sum of shifted maps.
fn depthwise(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (_, c, h, w) = x.dims4()?;
    let size = weight.dim(2)?;
    let padded = x.pad_with_zeros(2, size / 2, size / 2)?.pad_with_zeros(3, size / 2, size / 2)?;
    let mut y = x.zeros_like()?.broadcast_add(&bias.reshape((1, c, 1, 1))?)?;
    for (dy, dx) in (0..size * size).map(|i| (i / size, i % size)) {
        let factor = weight.narrow(2, dy, 1)?.narrow(3, dx, 1)?.reshape((1, c, 1, 1))?;
        y = (y + padded.narrow(2, dy, h)?.narrow(3, dx, w)?.broadcast_mul(&factor)?)?;
    }
    Ok(y)
}

proptest! {
    #![proptest_config(config())]

    /// Every odd kernel, every map, those smaller than the kernel included.
    #[test]
    fn convolutions(
        half in 0usize..4, h in 1usize..10, w in 1usize..10, c in 1usize..5, o in 1usize..5, b in 1usize..3,
        seed: u64,
    ) {
        let size = 2 * half + 1;
        let x = normal(seed, "x", &[b, c, h, w]);
        let (weight, bias) = (normal(seed, "weight", &[o, c, size, size]), normal(seed, "bias", &[o]));
        let layer = ConvNn2d::from_convolution(&weight, Some(&bias)).unwrap();
        let vars = [("x", &x), ("weight", &weight), ("bias", &bias)];
        let found = || layer.forward_t(&x, &Pass::evaluation());
        same("convolution", &vars, found, || convolution(&x, &weight, &bias));
        // Candle's convolution is another implementation altogether.
        let conv = Conv2dConfig { padding: half, ..Default::default() };
        let conv = Conv2d::new(weight.as_tensor().clone(), Some(bias.as_tensor().clone()), conv);
        let layer = ConvNn2d::from_conv2d(&conv).unwrap();
        let found = || layer.forward_t(&x, &Pass::evaluation());
        same("candle", &vars, found, || Ok(candle_core::Module::forward(&conv, x.as_tensor())?));
    }

    #[test]
    fn depthwise_convolutions(
        half in 0usize..4, h in 1usize..10, w in 1usize..10, c in 1usize..6, b in 1usize..3, seed: u64,
    ) {
        let size = 2 * half + 1;
        let x = normal(seed, "x", &[b, c, h, w]);
        let (weight, bias) = (normal(seed, "weight", &[c, 1, size, size]), normal(seed, "bias", &[c]));
        let conv = Conv2dConfig { padding: half, groups: c, ..Default::default() };
        let conv = Conv2d::new(weight.as_tensor().clone(), Some(bias.as_tensor().clone()), conv);
        let layer = ConvNn2d::from_conv2d(&conv).unwrap();
        prop_assert_eq!(layer.config().kernel, if c == 1 { Kernel::Standard } else { Kernel::Depthwise });
        let vars = [("x", &x), ("weight", &weight), ("bias", &bias)];
        same("depthwise", &vars, || layer.forward_t(&x, &Pass::evaluation()), || depthwise(&x, &weight, &bias));
    }

    /// Where the Euclidean form is accepted it is exact, and it is accepted where theory says so: the farthest token of
    /// the window is nearer than every token outside.
    #[test]
    fn euclidean_form(half in 0usize..4, h in 1usize..20, w in 1usize..20, seed: u64) {
        let size = 2 * half + 1;
        let (weight, bias) = (normal(seed, "weight", &[2, 3, size, size]), normal(seed, "bias", &[2]));
        let found = ConvNn2d::from_convolution_by_euclidean(&weight, Some(&bias), Grid::new(h, w));
        // Steps of both axes on a common scale: a step right is rows − 1, a step down columns − 1 of the padded map.
        let (right, down) = ((h + 2 * half - 1).pow(2), (w + 2 * half - 1).pow(2));
        let (corner, beyond) = (half * half * (right + down), (half + 1).pow(2));
        let holds = half == 0 || ((w < 2 || beyond * right > corner) && (h < 2 || beyond * down > corner));
        prop_assert_eq!(found.is_ok(), holds, "κ = {} on {}x{}: {:?}", size, h, w, found.err());
        if let Ok(layer) = found {
            prop_assert_eq!(layer.config().similarity, Similarity::Euclidean);
            let x = normal(seed, "x", &[2, 3, h, w]);
            let vars = [("x", &x), ("weight", &weight), ("bias", &bias)];
            let found = || layer.forward_t(&x, &Pass::evaluation());
            same("euclidean", &vars, found, || convolution(&x, &weight, &bias));
        }
    }
}

#[test]
fn the_papers_cases_of_the_euclidean_form() {
    let accepted = |size: usize, h, w| {
        let weight = normal(0, "weight", &[1, 1, size, size]);
        ConvNn2d::from_convolution_by_euclidean(&weight, None, Grid::new(h, w)).is_ok()
    };
    for side in [1, 2, 4, 8, 16, 32, 56] {
        assert!(accepted(3, side, side) && accepted(5, side, side), "{side}");
    }
    assert!(accepted(3, 12, 14) && !accepted(5, 12, 14) && !accepted(3, 16, 32) && !accepted(7, 32, 32));
    let weight = normal(0, "weight", &[4, 1, 5, 5]);
    assert!(ConvNn2d::from_depthwise_convolution_by_euclidean(&weight, None, Grid::new(6, 6)).is_ok());
    let line = ConvNn2d::from_depthwise_convolution_by_euclidean(&weight, None, Grid::new(6, 30)).unwrap_err();
    let line = line.to_string();
    assert!(line.starts_with("convolution: `similarity` is euclidean on a map of 6x30"), "{line}");
    assert!(line.contains("25 nearest of token (0, 0) include the one 0 down and 3 right"), "{line}");
}

#[test]
fn other_convolutions_are_refused() {
    let weight = |shape: &[usize]| normal(0, "weight", shape).as_tensor().clone();
    let refused = |shape: &[usize], change: fn(&mut Conv2dConfig)| {
        let mut config = Conv2dConfig { padding: shape[2] / 2, ..Default::default() };
        change(&mut config);
        ConvNn2d::from_conv2d(&Conv2d::new(weight(shape), None, config)).unwrap_err().to_string()
    };
    let line = refused(&[4, 4, 3, 3], |c| c.stride = 2);
    assert!(line.starts_with("conv2d: `stride` is 2; expected 1"), "{line}");
    let line = refused(&[4, 4, 3, 3], |c| c.dilation = 2);
    assert!(line.starts_with("conv2d: `dilation` is 2; expected 1"), "{line}");
    let line = refused(&[4, 4, 3, 3], |c| c.padding = 0);
    assert!(line.starts_with("conv2d: `padding` is 0; expected 1"), "{line}");
    let line = refused(&[4, 2, 3, 3], |c| c.groups = 2);
    assert!(line.starts_with("conv2d: `groups` is 2; expected 1, or 4"), "{line}");
    let line = refused(&[4, 4, 2, 2], |_| ());
    assert!(line.starts_with("convolution: `kernel_size` is 2; expected an odd number"), "{line}");
    let line = ConvNn2d::from_convolution(&weight(&[4, 4, 3, 5]), None).unwrap_err().to_string();
    assert!(line.contains("`weight` has shape [4, 4, 3, 5]; expected (O, C, κ, κ)"), "{line}");
    let line = ConvNn2d::from_depthwise_convolution(&weight(&[4, 4, 3, 3]), None).unwrap_err().to_string();
    assert!(line.contains("expected (C, 1, κ, κ)"), "{line}");
    let line = ConvNn2d::from_convolution(&weight(&[4, 4, 3, 3]), Some(&weight(&[5]))).unwrap_err().to_string();
    assert!(line.contains("`bias` has shape [5]; expected (4)"), "{line}");
}

/// Biases of the projections are kept, and gradients reach them.
#[test]
fn attention_with_biases() {
    let (b, n, d, heads) = (2, 5, 6, 2);
    let x = normal(1, "x", &[b, n, d]);
    let names = ["query", "key", "value", "out"];
    let weights = names.map(|name| normal(1, name, &[d, d]));
    let biases = names.map(|name| normal(2, name, &[d]));
    let [query, key, value, out] =
        [0, 1, 2, 3].map(|i| Linear::new(weights[i].as_tensor().clone(), Some(biases[i].as_tensor().clone())));
    let expected = || {
        let project = |linear: &Linear| {
            let y = candle_core::Module::forward(linear, x.as_tensor())?;
            y.reshape((b, n, heads, d / heads))?.transpose(1, 2)?.contiguous()
        };
        let (q, k, v) = (project(&query)?, project(&key)?, project(&value)?);
        let scores = (q.matmul(&k.t()?.contiguous()?)? * (1.0 / ((d / heads) as f64).sqrt()))?;
        let y = candle_nn::ops::softmax(&scores, 3)?.matmul(&v)?;
        let y = y.transpose(1, 2)?.reshape((b, n, d))?;
        Ok(candle_core::Module::forward(&out, &y)?)
    };
    let weights_of =
        AttentionWeights { query: query.clone(), key: key.clone(), value: value.clone(), out: out.clone() };
    let layer = ConvNnAttention::from_attention(&weights_of, heads, n).unwrap();
    let mut vars = vec![("x", &x)];
    // A bias of the keys moves all scores of a row alike: its gradient is 0 up to rounding.
    vars.extend(names.into_iter().zip(&weights).chain(names.into_iter().zip(&biases)));
    same("attention with biases", &vars, || layer.forward_t(&x, &Pass::evaluation()), expected);
}

#[test]
fn attention_of_other_shapes_is_refused() {
    let matrix = |shape: &[usize]| normal(0, "weight", shape).as_tensor().clone();
    let linear = |shape: &[usize]| Linear::new(matrix(shape), None);
    let square = || linear(&[6, 6]);
    let weights = AttentionWeights { query: square(), key: square(), value: linear(&[6, 5]), out: square() };
    let line = ConvNnAttention::from_attention(&weights, 2, 5).unwrap_err().to_string();
    assert!(line.contains("`value` has shape [6, 5]; expected (6, 6)"), "{line}");
    let line = ConvNnAttention::from_kvt_attention(&linear(&[12, 6]), &square(), 2, 5).unwrap_err().to_string();
    assert!(line.contains("`qkv` has shape [12, 6]; expected (3D, D)"), "{line}");
    let line = ConvNnAttention::from_kvt_attention(&linear(&[18, 6]), &square(), 4, 5).unwrap_err().to_string();
    assert!(line.contains("`heads` is 4; expected a divisor of the width, 6"), "{line}");
    let line = ConvNnAttention::from_kvt_attention(&linear(&[18, 6]), &square(), 2, 0).unwrap_err().to_string();
    assert!(line.contains("`neighbors` is 0; expected at least 1"), "{line}");
    let layer = ConvNnAttention::from_kvt_attention(&linear(&[18, 6]), &square(), 2, 5).unwrap();
    let line = layer.forward_t(&matrix(&[1, 4, 6]), &Pass::evaluation()).unwrap_err().to_string();
    assert!(line.contains("`neighbors` is 5, but there are only 4 candidates"), "{line}");
}

/// The option `kernel` of the 2-D layer, standard by default.
#[test]
fn the_kernel_of_the_2d_layer() {
    let parse = |text: &str| serde_json::from_str::<ConvNn2dConfig>(text).unwrap();
    assert_eq!(parse("{}").kernel, Kernel::Standard);
    let config = parse(r#"{"neighbors": 3, "kernel": "depthwise"}"#);
    assert_eq!(parse(&serde_json::to_string(&config).unwrap()), config);
    let parameters = convnn_core::Parameters::new(&Streams::new(0), DType::F32, &Device::Cpu);
    let layer = ConvNn2d::new(4, 4, &config, parameters.builder()).unwrap();
    assert_eq!(layer.weight().dims(), [4, 1, 3]);
    let x = normal(0, "x", &[2, 4, 5, 6]);
    assert_eq!(layer.forward_t(&x, &Pass::evaluation()).unwrap().dims(), [2, 4, 5, 6]);
    let refused = |outputs: usize, text: &str| {
        let parameters = convnn_core::Parameters::new(&Streams::new(0), DType::F32, &Device::Cpu);
        ConvNn2d::new(4, outputs, &parse(text), parameters.builder()).unwrap_err().to_string()
    };
    let line = refused(6, r#"{"kernel": "depthwise"}"#);
    assert!(line.contains("`kernel` is depthwise from 4 to 6 channels"), "{line}");
    let line = refused(4, r#"{"kernel": "depthwise_separable"}"#);
    assert!(line.contains("`kernel` is depthwise_separable; expected standard or depthwise"), "{line}");
}
