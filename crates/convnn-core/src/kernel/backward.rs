//! Backpropagation that moves parameter gradients instead of adding each to a tensor of zeros.
//!
//! Candle's backward pass makes, for every gradient that an op returns, a tensor of zeros and a sum. For activations
//! that is a nuisance; for the 411 MB weight of VGG's classifier it is 1.2 GB. The ops of this crate therefore hand
//! gradients of parameters to a sink that [`backward`] opens, and it puts them in the store at the end. Under Candle's
//! own [`Tensor::backward`] no sink is open, and gradients take the usual way with the same result.

use crate::Result;
use candle_core::{Tensor, backprop::GradStore};
use std::cell::RefCell;

thread_local! {
    /// Parameter gradients of the backward pass under way on this thread, if it is ours.
    static SINK: RefCell<Option<Vec<(Tensor, Tensor)>>> = const { RefCell::new(None) };
}

/// Computes the gradients of `loss` like [`Tensor::backward`], with less memory and time for large parameters.
///
/// # Errors
/// Where an op has no gradient, or Candle fails.
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    let sink = OpenSink::new();
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

/// To be called by an op's `bwd` for the gradient of an argument that may be a parameter; what it returns is what `bwd`
/// returns for that argument.
pub(crate) fn deliver(argument: &Tensor, gradient: Tensor) -> Option<Tensor> {
    SINK.with_borrow_mut(|sink| match sink {
        Some(sink) if argument.is_variable() => {
            sink.push((argument.clone(), gradient));
            None
        }
        _ => Some(gradient),
    })
}

/// Keeps the sink open until dropped, also where the backward pass fails.
struct OpenSink;

impl OpenSink {
    fn new() -> Self {
        SINK.set(Some(Vec::new()));
        Self
    }

    fn take(self) -> Vec<(Tensor, Tensor)> {
        SINK.take().unwrap_or_default()
    }
}

impl Drop for OpenSink {
    fn drop(&mut self) {
        SINK.set(None);
    }
}
