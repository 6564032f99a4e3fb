//! Linear layers.

use crate::kernel::float::Float;
use crate::kernel::matrix::{Matrix, column_sums, product};
use crate::kernel::op::{Backward, Gradient, Input, Op, apply2, apply3, rows_of};
use crate::nn::repeated_linear::repeated_linear;
use crate::{Result, error::ensure_shape};
use candle_core::{D, Shape, Tensor};
use candle_nn::{Init, Module, VarBuilder};

/// A linear layer: (…, I) to (…, O) by [`linear`].
///
/// Parameters: `weight` (O, I) and, unless left out, `bias` (O), with PyTorch's default initial values, uniform in ±1/√I.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// A layer with a bias.
    ///
    /// # Errors
    /// If `vb` holds tensors of other shapes.
    pub fn new(in_features: usize, out_features: usize, vb: VarBuilder<'_>) -> Result<Self> {
        Self::with_gain(in_features, out_features, 1.0, vb)
    }

    /// As [`Self::new`], with initial values `gain` times as large.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_gain(in_features: usize, out_features: usize, gain: f64, vb: VarBuilder<'_>) -> Result<Self> {
        let init = uniform(in_features, gain);
        let weight = vb.get_with_hints((out_features, in_features), "weight", init)?;
        Ok(Self { weight, bias: Some(vb.get_with_hints(out_features, "bias", init)?) })
    }

    /// A layer without a bias.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn without_bias(in_features: usize, out_features: usize, vb: VarBuilder<'_>) -> Result<Self> {
        let weight = vb.get_with_hints((out_features, in_features), "weight", uniform(in_features, 1.0))?;
        Ok(Self { weight, bias: None })
    }

    /// A layer of existing tensors: `weight` (O, I) and `bias` (O).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape).
    pub fn from_tensors(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        ensure_shape(weight.rank() == 2, "linear", "weight", &weight, || "(O, I)".into())?;
        if let Some(bias) = &bias {
            let outputs = weight.dims()[0];
            ensure_shape(bias.dims() == [outputs], "linear", "bias", bias, || format!("({outputs})"))?;
        }
        Ok(Self { weight, bias })
    }

    /// (O, I).
    pub const fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// (O), if the layer has one.
    pub const fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// The layer for the `i`-th of `parts` equal shares of the outputs.
    ///
    /// Slicing the weight is cheaper than slicing the output, whose gradients would have to be put together again.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) unless there are `parts` equal shares and an `i`-th among them.
    pub fn part(&self, i: usize, parts: usize) -> Result<Self> {
        let outputs = self.weight.dim(0)?;
        let fits = i < parts && outputs.is_multiple_of(parts);
        ensure_shape(fits, "linear", "weight", &self.weight, || format!("part {i} of {parts} equal parts of O"))?;
        let share = |t: &Tensor| t.narrow(0, i * (outputs / parts), outputs / parts);
        Ok(Self { weight: share(&self.weight)?, bias: self.bias.as_ref().map(share).transpose()? })
    }

    /// The layer applied to `repeats` copies of each input, side by side; see [`repeated_linear`].
    ///
    /// # Errors
    /// As [`repeated_linear`].
    pub fn forward_repeated(&self, x: &Tensor, repeats: usize) -> Result<Tensor> {
        repeated_linear(x, &self.weight, self.bias.as_ref(), repeats)
    }
}

fn uniform(in_features: usize, gain: f64) -> Init {
    let bound = gain / (in_features.max(1) as f64).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}

impl Module for Linear {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        Ok(linear(x, &self.weight, self.bias.as_ref())?)
    }
}

/// x · weightᵀ + bias.
///
/// # Shapes
/// x is (…, I), weight (O, I), bias (O); the result is (…, O).
///
/// # Gradient
/// Flows to x, weight and bias; inputs outside the graph are skipped.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) and [`Error::DType`](crate::Error::DType).
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    check_shapes(x, weight, bias)?;
    if !x.device().is_cpu() {
        return linear_reference(x, weight, bias);
    }
    match bias {
        Some(bias) => apply3(LinearOp, x, weight, bias),
        None => apply2(LinearOp, x, weight),
    }
}

/// [`linear`] in tensor operations.
pub fn linear_reference(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    check_shapes(x, weight, bias)?;
    let (outputs, inputs) = weight.dims2()?;
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = outputs;
    }
    let y = x.reshape((rows_of(x.dims()), inputs))?.matmul(&weight.t()?)?; // (R, O)
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

struct LinearOp;

