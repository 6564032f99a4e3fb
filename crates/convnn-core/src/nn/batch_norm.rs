//! Batch normalization of rows, fused with the ReLU that follows it.
#![allow(unsafe_code)]

use crate::kernel::float::{Float, values, with_float};
use crate::kernel::op::{Backward, Gradient, Input, Op, apply3, kernel_input, rows_of};
use crate::kernel::parallel::{map_tasks, reduce_tasks, task_of_rows};
use crate::nn::batch_norm_kernels::{Channels, add_moments, add_sums, apply, backward};
use crate::nn::relu::relu_reference;
use crate::{Pass, Result, error::ensure_shape};
use candle_core::{D, DType, Shape, Tensor, Var};
use candle_nn::{Module, VarBuilder, init};

/// Added to the variance.
const EPSILON: f64 = 1e-5;

/// Batch normalization of the last axis, followed by an activation: (…, C) to (…, C) by [`batch_norm`].
///
/// Parameters: `weight` (C), initially 1, and `bias` (C), initially 0. Running statistics, saved with the parameters but
/// moved by training passes instead of gradients: `running_mean` (C), initially 0, and `running_var` (C), initially 1.
///
/// Candle's `BatchNorm` normalizes axis 1 of (B, C, …) instead.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Var,
    running_var: Var,
    activation: Activation,
}

impl BatchNorm {
    /// A layer over C = `channels`.
    ///
    /// If `vb` holds plain tensors instead of variables, training passes move private copies of the statistics.
    ///
    /// # Errors
    /// If `vb` holds tensors of other shapes.
    pub fn new(channels: usize, activation: Activation, vb: VarBuilder<'_>) -> Result<Self> {
        let get = |name, init| vb.get_with_hints(channels, name, init);
        Ok(Self {
            weight: get("weight", init::ONE)?,
            bias: get("bias", init::ZERO)?,
            // For a variable this is the same variable, which `vb` saves.
            running_mean: Var::from_tensor(&get("running_mean", init::ZERO)?)?,
            running_var: Var::from_tensor(&get("running_var", init::ONE)?)?,
            activation,
        })
    }

    /// Normalizes by the statistics of the batch and updates the running ones if `pass` is a training pass; otherwise
    /// normalizes by the running statistics.
    ///
    /// # Errors
    /// As [`batch_norm`].
    pub fn forward_t(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let (running_mean, running_var) = (&self.running_mean, &self.running_var);
        let statistics = if pass.is_training() {
            Statistics::Batch { running_mean, running_var, momentum: pass.momentum() }
        } else {
            Statistics::Running { mean: running_mean, variance: running_var }
        };
        batch_norm(x, &self.weight, &self.bias, statistics, self.activation)
    }
}

/// In evaluation: normalizes by the running statistics.
impl Module for BatchNorm {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        Ok(self.forward_t(x, &Pass::evaluation())?)
    }
}

/// Where mean and variance come from.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Statistics<'a> {
    /// From the batch, for training. The running statistics, each (C), move towards those of the batch, with the
    /// unbiased variance.
    Batch {
        /// Running mean, updated in place.
        running_mean: &'a Var,
        /// Running variance, updated in place.
        running_var: &'a Var,
        /// How far they move: 0 is not at all, 1 is all the way.
        momentum: f64,
    },
    /// Given, each (C), for evaluation. They get no gradient.
    Running {
        /// Mean.
        mean: &'a Tensor,
        /// Variance.
        variance: &'a Tensor,
    },
}

/// The activation fused with the normalization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// No activation.
    None,
    /// max(·, 0), with gradient 0 at 0.
    Relu,
}

