//! Attention and convolution layers against their ConvNN form: outputs and gradients.

use crate::{normal, parameters};
use candle_core::{DType, Tensor, Var};
use convnn_core::{Parameters, Pass, Result, backward, check};
use convnn_models::config::{ConvolutionConfig, KvtAttentionConfig, MultiHeadAttentionConfig, VggConfig, VitConfig};
use convnn_models::{Layer, LayerConfig, Mixer, MixerConfig, Model, ModelConfig};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

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
    check::compare("output", &a, &e, TOLERANCE).unwrap();
    let cotangent = normal("cotangent", e.dims(), e.dtype());
    let gradients = |y: Tensor| backward(&(y * &cotangent).unwrap().sum_all().unwrap()).unwrap();
    let (a, e) = (gradients(a), gradients(e));
    check::compare("gradient of x", a.get(x).unwrap(), e.get(x).unwrap(), TOLERANCE).unwrap();
    for (name, var) in parameters.trainable() {
        let (a, e) = (a.get(&var).unwrap(), e.get(&var).unwrap());
        check::compare(&format!("gradient of {name}"), a, e, TOLERANCE).unwrap();
    }
}

fn mixer_equals_its_conv_nn_form(config: &MixerConfig, batch: usize, tokens: usize, dim: usize, seed: u64) {
    let parameters = parameters(DType::F32);
    let mixer = Mixer::new(dim, config, parameters.builder()).unwrap();
    randomise(&parameters, seed);
    let form = mixer.to_conv_nn(tokens).unwrap();
    assert!(matches!(form, Mixer::ConvNnAttention(_)));
    let x = Var::from_tensor(&normal(&format!("{seed}/x"), &[batch, tokens, dim], DType::F32)).unwrap();
    let pass = Pass::evaluation();
    same(&x, &parameters, |x| form.forward(x, &pass), |x| mixer.forward(x, &pass));
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn attention(batch in 1usize..4, tokens in 1usize..24, heads in 1usize..5, width in 1usize..9, seed: u64) {
        let config = MixerConfig::MultiHeadAttention(MultiHeadAttentionConfig { heads, dropout: 0.1 });
        mixer_equals_its_conv_nn_form(&config, batch, tokens, heads * width, seed);
    }

    #[test]
    fn kvt_attention(
        batch in 1usize..4, tokens in 1usize..24, heads in 1usize..5, width in 1usize..9, share in 0.0..1.0, seed: u64,
    ) {
        let neighbors = 1 + (share * tokens as f64) as usize;
        let config = MixerConfig::KvtAttention(KvtAttentionConfig { heads, neighbors, dropout: 0.1 });
        mixer_equals_its_conv_nn_form(&config, batch, tokens, heads * width, seed);
    }

    #[test]
    fn convolutions(half in 0usize..3, side in 1usize..8, inputs in 1usize..5, outputs in 1usize..5, seed: u64) {
        let config = LayerConfig::Conv2d(ConvolutionConfig { kernel_size: 2 * half + 1 });
        let parameters = parameters(DType::F32);
        let layer = Layer::new(&config, inputs, outputs, parameters.builder()).unwrap();
        randomise(&parameters, seed);
        let form = layer.to_conv_nn().unwrap();
        assert!(matches!(form, Layer::ConvNn2d(_)));
        let (grid, pass) = (convnn_core::Grid::new(side, side + 1), Pass::evaluation());
        let x = Var::from_tensor(&normal(&format!("{seed}/x"), &[2, grid.tokens(), inputs], DType::F32)).unwrap();
        let through = |layer: &Layer, x: &Tensor| layer.forward_tokens(x, grid, &pass);
        same(&x, &parameters, |x| through(&form, x), |x| through(&layer, x));
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
        layer: LayerConfig::Conv2d(ConvolutionConfig::default()),
    };
    let vit = |layer| ModelConfig::Vit {
        model: VitConfig { image: 16, patch: 4, dim: 24, mlp: 48, layers: 3, ..Default::default() },
        layer,
    };
    let attention = vit(MixerConfig::MultiHeadAttention(MultiHeadAttentionConfig { heads: 3, dropout: 0.1 }));
    let kvt = vit(MixerConfig::KvtAttention(KvtAttentionConfig { heads: 2, neighbors: 5, dropout: 0.1 }));
    for config in [vgg, attention, kvt] {
        let parameters = parameters(DType::F32);
        let model = Model::new(&config, parameters.builder()).unwrap();
        let form = model.to_conv_nn().unwrap();
        let images = Var::from_tensor(&normal("images", &[3, 3, 16, 16], DType::F32)).unwrap();
        let pass = Pass::evaluation();
        same(&images, &parameters, |x| form.forward(x, &pass), |x| model.forward(x, &pass));
    }
}

#[test]
fn an_even_kernel_is_refused() {
    let config = LayerConfig::Conv2d(ConvolutionConfig { kernel_size: 2 });
    let layer = Layer::new(&config, 3, 4, parameters(DType::F32).builder()).unwrap();
    let line = layer.to_conv_nn().unwrap_err().to_string();
    assert!(line.starts_with("convolution: `kernel_size` is 2; expected an odd number"), "{line}");
}
