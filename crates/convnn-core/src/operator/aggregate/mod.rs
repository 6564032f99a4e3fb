//! Aggregation: y_i = Σ_j W_j (ρ_ij v_idx(i,j)) + bias, the kernel of rank j for the j-th neighbor.
//!
//! Convolution is the same operation with a fixed table of neighbors, [`stencil`](super::stencil()).

pub(crate) mod branches;
mod kernels;

use super::{Kernel, Neighbors, Rho};
use crate::Result;
use crate::error::{ensure_dtype, ensure_shape};
use crate::kernel::float::Float;
use crate::kernel::matrix::column_sums;
use crate::kernel::op::{Backward, Gradient, Input, Op, apply3};
use crate::nn::linear;
pub use branches::aggregate_branches;
use candle_core::{Shape, Tensor};

/// The weights of the kernel that aggregates, those of rank j for the j-th neighbor; see [`Kernel`].
#[derive(Clone, Debug)]
pub enum Weights {
    /// A matrix for each rank: (O, C, K). (O, C, κ, κ) counts as (O, C, κ²).
    Standard(Tensor),
    /// A vector for each rank: (C, 1, K).
    Depthwise(Tensor),
    /// Depthwise (C, 1, K), then pointwise (O, C, 1).
    DepthwiseSeparable(Tensor, Tensor),
}

impl Weights {
    /// Which kernel it is.
    pub const fn kernel(&self) -> Kernel {
        match self {
            Self::Standard(_) => Kernel::Standard,
            Self::Depthwise(_) => Kernel::Depthwise,
            Self::DepthwiseSeparable(..) => Kernel::DepthwiseSeparable,
        }
    }
}

/// Aggregates the neighbors of each token.
///
/// # Shapes
/// - `values`: (B, M, C)
/// - `neighbors`: (B or 1, N, K) into M rows
/// - `rho`: (B, N, K), or 1
/// - `bias`: (O), or `None`
/// - result: (B, N, O), O = C for a depthwise kernel
///
/// Gradients reach `values`, `rho`, `weights` and `bias`.
///
/// # Errors
/// [`crate::Error::Shape`], [`crate::Error::DType`], or neighbors of other values.
pub fn aggregate(
    values: &Tensor,
    neighbors: &Neighbors,
    rho: &Rho,
    weights: &Weights,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let outputs = check_weights(values, neighbors, rho, weights, bias)?;
    match weights {
        Weights::Standard(weight) => run(Form::Standard { outputs }, values, neighbors, rho, weight, bias),
        Weights::Depthwise(weight) => run(Form::Depthwise, values, neighbors, rho, weight, bias),
        Weights::DepthwiseSeparable(depthwise, pointwise) => {
            let y = aggregate(values, neighbors, rho, &Weights::Depthwise(depthwise.clone()), None)?;
            linear(&y, &pointwise.squeeze(2)?, bias)
        }
    }
}

/// Checks all arguments; returns O.
fn check_weights(
    values: &Tensor,
    neighbors: &Neighbors,
    rho: &Rho,
    weights: &Weights,
    bias: Option<&Tensor>,
) -> Result<usize> {
    let depthwise = |weight: &Tensor| -> Result<usize> {
        let [_, _, _, c, k] = check(values, neighbors, rho, weight)?;
        ensure_shape(weight.dims() == [c, 1, k], "aggregate", "weight", weight, || format!("({c}, 1, {k})"))?;
        Ok(c)
    };
    let outputs = match weights {
        Weights::Standard(weight) => {
            let [_, _, _, c, k] = check(values, neighbors, rho, weight)?;
            outputs(weight, c, k)?
        }
        Weights::Depthwise(weight) => depthwise(weight)?,
        Weights::DepthwiseSeparable(weight, pointwise) => {
            let c = depthwise(weight)?;
            let fits = pointwise.rank() == 3 && pointwise.dims()[1..] == [c, 1];
            ensure_shape(fits, "aggregate", "pointwise weight", pointwise, || format!("(O, {c}, 1)"))?;
            pointwise.dim(0)?
        }
    };
    check_bias(bias, outputs)?;
    Ok(outputs)
}

/// O of a kernel (O, C, K) or (O, C, κ, κ).
fn outputs(weight: &Tensor, c: usize, k: usize) -> Result<usize> {
    let dims = weight.dims();
    let fits = dims.len() >= 3 && dims[1] == c && dims[2..].iter().product::<usize>() == k;
    ensure_shape(fits, "aggregate", "weight", weight, || format!("(O, {c}, {k})"))?;
    Ok(dims[0])
}

