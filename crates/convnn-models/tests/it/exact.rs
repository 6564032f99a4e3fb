//! Attention and convolution layers against their ConvNN form: outputs and gradients.

use crate::{mixer, normal, parameters};
use candle_core::{DType, Tensor, Var};
use convnn_core::{ConvNn2d, ConvNnAttention, Grid, Parameters, Pass, Result, backward, testing};
use convnn_models::layer::{Conv2dConfig, Layer2d, Slot};
use convnn_models::mixer::{KvtAttentionConfig, MultiHeadAttentionConfig};
use convnn_models::{LayerConfig, MixerConfig, Model, ModelConfig, VggConfig, VitConfig};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::any::Any;
use std::sync::Arc;

const TOLERANCE: f64 = 1e-5;

fn config() -> ProptestConfig {
    ProptestConfig { cases: 48, rng_seed: RngSeed::Fixed(5), failure_persistence: None, ..Default::default() }
}

/// Gives every parameter numbers of the standard normal distribution, scaled to its inputs.
fn randomise(parameters: &Parameters, seed: u64) {
    for (name, var) in parameters.all() {
        let inputs = var.elem_count() / var.dim(0).unwrap();
        let values = normal(&format!("{seed}/{name}"), var.dims(), var.dtype());
        var.set(&(values / (inputs as f64).sqrt()).unwrap()).unwrap();
    }
}

/// Compares the values of two functions and the gradients that a random cotangent sends to `x` and the parameters.
fn same(
    x: &Var,
    parameters: &Parameters,
    actual: impl Fn(&Tensor) -> Result<Tensor>,
    expected: impl Fn(&Tensor) -> Result<Tensor>,
) {
    let (a, e) = (actual(x).unwrap(), expected(x).unwrap());
    testing::compare("output", &a, &e, TOLERANCE).unwrap();
    let cotangent = normal("cotangent", e.dims(), e.dtype());
    let gradients = |y: Tensor| backward(&(y * &cotangent).unwrap().sum_all().unwrap()).unwrap();
    let (a, e) = (gradients(a), gradients(e));
    testing::compare("gradient of x", a.get(x).unwrap(), e.get(x).unwrap(), TOLERANCE).unwrap();
    for (name, var) in parameters.trainable() {
        let (a, e) = (a.get(&var).unwrap(), e.get(&var).unwrap());
        testing::compare(&format!("gradient of {name}"), a, e, TOLERANCE).unwrap();
    }
}

fn mixer_equals_its_conv_nn_form(config: &MixerConfig, batch: usize, tokens: usize, dim: usize, seed: u64) {
    let parameters = parameters(DType::F32);
    let mixer = mixer(config, tokens, dim, &parameters);
    randomise(&parameters, seed);
    let form = mixer.to_conv_nn(tokens).unwrap().unwrap();
    assert!((&*form as &dyn Any).is::<ConvNnAttention>());
    let x = Var::from_tensor(&normal(&format!("{seed}/x"), &[batch, tokens, dim], DType::F32)).unwrap();
    let pass = Pass::evaluation();
    same(&x, &parameters, |x| form.forward_t(x, &pass), |x| mixer.forward_t(x, &pass));
}

/// A layer of kind `conv2d`.
fn convolution(
    kernel_size: usize,
    in_channels: usize,
    out_channels: usize,
    grid: Grid,
    parameters: &Parameters,
) -> Arc<dyn Layer2d> {
    let config = LayerConfig::from(Conv2dConfig { kernel_size });
    let slot = Slot { index: 0, in_channels, out_channels, grid };
    config.options().build(&slot, parameters.builder()).unwrap()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn attention(batch in 1usize..4, tokens in 1usize..24, heads in 1usize..5, width in 1usize..9, seed: u64) {
        let config = MultiHeadAttentionConfig { heads, dropout: 0.1 }.into();
        mixer_equals_its_conv_nn_form(&config, batch, tokens, heads * width, seed);
    }

    #[test]
    fn kvt_attention(
        batch in 1usize..4, tokens in 1usize..24, heads in 1usize..5, width in 1usize..9, share in 0.0..1.0, seed: u64,
    ) {
        let neighbors = 1 + (share * tokens as f64) as usize;
        let config = KvtAttentionConfig { heads, neighbors, dropout: 0.1 }.into();
        mixer_equals_its_conv_nn_form(&config, batch, tokens, heads * width, seed);
    }

    #[test]
    fn convolutions(half in 0usize..3, side in 1usize..8, inputs in 1usize..5, outputs in 1usize..5, seed: u64) {
        let (parameters, grid, pass) = (parameters(DType::F32), Grid::new(side, side + 1), Pass::evaluation());
        let layer = convolution(2 * half + 1, inputs, outputs, grid, &parameters);
        randomise(&parameters, seed);
        let form = layer.to_conv_nn().unwrap().unwrap();
        assert!((&*form as &dyn Any).is::<ConvNn2d>());
        let x = Var::from_tensor(&normal(&format!("{seed}/x"), &[2, grid.tokens(), inputs], DType::F32)).unwrap();
        same(
            &x,
            &parameters,
            |x| form.forward_tokens(x, grid, &pass),
            |x| layer.forward_tokens(x, grid, &pass),
        );
    }
}

#[test]
fn models() {
    let vgg = ModelConfig::Vgg {
        model: VggConfig {
            hidden: 32,
            image: 16,
            features: VggConfig::default().features[..6].to_vec(),
            ..Default::default()
        },
        layer: Conv2dConfig::default().into(),
    };
    let vit = |layer: MixerConfig| ModelConfig::Vit {
        model: VitConfig { image: 16, patch: 4, dim: 24, mlp: 48, layers: 3, ..Default::default() },
        layer,
    };
    let attention = vit(MultiHeadAttentionConfig { heads: 3, dropout: 0.1 }.into());
    let kvt = vit(KvtAttentionConfig { heads: 2, neighbors: 5, dropout: 0.1 }.into());
    for config in [vgg, attention, kvt] {
        let parameters = parameters(DType::F32);
        let model = Model::new(&config, parameters.builder()).unwrap();
        let form = model.to_conv_nn().unwrap();
        let images = Var::from_tensor(&normal("images", &[3, 3, 16, 16], DType::F32)).unwrap();
        let pass = Pass::evaluation();
        same(&images, &parameters, |x| form.forward_t(x, &pass), |x| model.forward_t(x, &pass));
    }
}

#[test]
fn an_even_kernel_is_refused() {
    let layer = convolution(2, 3, 4, Grid::new(5, 5), &parameters(DType::F32));
    let line = layer.to_conv_nn().unwrap_err().to_string();
    assert!(line.starts_with("convolution: `kernel_size` is 2; expected an odd number"), "{line}");
}
