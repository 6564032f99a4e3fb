//! Seeded parameters behind Candle's `VarBuilder`.
//!
//! Candle's generator on the CPU cannot be seeded, and its `VarMap` has no order and mixes running statistics with what is
//! trained. Here every parameter draws from a stream named by its path, parameters are visited in the order of their
//! names, and running statistics are kept apart.

use super::streams::{self, Streams};
use candle_core::{DType, Device, Shape, Tensor, Var};
use candle_nn::init::{Init, NormalOrUniform};
use candle_nn::var_builder::{SimpleBackend, VarBuilder};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The parameters and running statistics of a model, by path.
///
/// ```
/// # fn main() -> convnn_core::Result<()> {
/// use candle_core::{DType, Device};
/// use convnn_core::{Parameters, Streams};
/// let parameters = Parameters::new(&Streams::new(0), DType::F32, &Device::Cpu);
/// let weight = parameters.builder().pp("linear").get_with_hints((2, 3), "weight", candle_nn::init::ONE)?;
/// assert_eq!(parameters.trainable()[0].0, "linear.weight");
/// # let _ = weight; Ok(()) }
/// ```
#[derive(Clone)]
pub struct Parameters {
    streams: Streams,
    dtype: DType,
    device: Device,
    vars: Arc<Mutex<BTreeMap<String, Var>>>,
}

impl Parameters {
    /// An empty set; parameters are created as layers ask [`Self::builder`] for them.
    pub fn new(streams: &Streams, dtype: DType, device: &Device) -> Self {
        Self { streams: streams.clone(), dtype, device: device.clone(), vars: Arc::default() }
    }