/// B, N, M, C, K
fn check(values: &Tensor, neighbors: &Neighbors, rho: &Rho, weight: &Tensor) -> Result<[usize; 5]> {
    ensure_shape(values.rank() == 3, "aggregate", "values", values, || "(B, M, C)".into())?;
    ensure_dtype("aggregate", &[("values", values), ("weight", weight)])?;
    let (b, m, c) = values.dims3()?;
    let (n, k) = (neighbors.tokens(), neighbors.count());
    neighbors.ensure_fits("aggregate", b, n, m)?;
    if let Rho::Weights(rho) = rho {
        ensure_shape(rho.dims() == [b, n, k], "aggregate", "rho", rho, || format!("({b}, {n}, {k})"))?;
        ensure_dtype("aggregate", &[("values", values), ("rho", rho)])?;
    }
    Ok([b, n, m, c, k])
}

fn check_bias(bias: Option<&Tensor>, outputs: usize) -> Result<()> {
    let Some(bias) = bias else { return Ok(()) };
    ensure_shape(bias.dims() == [outputs], "aggregate", "bias", bias, || format!("({outputs})"))
}

fn run(
    form: Form,
    values: &Tensor,
    neighbors: &Neighbors,
    rho: &Rho,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    if !values.device().is_cpu() {
        let weights = match form {
            Form::Standard { .. } => Weights::Standard(weight.clone()),
            Form::Depthwise => Weights::Depthwise(weight.clone()),
        };
        return aggregate_reference(values, neighbors, rho, &weights, bias);
    }
    // An op has three arguments: the third is ρ or the bias. With both, the bias is added afterwards.
    let (third, role, bias) = match (rho, bias) {
        (Rho::Weights(rho), bias) => (rho.clone(), Role::Rho, bias),
        (Rho::One, Some(bias)) => (bias.clone(), Role::Bias, None),
        (Rho::One, None) => (Tensor::zeros(1, values.dtype(), values.device())?, Role::Nothing, None),
    };
    let (b, m, c) = values.dims3()?;
    let sizes = [b, neighbors.tokens(), m, c, neighbors.count()];
    let op = Aggregate { form, role, neighbors: neighbors.clone(), sizes };
    let y = apply3(op, values, weight, &third)?;
    match bias {
        None => Ok(y),
        Some(bias) => Ok(y.broadcast_add(bias)?),
    }
}

/// The plain form of [`aggregate`], in tensor operations.
pub fn aggregate_reference(
    values: &Tensor,
    neighbors: &Neighbors,
    rho: &Rho,
    weights: &Weights,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    check_weights(values, neighbors, rho, weights, bias)?;
    let chosen = neighbors.gather_reference(values)?; // (B, N, K, C)
    let chosen = match rho {
        Rho::One => chosen,
        Rho::Weights(rho) => chosen.broadcast_mul(&rho.unsqueeze(3)?)?,
    };
    let depthwise = |weight: &Tensor| -> Result<Tensor> {
        Ok(chosen.broadcast_mul(&weight.squeeze(1)?.t()?.contiguous()?)?.sum(2)?)
    };
    let y = match weights {
        Weights::Standard(weight) => {
            let weight = weight.flatten_from(2)?;
            let (o, c, k) = weight.dims3()?;
            let (b, n, ..) = chosen.dims4()?;
            let weight = weight.permute((2, 1, 0))?.reshape((k * c, o))?;
            chosen.reshape((b * n, k * c))?.matmul(&weight)?.reshape((b, n, o))?
        }
        Weights::Depthwise(weight) => depthwise(weight)?,
        Weights::DepthwiseSeparable(weight, pointwise) => {
            depthwise(weight)?.broadcast_matmul(&pointwise.squeeze(2)?.t()?.contiguous()?)?
        }
    };
    match bias {
        None => Ok(y),
        Some(bias) => Ok(y.broadcast_add(bias)?),
    }
}

#[derive(Clone, Copy)]
enum Form {
    Standard { outputs: usize },
    Depthwise,
}

/// What the third argument is.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Rho,
    Bias,
    Nothing,
}

struct Aggregate {
    form: Form,
    role: Role,
    neighbors: Neighbors,
    /// B, N, M, C, K
    sizes: [usize; 5],
}

impl Aggregate {
    fn task<'a, T>(&self, values: &'a [T], index: &'a [u32], third: &'a [T]) -> kernels::Task<'a, T> {
        kernels::Task { values, index, rho: (self.role == Role::Rho).then_some(third), sizes: self.sizes }
    }
}

