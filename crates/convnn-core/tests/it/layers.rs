//! The layers with neighbors that are given, in half precision, and with arguments that they refuse.

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use convnn_core::operator::{self, Rho, Selection, Weights};
use convnn_core::optim::{AdamW, AdamWConfig, Momentum, Sgd, SgdConfig};
use convnn_core::{
    Branching2d, Branching2dAttention, Branching2dAttentionConfig, Branching2dConfig, Candidates, Compare, ConvNn1d,
    ConvNn1dConfig, ConvNn2d, ConvNn2dAttention, ConvNn2dAttentionConfig, ConvNn2dConfig, ConvNnAttention,
    ConvNnAttentionConfig, Kernel, Modulation, Neighbors, Parameters, Pass, Result, Shuffle, Similarity, Streams,
    Values, backward, random::streams, testing,
};

const CPU: &Device = &Device::Cpu;

fn normal(name: &str, shape: &[usize]) -> Tensor {
    let mut generator = Streams::new(5).generator(name);
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| streams::normal(&mut generator)).collect();
    Tensor::from_vec(values, shape, CPU).unwrap()
}

fn parameters() -> Parameters {
    Parameters::new(&Streams::new(3), DType::F64, CPU)
}

/// A layer that is given the neighbors it would choose computes what it computes anyway.
#[test]
fn given_neighbors_take_the_place_of_the_chosen() {
    let (map, tokens) = (normal("map", &[2, 4, 5, 6]), normal("tokens", &[2, 9, 4]));
    let sequence = normal("sequence", &[2, 4, 9]);
    let evaluation = &Pass::evaluation();
    let same = |what: &str, given: Result<Tensor>, chosen: Result<Tensor>| {
        testing::compare(what, &given.unwrap(), &chosen.unwrap(), 1e-14).unwrap();
    };
    let lists = [Candidates::All, Candidates::Random { n: 12 }, Candidates::Spatial { n: 4, margin: 1 }];
    for candidates in lists {
        for (compare, values) in [
            (Compare::Features, Values::Features),
            (Compare::Position, Values::FeaturesPosition),
            (Compare::Blend(0.5), Values::FeaturesPosition),
        ] {
            let label = format!("{candidates:?} {compare:?}");
            let plain = ConvNn2dConfig { candidates, compare, values, padding: 1, neighbors: 5, ..Default::default() };
            let layer = ConvNn2d::new(4, 3, &plain, parameters().builder()).unwrap();
            same(&label, layer.forward_with(&map, &layer.neighbors(&map).unwrap()), layer.forward_t(&map, evaluation));
            for branch_ratio in [0.5, 1.0] {
                let config = Branching2dConfig { branch_ratio, branch: plain.clone(), ..Default::default() };
                let layer = Branching2d::new(4, 6, &config, parameters().builder()).unwrap();
                let given = layer.forward_with(&map, &layer.neighbors(&map).unwrap());
                same(&label, given, layer.forward_t(&map, evaluation));
            }
            let config = ConvNn1dConfig { candidates, compare, values, neighbors: 3, ..Default::default() };
            let layer = ConvNn1d::new(4, 3, &config, parameters().builder()).unwrap();
            let given = layer.forward_with(&sequence, &layer.neighbors(&sequence).unwrap());
            same(&label, given, layer.forward_t(&sequence, evaluation));
        }
        let attention = ConvNn2dAttentionConfig { candidates, neighbors: 5, ..Default::default() };
        let layer = ConvNn2dAttention::new(4, 6, &attention, parameters().builder()).unwrap();
        same("2-D", layer.forward_with(&map, &layer.neighbors(&map).unwrap()), layer.forward_t(&map, evaluation));
        let config = Branching2dAttentionConfig { branch_ratio: 0.5, branch: attention, ..Default::default() };
        let layer = Branching2dAttention::new(4, 6, &config, parameters().builder()).unwrap();
        same("branch", layer.forward_with(&map, &layer.neighbors(&map).unwrap()), layer.forward_t(&map, evaluation));
        for modulation in [Modulation::Softmax, Modulation::Similarity, Modulation::None] {
            let candidates =
                if let Candidates::Random { .. } = candidates { Candidates::Random { n: 6 } } else { candidates };
            let config = ConvNnAttentionConfig { candidates, modulation, neighbors: 3, heads: 2, ..Default::default() };
            let layer = ConvNnAttention::new(4, &config, parameters().builder()).unwrap();
            let given = layer.forward_with(&tokens, &layer.neighbors(&tokens).unwrap());
            same("tokens", given, layer.forward_t(&tokens, evaluation));
        }
    }
}

