//! The linear layer on rows.

use crate::kernel::float::{cpu_values, has_kernel, values, with_float};
use crate::kernel::matrix::{Matrix, column_sums, product};
use crate::{Result, error::ensure_shape, kernel::backward::deliver};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, Layout, Shape, Tensor, WithDType, backend::BackendStorage};

/// x · weightᵀ + bias.
///
/// # Shapes
/// x is (…, I), weight (O, I), bias (O); the result is (…, O).
///
/// # Gradient
/// Reaches x, weight and bias; one that is no part of the graph costs nothing.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) where the shapes do not fit.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    check_shapes(x, weight, bias)?;
    if !has_kernel(x) {
        return linear_reference(x, weight, bias);
    }
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    Ok(match bias {
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, Linear)?,
        None => x.apply_op2(&weight, Linear)?,
    })
}

/// [`linear`] in tensor operations.
///
/// # Errors
/// As [`linear`].
pub fn linear_reference(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    check_shapes(x, weight, bias)?;
    let (outputs, inputs) = weight.dims2()?;
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = outputs;
    }
    let y = x.reshape(((), inputs))?.matmul(&weight.t()?)?; // (R, O)
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    Ok(y.reshape(shape)?)
}

fn check_shapes(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<()> {
    let inputs = x.dim(D::Minus1)?;
    let fits = weight.rank() == 2 && weight.dims()[1] == inputs;
    ensure_shape(fits, "linear", "weight", weight, || format!("(O, {inputs})"))?;
    let outputs = weight.dims()[0];
    if let Some(bias) = bias {
        ensure_shape(bias.dims() == [outputs], "linear", "bias", bias, || format!("({outputs})"))?;
    }
    Ok(())
}

struct Linear;

impl Linear {
    fn forward(
        x: (&CpuStorage, &Layout),
        weight: (&CpuStorage, &Layout),
        bias: Option<(&CpuStorage, &Layout)>,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (outputs, inputs) = weight.1.shape().dims2()?;
        let mut shape = x.1.shape().dims().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = outputs;
        }
        with_float!(x.0.dtype(), T => {
            let rows = x.1.shape().elem_count() / inputs.max(1);
            let rows = Matrix::new(cpu_values::<T>(x.0, x.1)?, rows, inputs);
            let weight = Matrix::new(cpu_values(weight.0, weight.1)?, outputs, inputs);
            let bias = bias.map(|(storage, layout)| cpu_values(storage, layout)).transpose()?;
            Ok((T::to_cpu_storage_owned(product(rows, weight.transposed(), bias)), Shape::from(shape)))
        })
    }

    /// dx = dy · weight and dweight = dyᵀ · x.
    fn backward(x: &Tensor, weight: &Tensor, dy: &Tensor) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let (outputs, inputs) = weight.dims2()?;
        let ((x_storage, x_layout), (w_storage, w_layout)) = (x.storage_and_layout(), weight.storage_and_layout());
        let (dy_storage, dy_layout) = dy.storage_and_layout();
        with_float!(x.dtype(), T => {
            let rows = x.elem_count() / inputs.max(1);
            let dy = Matrix::new(values::<T>(&dy_storage, dy_layout)?, rows, outputs);
            let mut gradients = (None, None);
            if x.track_op() {
                let dx = product(dy, Matrix::new(values(&w_storage, w_layout)?, outputs, inputs), None);
                gradients.0 = deliver(x, Tensor::from_vec(dx, x.shape(), x.device())?);
            }
            if weight.track_op() {
                let x = Matrix::new(values(&x_storage, x_layout)?, rows, inputs);
                let dweight = product(dy.transposed(), x, None);
                gradients.1 = deliver(weight, Tensor::from_vec(dweight, weight.shape(), weight.device())?);
            }
            Ok(gradients)
        })
    }
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        Self::forward((x, x_layout), (weight, weight_layout), None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        Self::backward(x, weight, &dy.contiguous()?)
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        Self::forward((x, x_layout), (weight, weight_layout), Some((bias, bias_layout)))
    }

    /// As without bias, and dbias = Σ dy over the rows.
    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let (dx, dweight) = Self::backward(x, weight, &dy)?;
        if !bias.track_op() {
            return Ok((dx, dweight, None));
        }
        let (storage, layout) = dy.storage_and_layout();
        let dbias = with_float!(dy.dtype(), T => {
            let sums = column_sums(values::<T>(&storage, layout)?, bias.elem_count());
            Tensor::from_vec(sums, bias.shape(), bias.device())
        })?;
        Ok((dx, dweight, deliver(bias, dbias)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{
        check,
        testing::kernels::{DTYPES, agree, output_and_gradient_bits, same_for_threads, strided, variable},
    };
    use candle_core::{DType, Var};

    fn inputs(rows: usize, inputs: usize, outputs: usize, dtype: DType) -> [Var; 3] {
        [variable((rows, inputs), dtype, 1), variable((outputs, inputs), dtype, 2), variable(outputs, dtype, 3)]
    }

    #[test]
    fn equals_the_reference() {
        for (dtype, tolerance) in DTYPES {
            for (rows, from, to) in
                [(1, 1, 1), (3, 5, 7), (1, 300, 40), (257, 16, 33), (33, 16, 513), (128, 512, 64), (1100, 12, 10)]
            {
                let vars = inputs(rows, from, to, dtype);
                let [x, w, b] = &vars;
                let label = format!("{rows}x{from}->{to}");
                let tolerance = 20.0 * tolerance;
                agree(&label, &vars, tolerance, || linear(x, w, Some(b)), || linear_reference(x, w, Some(b)));
                agree(&label, &vars[..2], tolerance, || linear(x, w, None), || linear_reference(x, w, None));
            }
            let w = variable((7, 33), dtype, 2);
            let x = variable((2, 3, 5, 33), dtype, 1);
            let vars = [x.clone(), w.clone()];
            let kernel = || linear(&strided(&x), &strided(&w), None);
            agree("strided", &vars, 20.0 * tolerance, kernel, || linear_reference(&x, &w, None));
        }
    }

    #[test]
    fn what_is_no_part_of_the_graph_gets_no_gradient() {
        let [x, w, b] = inputs(4, 3, 2, DType::F32);
        let data = x.as_detached_tensor();
        let grads = linear(&data, &w, Some(&b)).unwrap().sum_all().unwrap().backward().unwrap();
        assert!(grads.get(&data).is_none() && grads.get(w.as_tensor()).is_some() && grads.get(b.as_tensor()).is_some());
    }

    #[test]
    fn bad_shapes_are_named() {
        let [x, w, b] = inputs(4, 3, 2, DType::F32);
        let line = linear(&x, &w.t().unwrap(), None).unwrap_err().to_string();
        assert!(line.contains("linear: `weight` has shape [3, 2]; expected (O, 3)"), "{line}");
        let line = linear(&x, &w, Some(&b.narrow(0, 0, 1).unwrap())).unwrap_err().to_string();
        assert!(line.contains("linear: `bias` has shape [1]; expected (2)"), "{line}");
    }

    #[test]
    fn gradient_and_threads() {
        let vars = inputs(4, 3, 5, DType::F64);
        let [x, w, b] = &vars;
        check::gradients("linear", &vars, || linear(x, w, Some(b)), 1e-6).unwrap();
        check::gradients("linear", &vars[..2], || linear(x, w, None), 1e-6).unwrap();
        let vars = inputs(1100, 65, 70, DType::F32);
        let [x, w, b] = &vars;
        same_for_threads("linear", || output_and_gradient_bits(&vars, || linear(x, w, Some(b))));
    }
}
