//! The adapter between Candle's custom ops and kernels over slices.
//!
//! An operation implements [`Op`]: forward and backward over contiguous slices of one element type. [`apply1`],
//! [`apply2`] and [`apply3`] do the rest: they check dtypes, make inputs contiguous, dispatch on the element type, enter
//! the operation into Candle's graph and hand its gradients to [`deliver`].

use crate::kernel::{backward::deliver, float::Float, matrix::Matrix};
use crate::{Error, Result};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Shape, Storage, Tensor};

/// A differentiable operation on the CPU with `N` tensor inputs.
pub(crate) trait Op<const N: usize>: Send + Sync + 'static {
    /// Name of the operation, for errors.
    const NAME: &'static str;
    /// Names of the inputs, for errors.
    const INPUTS: [&'static str; N];

    /// Computes the result in row-major order, and its shape.
    fn forward<T: Float>(&self, inputs: [Input<'_, T>; N]) -> Result<(Vec<T>, Shape)>;

    /// Computes the gradients of the inputs.
    ///
    /// The default is for operations without a gradient, whose inputs must be detached.
    fn backward<T: Float>(&self, pass: Backward<'_, T, N>) -> Result<[Gradient<T>; N]> {
        let _ = pass;
        Err(candle_core::Error::BackwardNotSupported { op: Self::NAME }.into())
    }
}

/// What a backward pass starts from.
pub(crate) struct Backward<'a, T, const N: usize> {
    pub(crate) inputs: [Input<'a, T>; N],
    /// The result of the forward pass.
    pub(crate) output: &'a [T],
    /// The gradient of the result.
    pub(crate) gradient: &'a [T],
    /// Which inputs need a gradient; those of the others are dropped, so computing them is a waste.
    pub(crate) wanted: [bool; N],
}

/// The elements of an input in row-major order, and its shape.
#[derive(Debug)]
pub(crate) struct Input<'a, T> {
    pub(crate) values: &'a [T],
    pub(crate) dims: &'a [usize],
}

impl<T> Clone for Input<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Input<'_, T> {}

impl<'a, T: Float> Input<'a, T> {
    /// Size of the last axis; 1 for a scalar.
    pub(crate) fn width(&self) -> usize {
        self.dims.last().copied().unwrap_or(1)
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        rows_of(self.dims)
    }

    /// The rows as a matrix.
    pub(crate) fn matrix(&self) -> Matrix<'a, T> {
        Matrix::new(self.values, self.rows(), self.width())
    }
}

/// Number of rows of a tensor: the product of all dimensions but the last.
pub(crate) fn rows_of(dims: &[usize]) -> usize {
    dims.iter().rev().skip(1).product()
}

/// The gradient of one input.
#[derive(Debug)]
pub(crate) enum Gradient<T> {
    /// None: the input is outside the graph.
    None,
    /// In row-major order, with the shape of the input.
    Values(Vec<T>),
    /// The gradient of the result, unchanged.
    Unchanged,
}

impl<T> Gradient<T> {
    /// What `compute` returns, if the gradient is wanted.
    pub(crate) fn when(wanted: bool, compute: impl FnOnce() -> Vec<T>) -> Self {
        if wanted { Self::Values(compute()) } else { Self::None }
    }
}

/// Applies an operation with one input.
///
/// f16 and bf16 are computed in f32 and rounded at the end.
///
/// # Errors
/// [`Error::DType`] if the input is not of a floating-point type, or any error of the operation.
pub(crate) fn apply1<O: Op<1>>(op: O, x: &Tensor) -> Result<Tensor> {
    let [input] = kernel_inputs::<O, 1>([x])?;
    Ok(input.apply_op1(Adapter(op))?.to_dtype(x.dtype())?)
}

/// [`apply1`] for an operation with two inputs, which must be of the same type.
///
/// # Errors
/// As [`apply1`]; [`Error::DType`] also for mixed types.
pub(crate) fn apply2<O: Op<2>>(op: O, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let [first, second] = kernel_inputs::<O, 2>([a, b])?;
    Ok(first.apply_op2(&second, Adapter(op))?.to_dtype(a.dtype())?)
}

/// [`apply1`] for an operation with three inputs, which must be of the same type.
///
/// # Errors
/// As [`apply2`].
pub(crate) fn apply3<O: Op<3>>(op: O, a: &Tensor, b: &Tensor, c: &Tensor) -> Result<Tensor> {
    let [first, second, third] = kernel_inputs::<O, 3>([a, b, c])?;
    Ok(first.apply_op3(&second, &third, Adapter(op))?.to_dtype(a.dtype())?)
}

/// `x` as a kernel reads it: contiguous, f16 and bf16 widened to f32.
///
/// # Errors
/// Only Candle's.
pub(crate) fn kernel_input(x: &Tensor) -> Result<Tensor> {
    let dtype = if matches!(x.dtype(), DType::F16 | DType::BF16) { DType::F32 } else { x.dtype() };
    Ok(x.to_dtype(dtype)?.contiguous()?)
}