/// A lattice finer than a sequence repeats positions, and a sample that is given may.
#[test]
fn a_token_is_chosen_once() {
    let distinct = |neighbors: &Neighbors| {
        for row in neighbors.index().flatten_to(1).unwrap().to_vec2::<u32>().unwrap() {
            let mut sorted = row.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), row.len(), "{row:?}");
        }
    };
    let sequence = normal("sequence", &[1, 2, 8]);
    for compare in [Compare::Features, Compare::Position] {
        let candidates = Candidates::Spatial { n: 16, margin: 0 };
        let similarity = Similarity::Euclidean;
        let config = ConvNn1dConfig { candidates, compare, similarity, neighbors: 5, ..Default::default() };
        let layer = ConvNn1d::new(2, 2, &config, parameters().builder()).unwrap();
        distinct(&layer.neighbors(&sequence).unwrap());
    }
    let map = normal("map", &[1, 2, 3, 3]);
    let config = ConvNn2dConfig { neighbors: 3, padding: 1, ..Default::default() };
    let layer = ConvNn2d::new(2, 2, &config, parameters().builder()).unwrap().with_candidates(vec![0, 0, 7, 7, 12]);
    // Place 0 is padding: as a row it is the zero token, of which there is one.
    distinct(&layer.neighbors(&map).unwrap());
}

#[test]
fn half_precision() {
    let map = normal("map", &[2, 4, 5, 5]);
    for dtype in [DType::F16, DType::BF16] {
        let parameters = Parameters::new(&Streams::new(3), DType::F32, CPU);
        let config = ConvNn2dConfig { padding: 1, ..Default::default() };
        let exact = ConvNn2d::new(4, 3, &config, parameters.builder()).unwrap();
        let tensors = parameters.all().into_iter();
        let half = tensors.map(|(name, var)| (name, var.as_tensor().to_dtype(dtype).unwrap())).collect();
        let layer = ConvNn2d::new(4, 3, &config, VarBuilder::from_tensors(half, dtype, CPU)).unwrap();
        let x = map.to_dtype(dtype).unwrap();
        let found = layer.forward_t(&x, &Pass::evaluation()).unwrap().to_dtype(DType::F32).unwrap();
        let expected = exact.forward_t(&x.to_dtype(DType::F32).unwrap(), &Pass::evaluation()).unwrap();
        testing::compare(&format!("{dtype:?}"), &found, &expected, 0.02).unwrap();

        // The distance of equal tokens is 0, and the smallest that is divided by is 0 in f16.
        let config = ConvNnAttentionConfig {
            similarity: Similarity::Euclidean,
            modulation: Modulation::Similarity,
            neighbors: 3,
            ..Default::default()
        };
        let parameters = Parameters::new(&Streams::new(3), DType::F32, CPU);
        ConvNnAttention::new(4, &config, parameters.builder()).unwrap();
        let tensors = parameters.all().into_iter();
        let half = tensors.map(|(name, var)| (name, var.as_tensor().to_dtype(dtype).unwrap())).collect();
        let layer = ConvNnAttention::new(4, &config, VarBuilder::from_tensors(half, dtype, CPU)).unwrap();
        let y = layer.forward_t(&Tensor::zeros((1, 6, 4), dtype, CPU).unwrap(), &Pass::evaluation()).unwrap();
        let y = y.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(y.iter().all(|&v| v == 0.0), "{dtype:?}: {y:?}");
    }
}