/// activation((x − mean) / √(variance + 1e-5) · weight + bias) per channel, with the biased variance.
///
/// # Shapes
/// x and the result are (…, C); weight, bias and the statistics are (C).
///
/// # Gradient
/// Flows to x, weight and bias; with [`Statistics::Batch`] also through mean and variance. Kept for the backward pass: x
/// and two numbers per channel.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if a parameter or statistic is not (C), or a batch has fewer than two rows;
/// [`Error::DType`](crate::Error::DType).
pub fn batch_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    statistics: Statistics<'_>,
    activation: Activation,
) -> Result<Tensor> {
    check_shapes(x, weight, bias, statistics)?;
    if !x.device().is_cpu() {
        return batch_norm_reference(x, weight, bias, statistics, activation);
    }
    let x = x.contiguous()?;
    let (mean, variance) = match statistics {
        Statistics::Batch { .. } => batch_moments(&x)?,
        Statistics::Running { mean, variance } => (numbers(mean)?, numbers(variance)?),
    };
    let inverse = variance.iter().map(|v| 1.0 / (v + EPSILON).sqrt()).collect();
    let from_batch = matches!(statistics, Statistics::Batch { .. });
    let y = apply3(BatchNormOp { mean: mean.clone(), inverse, from_batch, activation }, &x, weight, bias)?;
    if let Statistics::Batch { running_mean, running_var, momentum } = statistics {
        let rows = rows_of(x.dims()) as f64;
        let unbiased: Vec<f64> = variance.iter().map(|v| v * rows / (rows - 1.0)).collect();
        update(running_mean, &Tensor::from_slice(&mean, mean.len(), x.device())?, momentum)?;
        update(running_var, &Tensor::from_slice(&unbiased, mean.len(), x.device())?, momentum)?;
    }
    Ok(y)
}

/// [`batch_norm`] in tensor operations.
pub fn batch_norm_reference(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    statistics: Statistics<'_>,
    activation: Activation,
) -> Result<Tensor> {
    check_shapes(x, weight, bias, statistics)?;
    let channels = x.dim(D::Minus1)?;
    let rows = x.reshape((rows_of(x.dims()), channels))?; // (R, C)
    let (centered, variance) = match statistics {
        Statistics::Batch { running_mean, running_var, momentum } => {
            let mean = rows.mean(0)?; // (C)
            let centered = rows.broadcast_sub(&mean)?; // (R, C)
            let variance = centered.sqr()?.mean(0)?; // (C)
            let count = rows.dim(0)? as f64;
            update(running_mean, &mean, momentum)?;
            update(running_var, &(&variance * (count / (count - 1.0)))?, momentum)?;
            (centered, variance)
        }
        Statistics::Running { mean, variance } => (rows.broadcast_sub(&mean.detach())?, variance.detach()),
    };
    let y = centered
        .broadcast_div(&(variance + EPSILON)?.sqrt()?)?
        .broadcast_mul(weight)?
        .broadcast_add(bias)?
        .reshape(x.shape())?;
    match activation {
        Activation::None => Ok(y),
        Activation::Relu => relu_reference(&y),
    }
}

fn check_shapes(x: &Tensor, weight: &Tensor, bias: &Tensor, statistics: Statistics<'_>) -> Result<()> {
    let op = "batch_norm";
    let channels = x.dim(D::Minus1)?;
    let (mean, variance) = match statistics {
        Statistics::Batch { running_mean, running_var, .. } => {
            ensure_shape(rows_of(x.dims()) >= 2, op, "x", x, || {
                "at least two rows, because one row has no variance".into()
            })?;
            (running_mean.as_tensor(), running_var.as_tensor())
        }
        Statistics::Running { mean, variance } => (mean, variance),
    };
    for (name, tensor) in [("weight", weight), ("bias", bias), ("running_mean", mean), ("running_var", variance)] {
        ensure_shape(tensor.dims() == [channels], op, name, tensor, || format!("({channels})"))?;
    }
    Ok(())
}

/// Moves a running statistic towards the statistic of the batch.
fn update(running: &Var, batch: &Tensor, momentum: f64) -> Result<()> {
    if running.elem_count() == 0 {
        // Candle's arithmetic returns an empty tensor itself, which a variable cannot be set to.
        return Ok(());
    }
    let batch = batch.detach().to_dtype(running.dtype())?;
    Ok(running.set(&((running.as_detached_tensor() * (1.0 - momentum))? + (batch * momentum)?)?)?)
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.to_dtype(DType::F64)?.to_vec1()?)
}

/// Mean and biased variance of every column of x (…, C).
fn batch_moments(x: &Tensor) -> Result<(Vec<f64>, Vec<f64>)> {
    let channels = x.dim(D::Minus1)?;
    let rows = rows_of(x.dims()) as f64;
    let x = kernel_input(x)?;
    let (storage, layout) = x.storage_and_layout();
    let (origin, sums) = with_float!(x.dtype(), T => {
        let x = values::<T>(&storage, layout)?;
        // Sums of differences from the first row do not cancel as sums of the values themselves would.
        let origin = &x[..channels];
        let parts = reduce_tasks([x], task_of_rows(channels), |[x]| {
            let mut sums = vec![0f64; 2 * channels];
            let (first, second) = sums.split_at_mut(channels);
            add_moments(x, origin, first, second);
            sums
        });
        candle_core::Result::Ok((origin.iter().map(|v| v.widen()).collect::<Vec<f64>>(), total(parts)))
    })?;
    let (first, second) = sums.split_at(channels);
    let mean = origin.iter().zip(first).map(|(o, s)| o + s / rows).collect();
    let variance = first.iter().zip(second).map(|(s, q)| not_negative((q - s * s / rows) / rows)).collect();
    Ok((mean, variance))
}

