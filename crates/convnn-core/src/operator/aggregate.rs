//! Aggregation: y_i = Σ_j W_j (ρ_ij v_idx(i,j)) + bias, the kernel of rank j for the j-th neighbor (SPEC section 2.4).
//!
//! Convolution is the same operation with a fixed table of neighbors, [`stencil`](super::stencil).

use crate::Result;
use crate::error::ensure_shape;
use crate::kernel::backward::deliver;
use crate::kernel::float::cpu_values;
use crate::kernel::float::has_kernel;
use crate::kernel::float::values;
use crate::kernel::float::with_float;
use crate::kernel::matrix::column_sums;
use crate::operator::aggregate_kernels as kernels;
use crate::operator::neighbors::{check_index, gather_reference, index_values};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Shape, Tensor, WithDType};

/// Aggregates the chosen neighbors of each token with a matrix for each rank.
///
/// # Shapes
/// - `values`: (B, M, C)
/// - `index`: (B, N, K) or (1, N, K) where all images share it, u32; M means the zero token
/// - `modulation`: ρ (B, N, K), or `None` for 1
/// - `weight`: (O, C, K); (O, C, κ, κ) counts as (O, C, κ²)
/// - `bias`: (O), or `None`
/// - result: (B, N, O)
///
/// Gradients reach `values`, `modulation`, `weight` and `bias`.
///
/// # Errors
/// [`crate::Error::Shape`], or an index past M.
pub fn aggregate(
    values: &Tensor,
    index: &Tensor,
    modulation: Option<&Tensor>,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let (b, m, c) = check(values, index, modulation)?;
    let (n, k) = (index.dim(1)?, index.dim(2)?);
    let o = outputs(weight, c, k)?;
    if let Some(bias) = bias {
        ensure_shape(bias.dims() == [o], "aggregate", "bias", bias, || format!("({o})"))?;
    }
    if !has_kernel(values) || weight.dtype() != values.dtype() {
        return aggregate_reference(values, index, modulation, weight, bias);
    }
    run(Form::Standard { outputs: o }, values, index, modulation, weight, bias, [b, n, m, c, k])
}

/// Aggregates the chosen neighbors of each token with a vector for each rank.
///
/// # Shapes
/// As [`aggregate`], but `weight` is (C, 1, K) and the result (B, N, C).
///
/// # Errors
/// As [`aggregate`].
pub fn aggregate_depthwise(
    values: &Tensor,
    index: &Tensor,
    modulation: Option<&Tensor>,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let (b, m, c) = check(values, index, modulation)?;
    let (n, k) = (index.dim(1)?, index.dim(2)?);
    ensure_shape(weight.dims() == [c, 1, k], "aggregate_depthwise", "weight", weight, || format!("({c}, 1, {k})"))?;
    if let Some(bias) = bias {
        ensure_shape(bias.dims() == [c], "aggregate_depthwise", "bias", bias, || format!("({c})"))?;
    }
    if !has_kernel(values) || weight.dtype() != values.dtype() {
        return aggregate_depthwise_reference(values, index, modulation, weight, bias);
    }
    run(Form::Depthwise, values, index, modulation, weight, bias, [b, n, m, c, k])
}

/// O of a kernel (O, C, K) or (O, C, κ, κ).
pub(super) fn outputs(weight: &Tensor, c: usize, k: usize) -> Result<usize> {
    let dims = weight.dims();
    let fits = dims.len() >= 3 && dims[1] == c && dims[2..].iter().product::<usize>() == k;
    ensure_shape(fits, "aggregate", "weight", weight, || format!("(O, {c}, {k})"))?;
    Ok(dims[0])
}

fn check(values: &Tensor, index: &Tensor, modulation: Option<&Tensor>) -> Result<(usize, usize, usize)> {
    ensure_shape(values.rank() == 3, "aggregate", "values", values, || "(B, M, C)".into())?;
    let (b, m, c) = values.dims3()?;
    let fits = index.rank() == 3 && (index.dim(0)? == b || index.dim(0)? == 1);
    ensure_shape(fits, "aggregate", "index", index, || format!("({b} or 1, N, K)"))?;
    check_index(index, m)?;
    if let Some(rho) = modulation {
        let (n, k) = (index.dim(1)?, index.dim(2)?);
        ensure_shape(rho.dims() == [b, n, k], "aggregate", "modulation", rho, || format!("({b}, {n}, {k})"))?;
    }
    Ok((b, m, c))
}