#[track_caller]
fn refused<T>(found: Result<T>, parts: &[&str]) {
    let line = found.err().unwrap().to_string();
    for part in parts {
        assert!(line.contains(part), "{part:?} in {line:?}");
    }
}

#[test]
fn arguments_that_are_refused() {
    let x = normal("x", &[1, 3, 4]);
    refused(operator::select(&x, &x, &Selection::default()), &["`neighbors` is 0", "at least 1"]);
    let index = |k: usize| Tensor::zeros((1, 3, k), DType::U32, CPU).unwrap();
    refused(Neighbors::new(&index(0), 3), &["of no neighbors", "at least one"]);
    // The reference checks as the kernels do.
    let neighbors = Neighbors::new(&index(2), 5).unwrap();
    let weights = Weights::Standard(normal("weight", &[2, 4, 2]));
    for aggregate in [operator::aggregate, convnn_core::reference::aggregate] {
        refused(aggregate(&x, &neighbors, &Rho::One, &weights, None), &["aggregate"]);
    }

    let (weight, bias) = (normal("weight", &[4, 7, 9]), normal("bias", &[4]));
    let depthwise = ConvNn2dConfig { kernel: Kernel::Depthwise, ..Default::default() };
    refused(ConvNn2d::from_tensors(&depthwise, weight.clone(), bias.clone()), &["`weight`", "(4, 1, 9)"]);
    let narrow = bias.to_dtype(DType::F32).unwrap();
    refused(ConvNn2d::from_tensors(&ConvNn2dConfig::default(), weight, narrow), &["`bias`", "F64"]);

    let vb = || VarBuilder::zeros(DType::F32, CPU);
    let shuffled = ConvNn2dConfig { shuffle: Shuffle::Before, shuffle_scale: 256, ..Default::default() };
    refused(ConvNn2d::new(1 << 60, 3, &shuffled, vb()), &["`in_channels`"]);
    refused(Branching2d::new(3, 0, &Branching2dConfig::default(), vb()), &["`out_channels` is 0"]);
}

#[test]
fn optimizers_refuse_what_no_step_can_be_made_with() {
    let vars = || vec![("x".to_owned(), Var::from_tensor(&normal("x", &[2])).unwrap())];
    let adamw = AdamWConfig::default();
    for (config, part) in [
        (AdamWConfig { beta2: 1.0, ..adamw }, "`beta2` is 1"),
        (AdamWConfig { learning_rate: -1.0, ..adamw }, "`learning_rate` is -1"),
        (AdamWConfig { weight_decay: f64::NAN, ..adamw }, "`weight_decay` is NaN"),
        (AdamWConfig { clip_grad_norm: Some(-1.0), ..adamw }, "`clip_grad_norm` is -1"),
        (AdamWConfig { clip_grad_value: Some(0.0), ..adamw }, "`clip_grad_value` is 0"),
    ] {
        refused(AdamW::named(vars(), config), &[part]);
    }
    let heavy = SgdConfig { momentum: Momentum::HeavyBall(1.0), ..SgdConfig::default() };
    refused(Sgd::named(vars(), heavy), &["`momentum` is 1"]);
}

/// Layers without channels have no values and no gradients, with every kernel.
#[test]
fn no_channels() {
    let (values, rho) =
        (Var::zeros((1, 3, 0), DType::F32, CPU).unwrap(), Var::ones((1, 3, 2), DType::F32, CPU).unwrap());
    let weight = Var::zeros((0, 1, 2), DType::F32, CPU).unwrap();
    let neighbors = Neighbors::new(&Tensor::zeros((1, 3, 2), DType::U32, CPU).unwrap(), 3).unwrap();
    let weights = Weights::Depthwise(weight.as_tensor().clone());
    let y = operator::aggregate(&values, &neighbors, &Rho::Weights(rho.as_tensor().clone()), &weights, None).unwrap();
    assert_eq!(y.dims(), [1, 3, 0]);
    backward(&y.sum_all().unwrap()).unwrap();
}
