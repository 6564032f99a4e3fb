//! Backpropagation without the zeros and sums that Candle spends on each parameter gradient.
//!
//! For every gradient that an op returns, Candle allocates a tensor of zeros and adds the gradient to it. For the 411 MB
//! weight of VGG's classifier that costs 1.2 GB. The ops of this crate therefore deliver gradients of variables to a
//! sink that [`backward`] opens, and `backward` moves them to the store at the end. Under [`Tensor::backward`] no sink
//! is open, and gradients take the usual way with the same result.

use crate::Result;
use candle_core::{Tensor, TensorId, backprop::GradStore};
use std::cell::RefCell;
use std::collections::HashSet;

thread_local! {
    /// The sink of the innermost [`backward`] on this thread.
    static SINK: RefCell<Option<Sink>> = const { RefCell::new(None) };
}

struct Sink {
    /// The variables of the loss. A nested [`Tensor::backward`] has others, whose gradients do not belong here.
    variables: HashSet<TensorId>,
    gradients: Vec<(Tensor, Tensor)>,
}

/// Computes the gradients of `loss` like [`Tensor::backward`], with less memory and time for large parameters.
///
/// # Errors
/// If an op has no gradient.
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    let variables = loss.sorted_nodes().iter().filter(|node| node.is_variable()).map(|node| node.id()).collect();
    let sink = OpenSink::new(variables);
    let mut grads = loss.backward()?;
    for (parameter, gradient) in sink.take() {
        let sum = match grads.remove(&parameter) {
            Some(other) => (other + gradient)?,
            None => gradient,
        };
        grads.insert(&parameter, sum);
    }
    Ok(grads)
}

/// Takes the gradient of an op's argument in `bwd`. Returns what `bwd` must return for that argument.
pub(crate) fn deliver(argument: &Tensor, gradient: Tensor) -> Option<Tensor> {
    SINK.with_borrow_mut(|sink| match sink {
        Some(sink) if argument.is_variable() && sink.variables.contains(&argument.id()) => {
            sink.gradients.push((argument.clone(), gradient));
            None
        }
        _ => Some(gradient),
    })
}

/// Keeps a sink open until dropped, then restores the one before it.
///
/// Backward passes nest: while the `bwd` of an op waits for rayon, its thread may run a job that calls [`backward`].
struct OpenSink {
    outer: Option<Sink>,
}

impl OpenSink {
    fn new(variables: HashSet<TensorId>) -> Self {
        Self { outer: SINK.replace(Some(Sink { variables, gradients: Vec::new() })) }
    }

    fn take(&self) -> Vec<(Tensor, Tensor)> {
        SINK.with_borrow_mut(|sink| sink.as_mut().map(|sink| std::mem::take(&mut sink.gradients)).unwrap_or_default())
    }
}

impl Drop for OpenSink {
    fn drop(&mut self) {
        SINK.set(self.outer.take());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kernel::float::Float;
    use crate::kernel::op::{Backward, Gradient, Input, Op, apply1};
    use crate::{nn::linear, testing, testing::kernels::variable};
    use candle_core::{DType, Shape};

    /// The identity, whose backward pass computes other gradients meanwhile.
    struct Nesting<F>(F);

    impl<F: Fn() + Send + Sync + 'static> Op<1> for Nesting<F> {
        const NAME: &'static str = "nesting";
        const INPUTS: [&'static str; 1] = ["x"];

        fn forward<T: Float>(&self, [x]: [Input<'_, T>; 1]) -> Result<(Vec<T>, Shape)> {
            Ok((x.values.to_vec(), Shape::from(x.dims)))
        }

        fn backward<T: Float>(&self, _: Backward<'_, T, 1>) -> Result<[Gradient<T>; 1]> {
            (self.0)();
            Ok([Gradient::Unchanged])
        }
    }

    /// Computes the gradients of two linear layers with `nested` between them, and compares them with Candle's.
    fn around(nested: impl Fn() + Send + Sync + 'static) {
        let x = variable((4, 3), DType::F64, 1);
        let [first, second] = [2, 3].map(|seed| variable((3, 3), DType::F64, seed));
        let loss = |nested| {
            let y = linear(&x, &first, None).unwrap();
            let y = match nested {
                Some(nested) => apply1(nested, &y).unwrap(),
                None => y,
            };
            linear(&y, &second, None).unwrap().sqr().unwrap().sum_all().unwrap()
        };
        let found = backward(&loss(Some(Nesting(nested)))).unwrap();
        let expected = loss(None).backward().unwrap();
        for (name, var) in [("x", &x), ("first", &first), ("second", &second)] {
            let found = found.get(var.as_tensor()).unwrap_or_else(|| panic!("`{name}` has no gradient"));
            testing::compare(name, found, expected.get(var.as_tensor()).unwrap(), 1e-14).unwrap();
        }
    }

    #[test]
    fn backward_passes_nest() {
        let [x, w] = [(2, 5), (6, 5)].map(|shape| variable(shape, DType::F64, 9));
        let inner = move |run: fn(&Tensor) -> GradStore| {
            let grads = run(&linear(&x, &w, None).unwrap().sum_all().unwrap());
            assert!(grads.get(x.as_tensor()).is_some() && grads.get(w.as_tensor()).is_some());
        };
        let same = inner.clone();
        around(move || inner(|loss| backward(loss).unwrap()));
        around(move || same(|loss| loss.backward().unwrap()));
    }

    /// The identity, without a gradient.
    struct NoGradient;

    impl Op<1> for NoGradient {
        const NAME: &'static str = "no_gradient";
        const INPUTS: [&'static str; 1] = ["x"];

        fn forward<T: Float>(&self, [x]: [Input<'_, T>; 1]) -> Result<(Vec<T>, Shape)> {
            Ok((x.values.to_vec(), Shape::from(x.dims)))
        }
    }

    #[test]
    fn a_failed_pass_closes_its_sink() {
        let x = variable((2, 3), DType::F32, 1);
        let line = backward(&apply1(NoGradient, &x).unwrap()).unwrap_err().to_string();
        assert!(line.contains("no_gradient"), "{line}");
        assert!(SINK.with_borrow(Option::is_none));
    }
}
