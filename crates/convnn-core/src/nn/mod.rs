//! Building blocks of networks that Candle computes slowly or trains wrongly: functions on tensors, and modules.
//!
//! The modules implement [`candle_nn::Module`]. Those that behave differently in training, [`BatchNorm`] and
//! [`Dropout`], have a `forward_t` that takes a [`Pass`](crate::Pass); their `Module::forward` evaluates.

pub(crate) mod attention;
pub(crate) mod batch_norm;
mod batch_norm_kernels;
pub(crate) mod cross_entropy;
pub(crate) mod distributions;
pub(crate) mod dropout;
pub(crate) mod gelu;
pub(crate) mod layer_norm;
pub(crate) mod linear;
pub(crate) mod max_pool;
pub(crate) mod relu;
pub(crate) mod repeated_linear;
pub(crate) mod softmax;

pub use attention::{Attention, attention};
pub use batch_norm::{Activation, BatchNorm, Statistics, batch_norm};
pub use cross_entropy::cross_entropy;
pub use distributions::{cross_entropy_with, mean_squared_error};
pub use dropout::{Dropout, DropoutMask, add_dropout, dropout};
pub use gelu::{Gelu, gelu};
pub use layer_norm::{LayerNorm, layer_norm};
pub use linear::{Linear, linear};
pub use max_pool::{MaxPool2d, max_pool_2x2};
pub use relu::{Relu, relu};
pub use repeated_linear::repeated_linear;
pub use softmax::{Softmax, softmax};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{Parameters, Pass, Streams, reference, testing, testing::kernels::variable};
    use candle_core::{DType, Device, Tensor};
    use candle_nn::{Module, VarBuilder, VarMap};
    use std::collections::HashMap;

    /// A small network with every module that has parameters.
    struct Network {
        linear: Linear,
        norm: LayerNorm,
        batch_norm: BatchNorm,
        out: Linear,
        dropout: Dropout,
    }

    impl Network {
        fn new(vb: &VarBuilder<'_>) -> Self {
            Self {
                linear: Linear::new(4, 6, vb.pp("linear")).unwrap(),
                norm: LayerNorm::new(6, vb.pp("norm")).unwrap(),
                batch_norm: BatchNorm::new(6, Activation::Relu, vb.pp("batch_norm")).unwrap(),
                out: Linear::without_bias(6, 2, vb.pp("out")).unwrap(),
                dropout: Dropout::new(0.5, &vb.pp("dropout")).unwrap(),
            }
        }

        fn forward_t(&self, x: &Tensor, pass: &Pass) -> Tensor {
            let x = self.norm.forward(&self.linear.forward(x).unwrap()).unwrap();
            let x = self.batch_norm.forward_t(&x, pass).unwrap();
            self.out.forward(&self.dropout.forward_t(&x, pass).unwrap()).unwrap()
        }
    }

    const NAMES: [&str; 9] = [
        "batch_norm.bias",
        "batch_norm.running_mean",
        "batch_norm.running_var",
        "batch_norm.weight",
        "linear.bias",
        "linear.weight",
        "norm.bias",
        "norm.weight",
        "out.weight",
    ];

    /// Moves the running statistics by one pass and returns what evaluation then gives.
    fn trained(network: &Network) -> Tensor {
        let x = variable((5, 4), DType::F32, 1);
        let evaluated = network.forward_t(&x, &Pass::evaluation());
        let y = network.forward_t(&x, &Pass::training(&Streams::new(3), 0));
        assert!(testing::compare("training differs from evaluation", &y, &evaluated, 1e-3).is_err());
        network.forward_t(&x, &Pass::evaluation())
    }

    #[test]
    fn modules_train_and_save_under_candles_var_map() {
        let parameters = VarMap::new();
        let network = Network::new(&VarBuilder::from_varmap(&parameters, DType::F32, &Device::Cpu));
        let y = trained(&network);
        let tensors: HashMap<String, Tensor> =
            parameters.data().lock().unwrap().iter().map(|(k, v)| (k.clone(), v.as_detached_tensor())).collect();
        let mut names: Vec<_> = tensors.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, NAMES);
        // Constant tensors evaluate like the variables that they are copies of, the running statistics included.
        let copy = Network::new(&VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu));
        let x = variable((5, 4), DType::F32, 1);
        testing::compare("copy", &copy.forward_t(&x, &Pass::evaluation()), &y, 0.0).unwrap();
    }

    #[test]
    fn modules_train_and_save_under_seeded_parameters() {
        let parameters = Parameters::new(&Streams::new(0), DType::F32, &Device::Cpu);
        let y = trained(&Network::new(&parameters.builder()));
        let all = parameters.all();
        assert_eq!(all.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), NAMES);
        assert!(all[1].1.to_vec1::<f32>().unwrap().iter().all(|&mean| mean != 0.0));
        let again = Network::new(&parameters.builder());
        let x = variable((5, 4), DType::F32, 1);
        testing::compare("again", &again.forward_t(&x, &Pass::evaluation()), &y, 0.0).unwrap();
    }

    #[test]
    fn averaged_statistics_are_the_means_of_the_batches() {
        let parameters = Parameters::new(&Streams::new(0), DType::F64, &Device::Cpu);
        let layer = BatchNorm::new(4, Activation::None, parameters.builder()).unwrap();
        let batches: Vec<_> = (1..=3).map(|seed| variable((5, 4), DType::F64, seed)).collect();
        layer.forward_t(&batches[1], &Pass::training(&Streams::new(0), 0)).unwrap();
        for (number, batch) in (1..).zip(&batches) {
            layer.forward_t(batch, &Pass::averaging(&Streams::new(0), 0, number)).unwrap();
        }
        let mean = |f: &dyn Fn(&Tensor) -> Tensor| {
            (batches.iter().map(|batch| f(batch)).reduce(|a, b| (a + b).unwrap()).unwrap() / 3.0).unwrap()
        };
        let [_, (_, running_mean), (_, running_var), _] = &parameters.all()[..] else { panic!("four parameters") };
        testing::compare("mean", running_mean, &mean(&|x| x.mean(0).unwrap()), 1e-12).unwrap();
        testing::compare("variance", running_var, &mean(&|x| x.var(0).unwrap()), 1e-12).unwrap();
    }

    #[test]
    fn modules_equal_their_functions() {
        let x = variable((2, 3, 5, 4), DType::F64, 1);
        let compare = |label: &str, module: &dyn Module, expected: Tensor| {
            testing::compare(label, &module.forward(&x).unwrap(), &expected, 1e-12).unwrap();
        };
        compare("relu", &Relu, reference::relu(&x).unwrap());
        compare("gelu", &Gelu, reference::gelu(&x, None).unwrap());
        compare("softmax", &Softmax, reference::softmax(&x).unwrap());
        compare("max_pool", &MaxPool2d, x.max_pool2d(2).unwrap());
        compare("dropout", &Dropout::with_path(0.5, "").unwrap(), x.as_tensor().clone());
        let [weight, bias] = [variable((6, 4), DType::F64, 2), variable(6, DType::F64, 3)].map(|v| v.into_inner());
        let layer = Linear::from_tensors(weight.clone(), Some(bias.clone())).unwrap();
        let expected = reference::linear(&x, &weight, Some(&bias)).unwrap();
        compare("linear", &layer, expected.clone());
        for i in 0..3 {
            compare("part", &layer.part(i, 3).unwrap(), expected.narrow(3, 2 * i, 2).unwrap());
        }
        let line = layer.part(0, 4).unwrap_err().to_string();
        assert_eq!(line, "linear: `weight` has shape [6, 4]; expected part 0 of 4 equal parts of O");
    }

    #[test]
    fn half_types_run_the_kernels() {
        for (dtype, tolerance) in [(DType::F16, 2e-3), (DType::BF16, 2e-2)] {
            let network = |vb: VarBuilder<'_>| Network::new(&vb);
            let exact = Parameters::new(&Streams::new(0), DType::F32, &Device::Cpu);
            let half = Parameters::new(&Streams::new(0), dtype, &Device::Cpu);
            let (exact, half) = (network(exact.builder()), network(half.builder()));
            let x = variable((5, 4), DType::F32, 1);
            let pass = Pass::training(&Streams::new(3), 0);
            let y = half.forward_t(&x.to_dtype(dtype).unwrap(), &pass);
            assert_eq!(y.dtype(), dtype);
            testing::compare("half", &y, &exact.forward_t(&x, &pass), 5.0 * tolerance).unwrap();
        }
    }
}