impl LinearOp {
    fn product<T: Float>(x: Input<'_, T>, weight: Input<'_, T>, bias: Option<&[T]>) -> (Vec<T>, Shape) {
        let mut shape = x.dims.to_vec();
        if let Some(last) = shape.last_mut() {
            *last = weight.dims[0];
        }
        (product(x.matrix(), weight.matrix().transposed(), bias), Shape::from(shape))
    }

    /// dx = dy · weight and dweight = dyᵀ · x.
    fn gradients<T: Float>(x: Input<'_, T>, weight: Input<'_, T>, dy: &[T], wanted: [bool; 2]) -> [Gradient<T>; 2] {
        let dy = Matrix::new(dy, x.rows(), weight.rows());
        [
            Gradient::when(wanted[0], || product(dy, weight.matrix(), None)),
            Gradient::when(wanted[1], || product(dy.transposed(), x.matrix(), None)),
        ]
    }
}

impl Op<2> for LinearOp {
    const NAME: &'static str = "linear";
    const INPUTS: [&'static str; 2] = ["x", "weight"];

    fn forward<T: Float>(&self, [x, weight]: [Input<'_, T>; 2]) -> Result<(Vec<T>, Shape)> {
        Ok(Self::product(x, weight, None))
    }

    fn backward<T: Float>(&self, pass: Backward<'_, T, 2>) -> Result<[Gradient<T>; 2]> {
        let Backward { inputs: [x, weight], gradient: dy, wanted, .. } = pass;
        Ok(Self::gradients(x, weight, dy, wanted))
    }
}

impl Op<3> for LinearOp {
    const NAME: &'static str = "linear";
    const INPUTS: [&'static str; 3] = ["x", "weight", "bias"];

    fn forward<T: Float>(&self, [x, weight, bias]: [Input<'_, T>; 3]) -> Result<(Vec<T>, Shape)> {
        Ok(Self::product(x, weight, Some(bias.values)))
    }

    /// As without bias, and dbias = Σ dy over the rows.
    fn backward<T: Float>(&self, pass: Backward<'_, T, 3>) -> Result<[Gradient<T>; 3]> {
        let Backward { inputs: [x, weight, bias], gradient: dy, wanted, .. } = pass;
        let [dx, dweight] = Self::gradients(x, weight, dy, [wanted[0], wanted[1]]);
        Ok([dx, dweight, Gradient::when(wanted[2], || column_sums(dy, bias.values.len()))])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{
        testing,
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
        testing::gradients("linear", &vars, || linear(x, w, Some(b)), 1e-6).unwrap();
        testing::gradients("linear", &vars[..2], || linear(x, w, None), 1e-6).unwrap();
        let vars = inputs(1100, 65, 70, DType::F32);
        let [x, w, b] = &vars;
        same_for_threads("linear", || output_and_gradient_bits(&vars, || linear(x, w, Some(b))));
    }

    #[test]
    fn without_input_features_the_result_is_the_bias() {
        for rows in [5, 600] {
            let [x, w, b] = inputs(rows, 0, 3, DType::F32);
            for f in [linear, linear_reference] {
                let y = f(&x, &w, Some(&b)).unwrap();
                let expected = b.broadcast_as((rows, 3)).unwrap();
                testing::compare("y", &y, &expected, 0.0).unwrap();
                let grads = y.backward().unwrap();
                let of_bias = grads.get(b.as_tensor()).unwrap().to_vec1::<f32>().unwrap();
                assert_eq!(of_bias, [rows as f32; 3]);
            }
            let y = linear(&x, &w, None).unwrap();
            assert_eq!(
                (y.dims(), y.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap()),
                (&[rows, 3][..], 0.0)
            );
            let grads = y.backward().unwrap();
            assert_eq!(grads.get(x.as_tensor()).unwrap().dims(), [rows, 0]);
            assert_eq!(grads.get(w.as_tensor()).unwrap().dims(), [3, 0]);
        }
    }

    #[test]
    fn empty_batches_and_outputs() {
        for (rows, outputs) in [(0, 3), (5, 0), (0, 0)] {
            let [x, w, b] = inputs(rows, 4, outputs, DType::F32);
            let y = linear(&x, &w, Some(&b)).unwrap();
            assert_eq!(y.dims(), [rows, outputs]);
            let grads = y.backward().unwrap();
            for input in [&x, &w, &b] {
                let gradient = grads.get(input.as_tensor()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
                assert_eq!(gradient, vec![0.0; input.elem_count()]);
            }
        }
    }
}