/// 0 for negative numbers. NaN stays NaN, unlike in [`f64::max`].
fn not_negative(x: f64) -> f64 {
    if x < 0.0 { 0.0 } else { x }
}

/// The sum over all tasks, added in order.
fn total(parts: Vec<Vec<f64>>) -> Vec<f64> {
    let mut parts = parts.into_iter();
    let mut total = parts.next().unwrap_or_default();
    for part in parts {
        for (t, p) in total.iter_mut().zip(part) {
            *t += p;
        }
    }
    total
}

struct BatchNormOp {
    mean: Vec<f64>,
    /// 1/√(variance + ε).
    inverse: Vec<f64>,
    /// Whether mean and inverse depend on x.
    from_batch: bool,
    activation: Activation,
}

impl BatchNormOp {
    fn channels<T: Float>(&self, weight: &[T], bias: &[T]) -> Channels<T> {
        Channels {
            mean: self.mean.iter().map(|&m| T::narrow(m)).collect(),
            scale: self.inverse.iter().zip(weight).map(|(i, w)| T::narrow(i * w.widen())).collect(),
            shift: bias.to_vec(),
            activation: self.activation,
        }
    }
}

impl Op<3> for BatchNormOp {
    const NAME: &'static str = "batch_norm";
    const INPUTS: [&'static str; 3] = ["x", "weight", "bias"];

    fn forward<T: Float>(&self, [x, weight, bias]: [Input<'_, T>; 3]) -> Result<(Vec<T>, Shape)> {
        let channels = self.channels(weight.values, bias.values);
        let task = task_of_rows(self.mean.len());
        // SAFETY: `apply` writes every element.
        let (y, _) = unsafe { map_tasks([x.values], task, |_, [x], y| apply(x, &channels, y)) };
        Ok((y, Shape::from(x.dims)))
    }

    /// With x̂ = (x − mean) · inverse and g the gradient before the activation, over R rows:
    /// dweight = Σ g · x̂, dbias = Σ g, dx = weight · inverse · (g − dbias / R − x̂ · dweight / R);
    /// without the last two terms if the statistics are given.
    fn backward<T: Float>(&self, pass: Backward<'_, T, 3>) -> Result<[Gradient<T>; 3]> {
        let Backward { inputs: [x, weight, bias], gradient: dy, wanted, .. } = pass;
        let width = self.mean.len();
        let task = task_of_rows(width);
        let channels = self.channels(weight.values, bias.values);
        let inputs = [x.values, dy];
        let sums = total(reduce_tasks(inputs, task, |[x, dy]| {
            let mut sums = vec![0f64; 2 * width];
            let (g, gx) = sums.split_at_mut(width);
            add_sums(x, dy, &channels, g, gx);
            sums
        }));
        let (dbias, gx) = sums.split_at(width);
        let dweight: Vec<f64> = gx.iter().zip(&self.inverse).map(|(s, i)| s * i).collect();
        let dx = Gradient::when(wanted[0], || {
            let share = if self.from_batch { width as f64 / x.values.len() as f64 } else { 0.0 };
            let of_g: Vec<T> = dbias.iter().map(|s| T::narrow(s * share)).collect();
            let of_x: Vec<T> = dweight.iter().zip(&self.inverse).map(|(s, i)| T::narrow(s * i * share)).collect();
            // SAFETY: `backward` writes every element.
            unsafe { map_tasks(inputs, task, |_, [x, dy], dx| backward(x, dy, &channels, &of_g, &of_x, dx)) }.0
        });
        let parameter = |sums: &[f64]| Gradient::Values(sums.iter().map(|&v| T::narrow(v)).collect());
        Ok([dx, parameter(&dweight), parameter(dbias)])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{
        testing,
        testing::kernels::{DTYPES, agree, bits, output_and_gradient_bits, same_for_threads, strided, variable},
    };
    use candle_core::Device;

    const ACTIVATIONS: [Activation; 2] = [Activation::None, Activation::Relu];

    fn inputs(rows: usize, channels: usize, dtype: DType) -> [Var; 3] {
        let x = (variable((rows, channels), dtype, 1).as_tensor() + 0.5).unwrap();
        let weight = (variable(channels, dtype, 2).as_tensor() + 1.5).unwrap();
        [Var::from_tensor(&x).unwrap(), Var::from_tensor(&weight).unwrap(), variable(channels, dtype, 3)]
    }

    fn running(channels: usize, dtype: DType) -> [Var; 2] {
        let variance = (variable(channels, dtype, 5).as_tensor() + 1.2).unwrap();
        [variable(channels, dtype, 4), Var::from_tensor(&variance).unwrap()]
    }

    #[test]
    fn equals_the_reference() {
        for (dtype, tolerance) in DTYPES {
            let tolerance = 10.0 * tolerance;
            for (rows, channels) in [(2, 1), (5, 3), (7, 16), (33, 17), (1100, 31), (513, 64), (40, 512), (2, 20_000)] {
                let vars = inputs(rows, channels, dtype);
                let [x, w, b] = &vars;
                for activation in ACTIVATIONS {
                    let label = format!("{rows}x{channels} {activation:?} {dtype:?}");
                    let [mean, var] = running(channels, dtype);
                    let [mean2, var2] = running(channels, dtype);
                    let batch = Statistics::Batch { running_mean: &mean, running_var: &var, momentum: 0.1 };
                    let batch2 = Statistics::Batch { running_mean: &mean2, running_var: &var2, momentum: 0.1 };
                    let kernel = || batch_norm(x, w, b, batch, activation);
                    agree(&label, &vars, tolerance, kernel, || batch_norm_reference(x, w, b, batch2, activation));
                    testing::compare(&label, &mean, &mean2, tolerance).unwrap();
                    testing::compare(&label, &var, &var2, tolerance).unwrap();
                    let given = Statistics::Running { mean: &mean, variance: &var };
                    let kernel = || batch_norm(x, w, b, given, activation);
                    agree(&label, &vars, tolerance, kernel, || batch_norm_reference(x, w, b, given, activation));
                }
            }
            let vars = inputs(6, 33, dtype);
            let [x, w, b] = &vars;
            let [mean, var] = running(33, dtype);
            let batch = Statistics::Batch { running_mean: &mean, running_var: &var, momentum: 0.1 };
            let kernel = || batch_norm(&strided(x), w, b, batch, Activation::Relu);
            agree("strided", &vars, tolerance, kernel, || batch_norm_reference(x, w, b, batch, Activation::Relu));
        }
    }

    #[test]
    fn running_statistics_move_a_tenth_and_variance_is_unbiased() {
        let x = Tensor::new(&[[1f32], [3.0], [5.0], [7.0]], &Device::Cpu).unwrap();
        let one = Tensor::ones(1, DType::F32, &Device::Cpu).unwrap();
        let zero = one.zeros_like().unwrap();
        let (mean, var) = (Var::from_tensor(&zero).unwrap(), Var::from_tensor(&one).unwrap());
        let batch = Statistics::Batch { running_mean: &mean, running_var: &var, momentum: 0.1 };
        let y = batch_norm(&x, &one, &zero, batch, Activation::None).unwrap();
        // Mean 4, biased variance 5, unbiased 20/3.
        let expected = [-3f64, -1.0, 1.0, 3.0].map(|v| v / 5.00001f64.sqrt());
        let expected = Tensor::from_slice(&expected, (4, 1), &Device::Cpu).unwrap();
        testing::compare("y", &y, &expected, 1e-6).unwrap();
        assert!((mean.to_vec1::<f32>().unwrap()[0] - 0.4).abs() < 1e-6);
        assert!((var.to_vec1::<f32>().unwrap()[0] - (0.9 + 0.1 * 20.0 / 3.0)).abs() < 1e-6);
    }

    #[test]
    fn a_large_mean_does_not_drown_the_variance() {
        let x = (variable((3000, 5), DType::F64, 1).as_tensor() + 1000.0).unwrap().to_dtype(DType::F32).unwrap();
        let exact = x.to_dtype(DType::F64).unwrap();
        let (mean, variance) = batch_moments(&x).unwrap();
        let centered = exact.broadcast_sub(&exact.mean_keepdim(0).unwrap()).unwrap();
        let expected = centered.sqr().unwrap().mean(0).unwrap();
        testing::compare("mean", &Tensor::new(&mean[..], &Device::Cpu).unwrap(), &exact.mean(0).unwrap(), 1e-12)
            .unwrap();
        testing::compare("variance", &Tensor::new(&variance[..], &Device::Cpu).unwrap(), &expected, 1e-10).unwrap();
    }

    #[test]
    fn bad_shapes_are_named() {
        let [x, w, b] = inputs(1, 4, DType::F32);
        let [mean, var] = running(4, DType::F32);
        let batch = Statistics::Batch { running_mean: &mean, running_var: &var, momentum: 0.1 };
        let line = batch_norm(&x, &w, &b, batch, Activation::None).unwrap_err().to_string();
        assert!(line.contains("batch_norm: `x` has shape [1, 4]") && line.contains("two rows"), "{line}");
        let [short, _] = running(3, DType::F32);
        let given = Statistics::Running { mean: &short, variance: &var };
        let line = batch_norm(&x, &w, &b, given, Activation::None).unwrap_err().to_string();
        assert!(line.contains("`running_mean` has shape [3]; expected (4)"), "{line}");
    }

    #[test]
    fn gradients_by_finite_differences() {
        let vars = inputs(6, 5, DType::F64);
        let [x, w, b] = &vars;
        let [mean, var] = running(5, DType::F64);
        for activation in ACTIVATIONS {
            // Each call moves the running statistics, on which a batch's output does not depend.
            let batch = Statistics::Batch { running_mean: &mean, running_var: &var, momentum: 0.1 };
            testing::gradients("batch", &vars, || batch_norm(x, w, b, batch, activation), 1e-6).unwrap();
            let given = Statistics::Running { mean: &mean, variance: &var };
            testing::gradients("running", &vars, || batch_norm(x, w, b, given, activation), 1e-6).unwrap();
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let vars = inputs(1500, 48, DType::F32);
        let [x, w, b] = &vars;
        same_for_threads("batch_norm", || {
            let [mean, var] = running(48, DType::F32);
            let batch = Statistics::Batch { running_mean: &mean, running_var: &var, momentum: 0.1 };
            let mut all = output_and_gradient_bits(&vars, || batch_norm(x, w, b, batch, Activation::Relu));
            all.extend(bits(&mean));
            all.extend(bits(&var));
            all
        });
    }

    #[test]
    fn empty_inputs() {
        for (rows, channels) in [(0, 5), (5, 0)] {
            let vars = inputs(rows, channels, DType::F32);
            let [x, w, b] = &vars;
            let [mean, var] = running(channels, DType::F32);
            let given = Statistics::Running { mean: &mean, variance: &var };
            let y = batch_norm(x, w, b, given, Activation::Relu).unwrap();
            assert_eq!(y.dims(), [rows, channels]);
            let grads = y.backward().unwrap();
            for input in &vars {
                let gradient = grads.get(input.as_tensor()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
                assert_eq!(gradient, vec![0.0; input.elem_count()]);
            }
            let batch = Statistics::Batch { running_mean: &mean, running_var: &var, momentum: 0.1 };
            let y = batch_norm(x, w, b, batch, Activation::Relu);
            // Without rows there are no statistics; without channels there is nothing to compute.
            if rows == 0 {
                assert!(y.unwrap_err().to_string().contains("two rows"));
            } else {
                assert!(y.unwrap().backward().unwrap().get(x.as_tensor()).unwrap().dims() == [5, 0]);
            }
        }
    }

    #[test]
    fn running_statistics_do_not_hide_nan() {
        let x = Tensor::new(&[[1f32, f32::NAN], [3.0, 1.0], [2.0, 0.0]], &Device::Cpu).unwrap();
        let [_, w, b] = inputs(3, 2, DType::F32);
        for f in [batch_norm, batch_norm_reference] {
            let [mean, var] = running(2, DType::F32);
            let batch = Statistics::Batch { running_mean: &mean, running_var: &var, momentum: 0.1 };
            let y = f(&x, &w, &b, batch, Activation::None).unwrap().to_vec2::<f32>().unwrap();
            assert!(y.iter().all(|row| row[0].is_finite() && row[1].is_nan()), "{y:?}");
            for statistic in [mean, var] {
                let values = statistic.to_vec1::<f32>().unwrap();
                assert!(values[0].is_finite() && values[1].is_nan(), "{values:?}");
            }
        }
    }
}