fn run(
    form: Form,
    values: &Tensor,
    index: &Tensor,
    modulation: Option<&Tensor>,
    weight: &Tensor,
    bias: Option<&Tensor>,
    sizes: [usize; 5],
) -> Result<Tensor> {
    // An op has three arguments: the third is the modulation or the bias. Where both are there, the bias is added after.
    let (third, bias) = match (modulation, bias) {
        (Some(rho), bias) => (Third::Modulation(rho), bias),
        (None, Some(bias)) => (Third::Bias(bias), None),
        (None, None) => (Third::Nothing, None),
    };
    let (tensor, role) = match third {
        Third::Modulation(rho) => (rho.contiguous()?, Role::Modulation),
        Third::Bias(bias) => (bias.contiguous()?, Role::Bias),
        Third::Nothing => (Tensor::zeros(1, values.dtype(), values.device())?, Role::Nothing),
    };
    let op = Aggregate { form, role, index: index.contiguous()?, sizes };
    let y = values.contiguous()?.apply_op3(&weight.contiguous()?, &tensor, op)?;
    match bias {
        None => Ok(y),
        Some(bias) => Ok(y.broadcast_add(bias)?),
    }
}

enum Third<'a> {
    Modulation(&'a Tensor),
    Bias(&'a Tensor),
    Nothing,
}

/// The plain form of [`aggregate`], in tensor operations.
///
/// # Errors
/// As [`aggregate`].
pub fn aggregate_reference(
    values: &Tensor,
    index: &Tensor,
    modulation: Option<&Tensor>,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let weight = weight.flatten_from(2)?;
    let (o, c, k) = weight.dims3()?;
    let chosen = modulated_reference(values, index, modulation)?; // (B, N, K, C)
    let (b, n, ..) = chosen.dims4()?;
    let weight = weight.permute((2, 1, 0))?.reshape((k * c, o))?;
    let y = chosen.reshape((b * n, k * c))?.matmul(&weight)?.reshape((b, n, o))?;
    match bias {
        None => Ok(y),
        Some(bias) => Ok(y.broadcast_add(bias)?),
    }
}

/// The plain form of [`aggregate_depthwise`], in tensor operations.
///
/// # Errors
/// As [`aggregate_depthwise`].
pub fn aggregate_depthwise_reference(
    values: &Tensor,
    index: &Tensor,
    modulation: Option<&Tensor>,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let chosen = modulated_reference(values, index, modulation)?; // (B, N, K, C)
    let y = chosen.broadcast_mul(&weight.squeeze(1)?.t()?.contiguous()?)?.sum(2)?;
    match bias {
        None => Ok(y),
        Some(bias) => Ok(y.broadcast_add(bias)?),
    }
}

fn modulated_reference(values: &Tensor, index: &Tensor, modulation: Option<&Tensor>) -> Result<Tensor> {
    let chosen = gather_reference(values, index)?;
    match modulation {
        None => Ok(chosen),
        Some(rho) => Ok(chosen.broadcast_mul(&rho.unsqueeze(3)?)?),
    }
}

#[derive(Clone, Copy)]
enum Form {
    Standard { outputs: usize },
    Depthwise,
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Modulation,
    Bias,
    Nothing,
}

struct Aggregate {
    form: Form,
    role: Role,
    index: Tensor,
    /// B, N, M, C, K
    sizes: [usize; 5],
}

impl CustomOp3 for Aggregate {
    fn name(&self) -> &'static str {
        "aggregate"
    }

    fn cpu_fwd(
        &self,
        v: &CpuStorage,
        v_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
        third: &CpuStorage,
        third_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let [b, n, m, c, k] = self.sizes;
        let index = index_values(&self.index)?;
        with_float!(v.dtype(), T => {
            let (v, w) = (cpu_values::<T>(v, v_layout)?, cpu_values::<T>(w, w_layout)?);
            let third = cpu_values::<T>(third, third_layout)?;
            let task = kernels::Task {
                values: v,
                index: &index,
                modulation: (self.role == Role::Modulation).then_some(third),
                sizes: [b, n, m, c, k],
            };
            let bias = (self.role == Role::Bias).then_some(third);
            Ok(match self.form {
                Form::Standard { outputs } => {
                    let branch = kernels::Branch { task, weight: w, outputs };
                    (T::to_cpu_storage_owned(kernels::standard(&[branch], bias)), Shape::from((b, n, outputs)))
                }
                Form::Depthwise => {
                    (T::to_cpu_storage_owned(kernels::depthwise(&task, w, bias)), Shape::from((b, n, c)))
                }
            })
        })
    }

    /// With u_ij = ρ_ij v_idx(i,j): du_ij = W_jᵀ dy_i; dW_j = Σ_i dy_i u_ijᵀ; dv_idx(i,j) += ρ_ij du_ij;
    /// dρ_ij = du_ij · v_idx(i,j); dbias = Σ_i dy_i.
    fn bwd(
        &self,
        v: &Tensor,
        w: &Tensor,
        third: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let index = index_values(&self.index)?;
        let grad = grad.contiguous()?;
        let device = v.device();
        let (v_storage, v_layout) = v.storage_and_layout();
        let (w_storage, w_layout) = w.storage_and_layout();
        let (third_storage, third_layout) = third.storage_and_layout();
        let (g_storage, g_layout) = grad.storage_and_layout();
        let (dv, dw, dthird) = with_float!(v.dtype(), T => {
            let third_values = values::<T>(&third_storage, third_layout)?;
            let task = kernels::Task {
                values: values::<T>(&v_storage, v_layout)?,
                index: &index,
                modulation: (self.role == Role::Modulation).then_some(third_values),
                sizes: self.sizes,
            };
            let g = values::<T>(&g_storage, g_layout)?;
            let w_values = values::<T>(&w_storage, w_layout)?;
            // Images at the entry of a network need no gradient, and theirs would be the most expensive one.
            let inputs = v.track_op() || self.role == Role::Modulation;
            let (dv, dw, drho) = match self.form {
                Form::Standard { outputs } => {
                    let dw = kernels::standard_weight_gradient(&task, g, outputs, 0, outputs);
                    let branch = kernels::Branch { task, weight: w_values, outputs };
                    let (dv, drho) = match inputs {
                        true => Some(kernels::standard_input_gradients(&[branch], g)).unzip(),
                        false => (None, None),
                    };
                    (dv, dw, drho.flatten())
                }
                Form::Depthwise => {
                    let gradients = kernels::depthwise_gradients(&task, w_values, g);
                    (Some(gradients.values), gradients.weight, gradients.modulation)
                }
            };
            let dthird = match self.role {
                Role::Modulation => drho,
                Role::Bias => Some(column_sums(g, third.elem_count())),
                Role::Nothing => None,
            };
            let tensor = |values: Option<Vec<T>>, like: &Tensor| {
                values.map(|values| Tensor::from_vec(values, like.shape(), device)).transpose()
            };
            Ok((tensor(dv, v)?, tensor(Some(dw), w)?, tensor(dthird, third)?))
        })?;
        let dv = dv.filter(|_| v.track_op());
        let deliver = |argument: &Tensor, gradient: Option<Tensor>| gradient.and_then(|g| deliver(argument, g));
        Ok((deliver(v, dv), deliver(w, dw), deliver(third, dthird)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::check;
    use crate::testing::kernels::{DTYPES, agree, output_and_gradient_bits, same_for_threads, strided, variable};
    use candle_core::{DType, Device, Var};

    type Op = fn(&Tensor, &Tensor, Option<&Tensor>, &Tensor, Option<&Tensor>) -> Result<Tensor>;

    fn index(b: usize, n: usize, k: usize, m: usize) -> Tensor {
        let rows: Vec<u32> = (0..b * n * k).map(|i| (i * 7 % (m + 1)) as u32).collect();
        Tensor::from_vec(rows, (b, n, k), &Device::Cpu).unwrap()
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

    fn each(dtype: DType, f: impl Fn(&str, [Op; 2], &[Var], &Tensor, Option<usize>, Option<usize>)) {
        for Case { sizes: [b, n, m, c, k, o], shared } in CASES {
            let index = index(if shared { 1 } else { b }, n, k, m);
            for standard in [true, false] {
                let (weight, outputs) = if standard { ((o, c, k), o) } else { ((c, 1, k), c) };
                for (modulated, biased) in [(false, false), (false, true), (true, false), (true, true)] {
                    let mut inputs = vec![variable((b, m, c), dtype, 1), variable(weight, dtype, 2)];
                    let modulation = modulated.then(|| {
                        inputs.push(variable((b, n, k), dtype, 3));
                        inputs.len() - 1
                    });
                    let bias = biased.then(|| {
                        inputs.push(variable(outputs, dtype, 4));
                        inputs.len() - 1
                    });
                    let ops: [Op; 2] = if standard {
                        [aggregate, aggregate_reference]
                    } else {
                        [aggregate_depthwise, aggregate_depthwise_reference]
                    };
                    let label = format!("{dtype:?} {b},{n},{m},{c},{k},{o} standard={standard}");
                    f(&label, ops, &inputs, &index, modulation, bias);
                }
            }
        }
    }

    #[test]
    fn equals_the_reference() {
        for (dtype, tolerance) in DTYPES {
            each(dtype, |label, [kernel, reference], x, index, modulation, bias| {
                let call = |op: Op| {
                    op(&x[0], index, modulation.map(|i| x[i].as_tensor()), &x[1], bias.map(|i| x[i].as_tensor()))
                };
                agree(label, x, 10.0 * tolerance, || call(kernel), || call(reference));
            });
        }
    }

    #[test]
    fn gradients_are_exact() {
        let index = index(2, 5, 3, 4);
        for standard in [true, false] {
            let (weight, op) =
                if standard { ((4, 3, 3), aggregate as Op) } else { ((3, 1, 3), aggregate_depthwise as Op) };
            let outputs = if standard { 4 } else { 3 };
            let x = [
                variable((2, 4, 3), DType::F64, 1),
                variable(weight, DType::F64, 2),
                variable((2, 5, 3), DType::F64, 3),
                variable(outputs, DType::F64, 4),
            ];
            let f = || op(&x[0], &index, Some(&x[2]), &x[1], Some(&x[3]));
            check::gradients("modulated", &x, f, 1e-7).unwrap();
            let plain = [x[0].clone(), x[1].clone(), x[3].clone()];
            let f = || op(&x[0], &index, None, &x[1], Some(&x[3]));
            check::gradients("plain", &plain, f, 1e-7).unwrap();
        }
    }

    #[test]
    fn threads_and_strides_change_nothing() {
        each(DType::F32, |label, [kernel, _], x, index, modulation, bias| {
            let call = |values: &Tensor| {
                let rho = modulation.map(|i| x[i].as_tensor());
                kernel(values, index, rho, &x[1], bias.map(|i| x[i].as_tensor()))
            };
            same_for_threads(label, || output_and_gradient_bits(x, || call(&x[0])));
            let found = call(&strided(&x[0])).unwrap();
            check::compare(label, &found, &call(&x[0]).unwrap(), 0.0).unwrap();
        });
    }

    #[test]
    fn an_index_past_the_zero_token_is_refused() {
        let (v, w) = (variable((1, 4, 2), DType::F32, 1), variable((3, 2, 1), DType::F32, 2));
        let index = Tensor::new(&[[[5u32]]], &Device::Cpu).unwrap();
        let error = aggregate(&v, &index, None, &w, None).unwrap_err().to_string();
        assert!(error.contains("`index` is 5") && error.contains("0 to 4"), "{error}");
    }
}
