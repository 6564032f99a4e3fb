//! Names and shapes of parameters, without memory for their values.

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::VarBuilder;
use candle_nn::init::Init;
use candle_nn::var_builder::SimpleBackend;
use convnn_core::random::parameter_values;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

type Shapes = BTreeMap<String, Vec<usize>>;

/// Builds something over parameters that are one number each, repeated by strides of 0, and records their shapes.
pub(crate) fn record<T>(build: impl FnOnce(VarBuilder) -> crate::Result<T>) -> crate::Result<(T, Shapes)> {
    let recorder = Recorder::default();
    let built = build(VarBuilder::from_backend(Box::new(recorder.clone()), DType::F32, Device::Cpu))?;
    let shapes = std::mem::take(&mut *recorder.0.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((built, shapes))
}

#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Shapes>>);

impl SimpleBackend for Recorder {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        parameter_values(name, shape.dims())?;
        let mut shapes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shapes.insert(name.to_owned(), shape.dims().to_vec());
        Tensor::zeros(1, dtype, device)?.broadcast_as(shape)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        Err(candle_core::Error::CannotFindTensor { path: name.to_owned() }.bt())
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(name)
    }
}
