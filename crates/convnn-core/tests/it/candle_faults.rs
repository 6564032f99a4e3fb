//! The faults of candle-core and candle-nn 0.11.1 that this workspace works round, pinned.
//!
//! A test that fails here after an upgrade of Candle is good news: the fault is gone, and its doc comment says what may
//! then be replaced by Candle's own.

use candle_core::{DType, Device, Module, Result, Tensor, Var};
use candle_nn::{LayerNorm, VarBuilder, VarMap};
use convnn_core::{Grid, nn, testing};

const CPU: &Device = &Device::Cpu;

/// A variable (…) with values that rise and fall without order.
fn variable(shape: &[usize]) -> Var {
    let len: usize = shape.iter().product();
    let values: Vec<f64> = (0..len).map(|i| ((i + 1) as f64 * 0.618_033_988_749_895).fract() * 2.0 - 1.0).collect();
    Var::from_vec(values, shape, CPU).unwrap()
}

/// The gradient of Σ y · weights with respect to `input`.
fn gradient(y: &Tensor, input: &Var) -> Option<Tensor> {
    let weights = variable(y.dims()).to_dtype(y.dtype()).unwrap();
    let grads = (y * weights).unwrap().sum_all().unwrap().backward().unwrap();
    grads.get(input.as_tensor()).cloned()
}

/// When this fails, `nn::layer_norm` may give way to `candle_nn::LayerNorm`, if that is as fast.
#[test]
fn layer_norm_gives_no_gradient() {
    // Candle's kernel knows no f64.
    let [x, w, b] = [&[3, 8][..], &[8], &[8]]
        .map(|shape| Var::from_tensor(&variable(shape).to_dtype(DType::F32).unwrap()).unwrap());
    let theirs = LayerNorm::new(w.as_tensor().clone(), b.as_tensor().clone(), 1e-5).forward(&x).unwrap();
    let ours = nn::layer_norm(&x, &w, &b).unwrap();
    testing::compare("the values agree", &theirs, &ours, 1e-5).unwrap();
    for input in [&x, &w, &b] {
        assert!(gradient(&theirs, input).is_none(), "Candle's LayerNorm gives a gradient now");
        assert!(gradient(&ours, input).is_some());
    }
}

/// When this fails, `nn::softmax` may give way to `candle_nn::ops::softmax_last_dim`, if that is as fast.
#[test]
fn softmax_last_dim_gives_no_gradient() {
    let x = variable(&[3, 8]);
    let theirs = candle_nn::ops::softmax_last_dim(&x).unwrap();
    testing::compare("the values agree", &theirs, &nn::softmax(&x).unwrap(), 1e-12).unwrap();
    assert!(gradient(&theirs, &x).is_none(), "Candle's softmax_last_dim gives a gradient now");
}

/// When this and the next fail, `nn::max_pool_2x2` may give way to `Tensor::max_pool2d`, if that is as fast.
#[test]
fn max_pool_passes_a_quarter_of_the_gradient() {
    let x = Var::from_slice(&[1f64, 2.0, 3.0, 4.0], (1, 1, 2, 2), CPU).unwrap();
    let grads = x.max_pool2d(2).unwrap().sum_all().unwrap().backward().unwrap();
    let dx = grads.get(x.as_tensor()).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    assert_eq!(dx, [0.0, 0.0, 0.0, 0.25], "the whole gradient, 1, belongs to the maximum");
}

/// See the test before.
#[test]
fn max_pool_gives_every_tied_value_the_gradient() {
    let x = Var::ones((1, 1, 2, 2), DType::F64, CPU).unwrap();
    let grads = x.max_pool2d(2).unwrap().sum_all().unwrap().backward().unwrap();
    let dx = grads.get(x.as_tensor()).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    assert_eq!(dx, [1.0; 4], "a gradient of 1 in all belongs to four tied values");
    let tokens = x.reshape((1, 4, 1)).unwrap();
    let (y, _) = nn::max_pool_2x2(&tokens, Grid::new(2, 2)).unwrap();
    let grads = y.sum_all().unwrap().backward().unwrap();
    let dx = grads.get(x.as_tensor()).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    assert_eq!(dx, [1.0, 0.0, 0.0, 0.0]);
}

/// The gradient of `Tensor::conv1d` holds for a batch of one and fails for two. When this fails, `conv_nn_1d` and the
/// aggregation along a sequence may be checked against `Tensor::conv1d` in training as well.
#[test]
fn conv1d_has_a_wrong_gradient_for_a_batch_of_two() {
    let check = |batch: usize| {
        let vars = [variable(&[batch, 3, 6]), variable(&[4, 3, 2])];
        let f = || Ok(vars[0].conv1d(&vars[1], 0, 1, 1, 1)?);
        testing::gradients("conv1d", &vars, f, 1e-6)
    };
    check(1).unwrap();
    assert!(check(2).is_err(), "the gradient of conv1d holds for a batch of two now");
}

/// When this fails, initial values could come from Candle's generator; they would still depend on the order of drawing,
/// which `Parameters` avoids.
#[test]
fn the_cpu_refuses_a_seed() {
    assert!(CPU.set_seed(1).is_err(), "the CPU device takes a seed now");
}

/// When this fails, a transposed left operand no longer needs `contiguous()` or `broadcast_matmul`.
#[test]
fn matmul_of_a_transposed_and_a_broadcast_operand_is_garbage() {
    let (a, b) = (variable(&[2, 4, 3]), variable(&[4, 5]));
    let (left, right) = (a.t().unwrap(), b.broadcast_as((2, 4, 5)).unwrap());
    let expected = left.contiguous().unwrap().matmul(&right.contiguous().unwrap()).unwrap();
    testing::compare("broadcast_matmul", &left.broadcast_matmul(&b).unwrap(), &expected, 1e-12).unwrap();
    let wrong = left.matmul(&right).is_err()
        || testing::compare("matmul", &left.matmul(&right).unwrap(), &expected, 1e-6).is_err();
    assert!(wrong, "matmul of a transposed and a broadcast operand is right now");
}

/// When this fails, `nn::relu` may give way to `Tensor::relu`.
#[test]
fn relu_passes_the_gradient_at_zero() {
    let at_zero = |f: fn(&Tensor) -> Result<Tensor>| {
        let x = Var::zeros(1, DType::F64, CPU).unwrap();
        let grads = f(&x).unwrap().sum_all().unwrap().backward().unwrap();
        grads.get(x.as_tensor()).unwrap().to_vec1::<f64>().unwrap()[0]
    };
    assert_eq!(at_zero(Tensor::relu), 1.0, "PyTorch's gradient there is 0");
    assert_eq!(at_zero(|x| Ok(nn::relu(x)?)), 0.0);
}

/// When this fails, `Parameters::trainable` may give way to `VarMap::all_vars`.
#[test]
fn all_vars_holds_running_statistics() {
    let map = VarMap::new();
    let builder = VarBuilder::from_varmap(&map, DType::F32, CPU);
    candle_nn::batch_norm(4, 1e-5, builder).unwrap();
    assert_eq!(map.all_vars().len(), 4, "weight, bias, and two running statistics that no optimizer may touch");
}