fn kernel_inputs<O: Op<N>, const N: usize>(inputs: [&Tensor; N]) -> Result<[Tensor; N]> {
    let dtype = inputs[0].dtype();
    for (tensor, name) in inputs.iter().zip(O::INPUTS) {
        let fail = |expected| Err(Error::DType { op: O::NAME, tensor: name, found: tensor.dtype(), expected });
        if !matches!(tensor.dtype(), DType::F16 | DType::BF16 | DType::F32 | DType::F64) {
            return fail("F16, BF16, F32 or F64".into());
        }
        if tensor.dtype() != dtype {
            return fail(format!("{dtype:?}, the dtype of `{}`", O::INPUTS[0]));
        }
    }
    let mut ready = inputs.map(Tensor::clone);
    for tensor in &mut ready {
        *tensor = kernel_input(tensor)?;
    }
    Ok(ready)
}

/// Implements Candle's traits for an [`Op`].
struct Adapter<O>(O);

impl<O> Adapter<O> {
    fn forward<const N: usize>(&self, inputs: [(&CpuStorage, &Layout); N]) -> candle_core::Result<(CpuStorage, Shape)>
    where
        O: Op<N>,
    {
        match inputs[0].0.dtype() {
            DType::F64 => self.forward_as::<f64, N>(inputs),
            _ => self.forward_as::<f32, N>(inputs),
        }
    }

    fn forward_as<T: Float, const N: usize>(
        &self,
        inputs: [(&CpuStorage, &Layout); N],
    ) -> candle_core::Result<(CpuStorage, Shape)>
    where
        O: Op<N>,
    {
        let mut views = [Input { values: &[], dims: &[] }; N];
        for (view, (storage, layout)) in views.iter_mut().zip(inputs) {
            *view = Input { values: elements::<T>(O::NAME, storage, layout)?, dims: layout.dims() };
        }
        let (values, shape) = self.0.forward(views)?;
        debug_assert_eq!(values.len(), shape.elem_count(), "{}", O::NAME);
        Ok((T::to_cpu_storage_owned(values), shape))
    }

    fn backward<const N: usize>(
        &self,
        inputs: [&Tensor; N],
        output: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; N]>
    where
        O: Op<N>,
    {
        match output.dtype() {
            DType::F64 => self.backward_as::<f64, N>(inputs, output, gradient),
            _ => self.backward_as::<f32, N>(inputs, output, gradient),
        }
    }

    fn backward_as<T: Float, const N: usize>(
        &self,
        inputs: [&Tensor; N],
        output: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<[Option<Tensor>; N]>
    where
        O: Op<N>,
    {
        let gradient = gradient.contiguous()?;
        let storages = inputs.map(Tensor::storage_and_layout);
        let ((y, y_layout), (dy, dy_layout)) = (output.storage_and_layout(), gradient.storage_and_layout());
        let mut views = [Input { values: &[], dims: &[] }; N];
        for (view, (storage, layout)) in views.iter_mut().zip(&storages) {
            *view =
                Input { values: elements::<T>(O::NAME, in_memory(O::NAME, storage)?, layout)?, dims: layout.dims() };
        }
        let wanted = inputs.map(Tensor::track_op);
        let computed = self.0.backward(Backward {
            inputs: views,
            output: elements(O::NAME, in_memory(O::NAME, &y)?, y_layout)?,
            gradient: elements(O::NAME, in_memory(O::NAME, &dy)?, dy_layout)?,
            wanted,
        })?;
        let mut gradients = [const { None }; N];
        for (i, computed) in computed.into_iter().enumerate().filter(|(i, _)| wanted[*i]) {
            gradients[i] = match computed {
                Gradient::None => None,
                Gradient::Unchanged => deliver(inputs[i], gradient.clone()),
                Gradient::Values(values) => {
                    deliver(inputs[i], Tensor::from_vec(values, inputs[i].shape(), inputs[i].device())?)
                }
            };
        }
        Ok(gradients)
    }
}

/// The elements of a contiguous tensor.
fn elements<'a, T: Float>(op: &'static str, storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&T::cpu_storage_as_slice(storage)?[start..end]),
        None => Err(candle_core::Error::RequiresContiguous { op }),
    }
}

fn in_memory<'a>(op: &'static str, storage: &'a Storage) -> candle_core::Result<&'a CpuStorage> {
    match storage {
        Storage::Cpu(storage) => Ok(storage),
        _ => Err(candle_core::Error::Msg(format!("{op}: expected all tensors on the CPU"))),
    }
}

impl<O: Op<1>> CustomOp1 for Adapter<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        self.forward([(storage, layout)])
    }

    fn bwd(&self, x: &Tensor, output: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let [dx] = self.backward([x], output, gradient)?;
        Ok(dx)
    }
}

impl<O: Op<2>> CustomOp2 for Adapter<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.forward([(s1, l1), (s2, l2)])
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        output: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        Ok(self.backward([a, b], output, gradient)?.into())
    }
}

