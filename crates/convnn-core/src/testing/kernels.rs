//! What the tests of the ops share: seeded tensors, a kernel held against its reference, and equal bits on any number
//! of threads.

use crate::{Result, testing};
use candle_core::{DType, Device, Shape, Tensor, Var};

/// A variable with numbers that depend on `seed` alone, evenly spread over −1 … 1 and without order.
pub(crate) fn variable(shape: impl Into<Shape>, dtype: DType, seed: u64) -> Var {
    let shape = shape.into();
    let values: Vec<f64> = (0..shape.elem_count() as u64).map(|i| number(i, seed)).collect();
    let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
    Var::from_tensor(&tensor.to_dtype(dtype).unwrap()).unwrap()
}

fn number(index: u64, seed: u64) -> f64 {
    let mut h = (index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed.wrapping_mul(0xd1b5_4a32_d192_ed03);
    h = (h ^ (h >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    h = (h ^ (h >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    ((h ^ (h >> 32)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// Holds `kernel` against `reference`: the outputs, and the gradient of each of `inputs`.
#[track_caller]
pub(crate) fn agree(
    label: &str,
    inputs: &[Var],
    tolerance: f64,
    kernel: impl Fn() -> Result<Tensor>,
    reference: impl Fn() -> Result<Tensor>,
) {
    let (found, expected) = (kernel().unwrap(), reference().unwrap());
    testing::compare(&format!("{label}: output"), &found, &expected, tolerance).unwrap();
    let weights = variable(found.shape().clone(), found.dtype(), 99);
    let gradients = |y: &Tensor| (y * weights.as_tensor()).unwrap().sum_all().unwrap().backward().unwrap();
    let (found, expected) = (gradients(&found), gradients(&expected));
    for (i, input) in inputs.iter().enumerate() {
        let of = |grads: &candle_core::backprop::GradStore| {
            grads.get(input.as_tensor()).unwrap_or_else(|| panic!("{label}: input {i} gets no gradient")).clone()
        };
        let found = of(&found);
        testing::compare(&format!("{label}: gradient of input {i}"), &found, &of(&expected), tolerance).unwrap();
    }
}

/// Runs `f` on pools of 1, 2 and 4 threads and expects the same numbers.
#[track_caller]
pub(crate) fn same_for_threads(label: &str, f: impl Fn() -> Vec<u64> + Sync) {
    let [one, two, four] =
        [1, 2, 4].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(&f));
    assert!(!one.is_empty());
    assert!(one == two && one == four, "{label}: the bits depend on the number of threads");
}

/// The bits of a tensor's elements.
pub(crate) fn bits(tensor: &Tensor) -> Vec<u64> {
    let values = tensor.flatten_all().unwrap();
    match tensor.dtype() {
        DType::F32 => values.to_vec1::<f32>().unwrap().iter().map(|v| v.to_bits().into()).collect(),
        _ => values.to_vec1::<f64>().unwrap().iter().map(|v| v.to_bits()).collect(),
    }
}

/// The bits of the output of `f` and of the gradients of `inputs`.
pub(crate) fn output_and_gradient_bits(inputs: &[Var], f: impl Fn() -> Result<Tensor>) -> Vec<u64> {
    let y = f().unwrap();
    let weights = variable(y.shape().clone(), y.dtype(), 99);
    let grads = (&y * weights.as_tensor()).unwrap().sum_all().unwrap().backward().unwrap();
    inputs.iter().fold(bits(&y), |mut all, input| {
        all.extend(bits(grads.get(input.as_tensor()).unwrap()));
        all
    })
}

/// Tolerance of f32 and f64 kernels against their references.
pub(crate) const DTYPES: [(DType, f64); 2] = [(DType::F32, 2e-6), (DType::F64, 1e-12)];

/// A tensor of the same values as `x` that is not contiguous: stored with its last two axes exchanged.
pub(crate) fn strided(x: &Tensor) -> Tensor {
    let t = x.t().unwrap().contiguous().unwrap().t().unwrap();
    assert!(!t.is_contiguous() || t.dims()[t.rank() - 2..].contains(&1));
    t
}
