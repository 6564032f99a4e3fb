//! Names and shapes of a model's parameters, without their memory.

use crate::{Model, ModelConfig, Result};
use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::init::Init;
use candle_nn::var_builder::{SimpleBackend, VarBuilder};
use convnn_core::is_running_statistic;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

impl ModelConfig {
    /// Name and shape of every parameter and running statistic, in the order of the names.
    ///
    /// The model is built over parameters that are one number each, seen under every index, so that even a VGG-19
    /// costs next to nothing, and names and shapes are those that the layers themselves ask for.
    ///
    /// # Errors
    /// The first thing that [`Self::check`] or a layer finds wrong.
    pub fn shapes(&self) -> Result<BTreeMap<String, Vec<usize>>> {
        let recorder = Recorder::default();
        let builder = VarBuilder::from_backend(Box::new(recorder.clone()), DType::F32, Device::Cpu);
        Model::new(self, builder)?;
        let shapes = recorder.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(shapes.clone())
    }

    /// Number of values that gradients train.
    ///
    /// # Errors
    /// As [`Self::shapes`].
    pub fn parameter_count(&self) -> Result<usize> {
        let trained = self.shapes()?.into_iter().filter(|(name, _)| !is_running_statistic(name));
        Ok(trained.map(|(_, shape)| shape.iter().product::<usize>()).sum())
    }
}

#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<BTreeMap<String, Vec<usize>>>>);

impl SimpleBackend for Recorder {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
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
