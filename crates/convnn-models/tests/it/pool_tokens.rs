//! The mixer `pool_tokens`.

use crate::{mixer, parameters};
use candle_core::{DType, Device, Tensor};
use convnn_core::Pass;
use convnn_models::mixer::PoolTokensConfig;
use convnn_models::{MixerConfig, ModelConfig, VitConfig, preset};

#[test]
fn the_mean_of_the_window_minus_the_token() {
    let parameters = parameters(DType::F64);
    let mixer = mixer(&PoolTokensConfig { window: 3 }.into(), 4, 1, &parameters);
    let x = Tensor::new(&[[[1f64], [3.0], [8.0], [0.0]], [[2.0], [2.0], [2.0], [2.0]]], &Device::Cpu).unwrap();
    let y = mixer.forward_t(&x, &Pass::evaluation()).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let expected = [1.0, 1.0, 11.0 / 3.0 - 8.0, 4.0, 0.0, 0.0, 0.0, 0.0];
    assert!(y.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12), "{y:?}");
    assert_eq!(parameters.count(), 0);
}

#[test]
fn a_model_costs_less_than_with_attention() {
    let config = |layer: MixerConfig| ModelConfig::Vit { model: VitConfig::default(), layer };
    let (pool, attention) =
        (config(PoolTokensConfig::default().into()), preset("vit_tiny_attention").unwrap().config());
    let (tokens, dim, blocks) = (197, 192, 12);
    assert_eq!(attention.parameter_count().unwrap() - pool.parameter_count().unwrap(), blocks * 4 * dim * dim);
    let mixers = 8 * tokens * dim * dim + 4 * tokens * tokens * dim - 4 * tokens * dim;
    assert_eq!(attention.flops().unwrap() - pool.flops().unwrap(), (blocks * mixers) as u64);
}

#[test]
fn an_even_window_is_refused() {
    let config = ModelConfig::Vit { model: VitConfig::default(), layer: PoolTokensConfig { window: 4 }.into() };
    let line = config.check().unwrap_err().to_string();
    assert_eq!(line, "transformer_encoder.0.attention: `window` is 4; expected an odd number of at least 3");
}