    /// The builder that layers take their parameters from.
    pub fn builder(&self) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), self.dtype, self.device.clone())
    }

    /// Everything by name, in the order of the names; running statistics included.
    pub fn all(&self) -> Vec<(String, Var)> {
        self.lock().iter().map(|(name, var)| (name.clone(), var.clone())).collect()
    }

    /// What gradients train, in the order of the names.
    pub fn trainable(&self) -> Vec<(String, Var)> {
        self.all().into_iter().filter(|(name, _)| !is_running_statistic(name)).collect()
    }

    /// What gradients train, for an optimizer of Candle's.
    pub fn vars(&self) -> Vec<Var> {
        self.trainable().into_iter().map(|(_, var)| var).collect()
    }

    /// Number of values that gradients train.
    pub fn count(&self) -> usize {
        self.trainable().iter().map(|(_, var)| var.elem_count()).sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Var>> {
        // The map is changed by single inserts, so that it is whole even where a holder panicked.
        self.vars.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The most values that one parameter may have: 16 GiB in f32.
const MOST_VALUES: usize = 1 << 32;

/// Number of values of a parameter.
///
/// # Errors
/// [`Error::ParameterSize`](crate::Error::ParameterSize) for more than 2³².
pub fn parameter_values(name: &str, shape: &[usize]) -> crate::Result<usize> {
    let values = shape.iter().try_fold(1usize, |values, &side| values.checked_mul(side));
    values.filter(|&values| values <= MOST_VALUES).ok_or_else(|| crate::Error::ParameterSize {
        name: name.to_owned(),
        shape: shape.to_vec(),
        most: MOST_VALUES,
    })
}

/// Whether the parameter `name` is a running statistic of batch normalisation: saved, but not trained.
pub fn is_running_statistic(name: &str) -> bool {
    matches!(name.rsplit('.').next(), Some("running_mean" | "running_var"))
}

/// PyTorch's default initial values of linear and convolution layers, weights and biases alike: uniform in ±1/√fan_in.
pub fn fan_in_uniform(fan_in: usize) -> Init {
    let bound = 1.0 / (fan_in.max(1) as f64).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}

impl SimpleBackend for Parameters {
    fn get(&self, shape: Shape, name: &str, init: Init, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        let mut vars = self.lock();
        if let Some(var) = vars.get(name) {
            if var.shape() != &shape {
                return Err(crate::Error::ParameterShape {
                    name: name.to_owned(),
                    found: var.dims().to_vec(),
                    expected: shape.dims().to_vec(),
                }
                .into());
            }
            if var.dtype() != dtype || !var.device().same_device(device) {
                let describe = |dtype: DType, device: &Device| format!("{} on {:?}", dtype.as_str(), device.location());
                return Err(crate::Error::ParameterType {
                    name: name.to_owned(),
                    found: describe(var.dtype(), var.device()),
                    expected: describe(dtype, device),
                }
                .into());
            }
            return Ok(var.as_tensor().clone());
        }
        parameter_values(name, shape.dims())?;
        let var = Var::from_tensor(&initial(&self.streams, shape, name, init)?.to_device(device)?.to_dtype(dtype)?)?;
        let tensor = var.as_tensor().clone();
        vars.insert(name.to_owned(), var);
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        match self.lock().get(name) {
            Some(var) => Ok(var.as_tensor().clone()),
            None => Err(candle_core::Error::CannotFindTensor { path: name.to_owned() }.bt()),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.lock().contains_key(name)
    }
}

/// Initial values are drawn in f32 whatever the dtype, so that an f64 twin of a model has equal values.
fn initial(streams: &Streams, shape: Shape, name: &str, init: Init) -> candle_core::Result<Tensor> {
    let mut generator = streams.generator(&format!("init/{name}"));
    let mut draw: Box<dyn FnMut() -> f64> = match init {
        Init::Const(value) => Box::new(move || value),
        Init::Uniform { lo, up } => Box::new(move || lo + (up - lo) * streams::uniform(&mut generator)),
        Init::Randn { mean, stdev } => Box::new(move || mean + stdev * streams::normal(&mut generator)),
        Init::Kaiming { dist, fan, non_linearity } => {
            let stdev = non_linearity.gain() / (fan.for_shape(&shape) as f64).sqrt();
            match dist {
                NormalOrUniform::Normal => Box::new(move || stdev * streams::normal(&mut generator)),
                NormalOrUniform::Uniform => {
                    let bound = 3f64.sqrt() * stdev;
                    Box::new(move || bound * (2.0 * streams::uniform(&mut generator) - 1.0))
                }
            }
        }
    };
    let values: Vec<f32> = (0..shape.elem_count()).map(|_| draw() as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn values_depend_on_seed_and_path_alone() {
        let values = |seed, first: &str| {
            let parameters = Parameters::new(&Streams::new(seed), DType::F32, &Device::Cpu);
            let builder = parameters.builder();
            builder.get_with_hints(7, first, fan_in_uniform(4)).unwrap();
            builder.pp("b").get_with_hints(5, "weight", fan_in_uniform(4)).unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(values(3, "a"), values(3, "other"));
        assert_ne!(values(3, "a"), values(4, "a"));
        assert!(values(3, "a").iter().all(|v| v.abs() <= 0.5));
    }

    #[test]
    fn running_statistics_are_not_trained() {
        let parameters = Parameters::new(&Streams::new(0), DType::F32, &Device::Cpu);
        for name in ["weight", "running_mean", "running_var"] {
            parameters.builder().pp("norm").get_with_hints(2, name, candle_nn::init::ONE).unwrap();
        }
        assert_eq!(parameters.all().len(), 3);
        assert_eq!(parameters.trainable().len(), 1);
        assert_eq!(parameters.count(), 2);
    }

    #[test]
    fn another_shape_is_refused() {
        let parameters = Parameters::new(&Streams::new(0), DType::F32, &Device::Cpu);
        parameters.builder().get_with_hints(2, "w", candle_nn::init::ONE).unwrap();
        let error = parameters.builder().get_with_hints(3, "w", candle_nn::init::ONE).unwrap_err();
        assert!(error.to_string().contains("`w` exists with shape [2]"), "{error}");
        let error = parameters.builder().to_dtype(DType::F64).get_with_hints(2, "w", candle_nn::init::ONE).unwrap_err();
        assert!(error.to_string().contains("`w` exists as f32 on Cpu and is asked for as f64 on Cpu"), "{error}");
    }
}