impl Op<3> for Aggregate {
    const NAME: &'static str = "aggregate";
    const INPUTS: [&'static str; 3] = ["values", "weight", "ρ or bias"];

    fn forward<T: Float>(&self, [values, weight, third]: [Input<'_, T>; 3]) -> Result<(Vec<T>, Shape)> {
        let [b, n, _, c, _] = self.sizes;
        let index = self.neighbors.values()?;
        let task = self.task(values.values, &index, third.values);
        let bias = (self.role == Role::Bias).then_some(third.values);
        Ok(match self.form {
            Form::Standard { outputs } => {
                let branch = kernels::Branch { task, weight: weight.values, outputs };
                (kernels::standard(&[branch], bias), Shape::from((b, n, outputs)))
            }
            Form::Depthwise => (kernels::depthwise(&task, weight.values, bias), Shape::from((b, n, c))),
        })
    }

    /// With u_ij = ρ_ij v_idx(i,j): du_ij = W_jᵀ dy_i; dW_j = Σ_i dy_i u_ijᵀ; dv_idx(i,j) += ρ_ij du_ij;
    /// dρ_ij = du_ij · v_idx(i,j); dbias = Σ_i dy_i.
    fn backward<T: Float>(&self, pass: Backward<'_, T, 3>) -> Result<[Gradient<T>; 3]> {
        let ([values, weight, third], dy) = (pass.inputs, pass.gradient);
        let index = self.neighbors.values()?;
        let task = self.task(values.values, &index, third.values);
        // Images at the entry of a network need no gradient, and theirs would be the most expensive one.
        let inputs = pass.wanted[0] || self.role == Role::Rho;
        let (dv, dw, drho) = match self.form {
            Form::Standard { outputs } => {
                let dw = kernels::standard_weight_gradient(&task, dy, outputs, 0, outputs);
                let branch = kernels::Branch { task, weight: weight.values, outputs };
                let (dv, drho) = match inputs {
                    true => Some(kernels::standard_input_gradients(&[branch], dy)).unzip(),
                    false => (None, None),
                };
                (dv, dw, drho.flatten())
            }
            Form::Depthwise => {
                let gradients = kernels::depthwise_gradients(&task, weight.values, dy);
                (Some(gradients.values), gradients.weight, gradients.rho)
            }
        };
        let dthird = match self.role {
            Role::Rho => drho,
            Role::Bias => Some(column_sums(dy, third.values.len())),
            Role::Nothing => None,
        };
        Ok([
            dv.map_or(Gradient::None, Gradient::Values),
            Gradient::Values(dw),
            dthird.map_or(Gradient::None, Gradient::Values),
        ])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing;
    use crate::testing::kernels::{DTYPES, agree, output_and_gradient_bits, same_for_threads, strided, variable};
    use candle_core::{DType, Device, Var};

    type Op = fn(&Tensor, &Neighbors, &Rho, &Weights, Option<&Tensor>) -> Result<Tensor>;

    fn neighbors(b: usize, n: usize, k: usize, m: usize) -> Neighbors {
        let rows: Vec<u32> = (0..b * n * k).map(|i| (i * 7 % (m + 1)) as u32).collect();
        Neighbors::new(&Tensor::from_vec(rows, (b, n, k), &Device::Cpu).unwrap(), m).unwrap()
    }

    fn weights(standard: bool, weight: &Tensor) -> Weights {
        if standard { Weights::Standard(weight.clone()) } else { Weights::Depthwise(weight.clone()) }
    }

    fn rho(weights: Option<&Tensor>) -> Rho {
        weights.map_or(Rho::One, |weights| Rho::Weights(weights.clone()))
    }

    struct Case {
        sizes: [usize; 6],
        shared: bool,
    }

    const CASES: [Case; 6] = [
        Case { sizes: [1, 1, 1, 1, 1, 1], shared: false },
        Case { sizes: [2, 5, 7, 3, 4, 6], shared: false },
        Case { sizes: [3, 70, 60, 64, 9, 33], shared: true },
        Case { sizes: [2, 600, 601, 3, 9, 8], shared: false },
        Case { sizes: [37, 16, 16, 20, 9, 17], shared: false },
        Case { sizes: [2, 9, 9, 130, 9, 70], shared: true },
    ];

    fn each(dtype: DType, f: impl Fn(&str, bool, &[Var], &Neighbors, Option<usize>, Option<usize>)) {
        for Case { sizes: [b, n, m, c, k, o], shared } in CASES {
            let neighbors = neighbors(if shared { 1 } else { b }, n, k, m);
            for standard in [true, false] {
                let (weight, outputs) = if standard { ((o, c, k), o) } else { ((c, 1, k), c) };
                for (modulated, biased) in [(false, false), (false, true), (true, false), (true, true)] {
                    let mut inputs = vec![variable((b, m, c), dtype, 1), variable(weight, dtype, 2)];
                    let rho = modulated.then(|| {
                        inputs.push(variable((b, n, k), dtype, 3));
                        inputs.len() - 1
                    });
                    let bias = biased.then(|| {
                        inputs.push(variable(outputs, dtype, 4));
                        inputs.len() - 1
                    });
                    let label = format!("{dtype:?} {b},{n},{m},{c},{k},{o} standard={standard}");
                    f(&label, standard, &inputs, &neighbors, rho, bias);
                }
            }
        }
    }

    #[test]
    fn equals_the_reference() {
        for (dtype, tolerance) in DTYPES {
            each(dtype, |label, standard, x, neighbors, modulated, biased| {
                let call = |op: Op| {
                    let (rho, bias) = (rho(modulated.map(|i| x[i].as_tensor())), biased.map(|i| x[i].as_tensor()));
                    op(&x[0], neighbors, &rho, &weights(standard, &x[1]), bias)
                };
                agree(label, x, 10.0 * tolerance, || call(aggregate), || call(aggregate_reference));
            });
        }
    }

    #[test]
    fn gradients_are_exact() {
        let neighbors = neighbors(2, 5, 3, 4);
        for (standard, weight, outputs) in [(true, (4, 3, 3), 4), (false, (3, 1, 3), 3)] {
            let x = [
                variable((2, 4, 3), DType::F64, 1),
                variable(weight, DType::F64, 2),
                variable((2, 5, 3), DType::F64, 3),
                variable(outputs, DType::F64, 4),
            ];
            let f = || aggregate(&x[0], &neighbors, &rho(Some(&x[2])), &weights(standard, &x[1]), Some(&x[3]));
            testing::gradients("with ρ", &x, f, 1e-7).unwrap();
            let plain = [x[0].clone(), x[1].clone(), x[3].clone()];
            let f = || aggregate(&x[0], &neighbors, &Rho::One, &weights(standard, &x[1]), Some(&x[3]));
            testing::gradients("without ρ", &plain, f, 1e-7).unwrap();
        }
        let x = [
            variable((2, 4, 3), DType::F64, 1),
            variable((3, 1, 3), DType::F64, 2),
            variable((4, 3, 1), DType::F64, 3),
            variable(4, DType::F64, 4),
        ];
        let separable = || Weights::DepthwiseSeparable(x[1].as_tensor().clone(), x[2].as_tensor().clone());
        let f = || aggregate(&x[0], &neighbors, &Rho::One, &separable(), Some(&x[3]));
        testing::gradients("separable", &x, f, 1e-7).unwrap();
        let reference = aggregate_reference(&x[0], &neighbors, &Rho::One, &separable(), Some(&x[3])).unwrap();
        testing::compare("separable", &f().unwrap(), &reference, 1e-12).unwrap();
    }

    #[test]
    fn threads_and_strides_change_nothing() {
        each(DType::F32, |label, standard, x, neighbors, modulated, biased| {
            let call = |values: &Tensor| {
                let (rho, bias) = (rho(modulated.map(|i| x[i].as_tensor())), biased.map(|i| x[i].as_tensor()));
                aggregate(values, neighbors, &rho, &weights(standard, &x[1]), bias)
            };
            same_for_threads(label, || output_and_gradient_bits(x, || call(&x[0])));
            let found = call(&strided(&x[0])).unwrap();
            testing::compare(label, &found, &call(&x[0]).unwrap(), 0.0).unwrap();
        });
    }

    #[test]
    fn neighbors_of_other_values_are_refused() {
        let index = Tensor::new(&[[[5u32]]], &Device::Cpu).unwrap();
        let error = Neighbors::new(&index, 4).unwrap_err().to_string();
        assert!(error.contains("`index` is 5") && error.contains("0 to 4"), "{error}");
        let (v, w) = (variable((1, 4, 2), DType::F32, 1), variable((3, 2, 1), DType::F32, 2));
        let neighbors = Neighbors::new(&index, 5).unwrap();
        let error = aggregate(&v, &neighbors, &Rho::One, &weights(true, &w), None).unwrap_err().to_string();
        assert_eq!(
            error,
            "aggregate: `neighbors` is an index [1, 1, 1] into 5 rows; expected (1 or 1, 1, K) into 4 rows"
        );
    }

    #[test]
    fn empty_sizes() {
        for [b, n, m, c, k, o] in [[0, 3, 3, 2, 2, 2], [1, 0, 3, 2, 2, 2], [1, 3, 3, 2, 2, 0], [1, 3, 3, 0, 2, 2]] {
            let x = [variable((b, m, c), DType::F32, 1), variable((o, c, k), DType::F32, 2)];
            let neighbors = neighbors(b, n, k, m);
            let y = aggregate(&x[0], &neighbors, &Rho::One, &weights(true, &x[1]), None).unwrap();
            assert_eq!(y.dims(), [b, n, o]);
            y.sum_all().unwrap().backward().unwrap();
        }
    }
}