impl<O: Op<3>> CustomOp3 for Adapter<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.forward([(s1, l1), (s2, l2), (s3, l3)])
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        output: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        Ok(self.backward([a, b, c], output, gradient)?.into())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::kernels::{strided, variable};

    /// a · b, element by element; refuses to compute gradients that are not wanted.
    struct Product;

    impl Op<2> for Product {
        const NAME: &'static str = "product";
        const INPUTS: [&'static str; 2] = ["a", "b"];

        fn forward<T: Float>(&self, [a, b]: [Input<'_, T>; 2]) -> Result<(Vec<T>, Shape)> {
            let y = a.values.iter().zip(b.values).map(|(&a, &b)| a * b).collect();
            Ok((y, Shape::from(a.dims)))
        }

        fn backward<T: Float>(&self, pass: Backward<'_, T, 2>) -> Result<[Gradient<T>; 2]> {
            let Backward { inputs: [a, b], output, gradient, wanted } = pass;
            assert!(output.iter().zip(a.values).zip(b.values).all(|((&y, &a), &b)| y == a * b));
            let times = |x: &[T]| x.iter().zip(gradient).map(|(&x, &g)| x * g).collect();
            Ok([Gradient::when(wanted[0], || times(b.values)), Gradient::when(wanted[1], || times(a.values))])
        }
    }

    /// Returns its input, without a gradient.
    struct Copied;

    impl Op<1> for Copied {
        const NAME: &'static str = "copied";
        const INPUTS: [&'static str; 1] = ["x"];

        fn forward<T: Float>(&self, [x]: [Input<'_, T>; 1]) -> Result<(Vec<T>, Shape)> {
            Ok((x.values.to_vec(), Shape::from(x.dims)))
        }
    }

    /// x, with the gradient unchanged, and the other two inputs for company.
    struct First;

    impl Op<3> for First {
        const NAME: &'static str = "first";
        const INPUTS: [&'static str; 3] = ["x", "y", "z"];

        fn forward<T: Float>(&self, [x, ..]: [Input<'_, T>; 3]) -> Result<(Vec<T>, Shape)> {
            Ok((x.values.to_vec(), Shape::from(x.dims)))
        }

        fn backward<T: Float>(&self, pass: Backward<'_, T, 3>) -> Result<[Gradient<T>; 3]> {
            let [_, y, _] = pass.inputs;
            // The second is not wanted, and so does not arrive.
            Ok([Gradient::Unchanged, Gradient::Values(y.values.to_vec()), Gradient::None])
        }
    }

    fn rows(t: &Tensor) -> Vec<Vec<f64>> {
        t.to_dtype(DType::F64).unwrap().to_vec2().unwrap()
    }

    #[test]
    fn every_float_type_and_layout() {
        for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
            let (a, b) = (variable((3, 4), dtype, 1), variable((3, 4), dtype, 2));
            let expected = (a.as_tensor() * b.as_tensor()).unwrap();
            let y = apply2(Product, &strided(&a), &b).unwrap();
            assert_eq!((y.dtype(), rows(&y)), (dtype, rows(&expected)));
            let found = y.sum_all().unwrap().backward().unwrap();
            for (input, gradient) in [(&a, &b), (&b, &a)] {
                let found = found.get(input.as_tensor()).unwrap();
                assert_eq!((found.dtype(), rows(found)), (dtype, rows(gradient)));
            }
        }
    }

    #[test]
    fn inputs_outside_the_graph_are_skipped() {
        let (a, b) = (variable((2, 3), DType::F32, 1), variable((2, 3), DType::F32, 2));
        let detached = a.as_detached_tensor();
        let grads = apply2(Product, &detached, &b).unwrap().sum_all().unwrap().backward().unwrap();
        assert_eq!(rows(grads.get(b.as_tensor()).unwrap()), rows(&a));
        assert!(grads.get(&detached).is_none());
        let y = apply3(First, &a, &detached, &b).unwrap();
        let grads = crate::backward(&y.sqr().unwrap().sum_all().unwrap()).unwrap();
        assert_eq!(rows(grads.get(a.as_tensor()).unwrap()), rows(&(a.as_tensor() * 2.0).unwrap()));
        assert!(grads.get(&detached).is_none() && grads.get(b.as_tensor()).is_none());
    }

    #[test]
    fn without_a_gradient() {
        let x = variable((2, 3), DType::F32, 1);
        assert!(!apply1(Copied, &x.detach()).unwrap().track_op());
        let line = apply1(Copied, &x).unwrap().sum_all().unwrap().backward().unwrap_err().to_string();
        assert!(line.contains("copied"), "{line}");
    }

    #[test]
    fn wrong_dtypes_are_named() {
        let (a, b) = (variable((2, 3), DType::F32, 1), variable((2, 3), DType::F64, 2));
        let line = apply2(Product, &a, &b).unwrap_err().to_string();
        assert_eq!(line, "product: `b` has dtype F64; expected F32, the dtype of `a`");
        let line = apply1(Copied, &a.to_dtype(DType::U32).unwrap()).unwrap_err().to_string();
        assert_eq!(line, "copied: `x` has dtype U32; expected F16, BF16, F32 or F64");
    }
}
