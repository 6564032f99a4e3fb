//! AdamW: Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101).

use super::adamw_step::{Step, adamw_step};
use super::slots::{Memory, Slots, ensure_finite, numbered};
use crate::Result;
use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use std::collections::BTreeMap;

/// The options of [`AdamW`]. The defaults are PyTorch's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// Learning rate.
    pub learning_rate: f64,
    /// Decay of the mean of the gradient, β₁.
    pub beta1: f64,
    /// Decay of the mean of the squared gradient, β₂.
    pub beta2: f64,
    /// Added to the root of the mean of the squared gradient.
    pub eps: f64,
    /// Decoupled weight decay, applied to every variable that has a gradient.
    pub weight_decay: f64,
    /// The norm to which the whole gradient is clipped.
    pub clip_grad_norm: Option<f64>,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 1e-2, clip_grad_norm: None }
    }
}

/// AdamW over named variables.
///
/// An update computes, with g the clipped gradient and t the number of the update, counted from 1:
///
/// ```text
/// p ← p · (1 − lr · weight_decay)
/// m ← m + (1 − β₁) (g − m)
/// v ← β₂ v + (1 − β₂) g²
/// p ← p − lr / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + eps)
/// ```
///
/// A variable without a gradient stays as it is.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    slots: Slots<[Var; 2]>,
    updates: u64,
}

impl Memory for [Var; 2] {
    const SUFFIXES: &'static [&'static str] = &[".first_moment", ".second_moment"];

    fn tensors(&self) -> Vec<&Var> {
        self.iter().collect()
    }

    fn from_tensors(tensors: Vec<Var>) -> Option<Self> {
        tensors.try_into().ok()
    }
}

impl AdamW {
    /// An optimizer of `vars`, such as those of [`Parameters::trainable`](crate::Parameters::trainable). The names are
    /// those of [`Self::state`].
    pub fn named(vars: Vec<(String, Var)>, config: AdamWConfig) -> Result<Self> {
        let zeros = |var: &Var| Var::zeros(var.shape(), var.dtype(), var.device());
        let slots = Slots::new(vars, |var| Ok([zeros(var)?, zeros(var)?]))?;
        Ok(Self { config, slots, updates: 0 })
    }

    /// Updates every variable that has a gradient; returns the norm of all gradients together, before clipping.
    ///
    /// If the norm is not finite, nothing is updated.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if a gradient does not have the shape of its variable.
    pub fn update(&mut self, gradients: &GradStore) -> Result<f64> {
        let config = self.config;
        let number = self.updates + 1;
        let norm = self.slots.update(gradients, config.clip_grad_norm, |var, moments, gradient, grad_scale| {
            adamw_step(var, gradient, moments, &Step { config: &config, number, grad_scale })
        })?;
        self.updates += u64::from(norm.is_finite());
        Ok(norm)
    }

    /// The number of updates so far.
    pub const fn updates(&self) -> u64 {
        self.updates
    }

    /// The moments of every variable by name, `NAME.first_moment` and `NAME.second_moment`.
    ///
    /// The tensors share storage with the optimizer: the next update changes them.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.slots.state()
    }

    /// Continues after `updates` updates with a copy of what [`Self::state`] returned then.
    ///
    /// # Errors
    /// [`Error::OptimizerState`](crate::Error::OptimizerState) if a tensor is missing, belongs to no variable or has
    /// another shape; the optimizer is then unchanged.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>, updates: u64) -> Result<()> {
        self.slots.load_state(state)?;
        self.updates = updates;
        Ok(())
    }
}

/// Variables are named by their positions. A gradient whose norm is not finite is an error.
impl candle_nn::Optimizer for AdamW {
    type Config = AdamWConfig;

    fn new(vars: Vec<Var>, config: AdamWConfig) -> candle_core::Result<Self> {
        Ok(Self::named(numbered(vars), config)?)
    }

    fn step(&mut self, gradients: &GradStore) -> candle_core::Result<()> {
        ensure_finite("adamw", self.update(gradients)?)
    }

    fn learning_rate(&self) -> f64 {
        self.config.learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.config.learning_rate = learning_rate;
    }

    fn backward_step(&mut self, loss: &Tensor) -> candle_core::Result<()> {
        self.step(&crate::backward(loss)?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::kernels::{bits, variable};
    use candle_core::{DType, Device};
    use candle_nn::Optimizer;

    fn vars() -> Vec<(String, Var)> {
        ["a", "b", "unused"]
            .iter()
            .zip(1..)
            .map(|(name, seed)| (name.to_string(), variable(5, DType::F32, seed)))
            .collect()
    }

    /// The gradients of Σ a³ + b³.
    fn gradients(vars: &[(String, Var)]) -> GradStore {
        let cubes = vars[..2].iter().map(|(_, var)| var.powf(3.0).unwrap().sum_all().unwrap());
        crate::backward(&cubes.reduce(|a, b| (a + b).unwrap()).unwrap()).unwrap()
    }

    fn run(optimizer: &mut AdamW, vars: &[(String, Var)], updates: usize) -> Vec<u64> {
        for _ in 0..updates {
            optimizer.update(&gradients(vars)).unwrap();
        }
        vars.iter().flat_map(|(_, var)| bits(var)).collect()
    }

    #[test]
    fn continues_from_its_state() {
        let (whole, stopped) = (vars(), vars());
        let expected = run(&mut AdamW::named(whole.clone(), AdamWConfig::default()).unwrap(), &whole, 5);
        let mut first = AdamW::named(stopped.clone(), AdamWConfig::default()).unwrap();
        run(&mut first, &stopped, 2);
        let state: BTreeMap<_, _> = first.state().into_iter().collect();
        assert_eq!(
            state.keys().collect::<Vec<_>>(),
            [
                "a.first_moment",
                "a.second_moment",
                "b.first_moment",
                "b.second_moment",
                "unused.first_moment",
                "unused.second_moment"
            ]
        );
        let mut second = AdamW::named(stopped.clone(), AdamWConfig::default()).unwrap();
        second.load_state(&state, first.updates()).unwrap();
        assert_eq!(run(&mut second, &stopped, 3), expected);
        // The first one's moments were copied.
        assert_ne!(bits(&second.state()[0].1), bits(&first.state()[0].1));
        assert_eq!(bits(&first.state()[0].1), bits(&state["a.first_moment"]));
    }

    #[test]
    fn a_state_that_does_not_fit_changes_nothing() {
        let vars = vars();
        let mut optimizer = AdamW::named(vars.clone(), AdamWConfig::default()).unwrap();
        run(&mut optimizer, &vars, 2);
        let state: BTreeMap<_, _> = optimizer.state().into_iter().map(|(name, t)| (name, t.copy().unwrap())).collect();
        let expected = state.values().flat_map(bits).collect::<Vec<_>>();
        let mut refused = |change: &dyn Fn(&mut BTreeMap<String, Tensor>), message: &str| {
            let mut changed: BTreeMap<_, _> =
                state.iter().map(|(name, t)| (name.clone(), t.zeros_like().unwrap())).collect();
            change(&mut changed);
            let line = optimizer.load_state(&changed, 7).unwrap_err().to_string();
            assert!(line.contains(message), "{line}");
            assert_eq!(optimizer.state().iter().flat_map(|(_, t)| bits(t)).collect::<Vec<_>>(), expected);
            assert_eq!(optimizer.updates(), 2);
        };
        let zeros = |len: usize| Tensor::zeros(len, DType::F32, &Device::Cpu).unwrap();
        refused(&|state| drop(state.remove("b.first_moment")), "tensors of `b` are missing");
        refused(&|state| drop(state.insert("c".to_owned(), zeros(5))), "1 of 7 tensors belong to no parameter");
        let message = "tensor `a.first_moment` has shape [4]; expected [5]";
        refused(&|state| drop(state.insert("a.first_moment".to_owned(), zeros(4))), message);
    }

    #[test]
    fn clips_to_the_norm() {
        let (clipped, scaled) = (vars(), vars());
        let norm = AdamW::named(vars(), AdamWConfig::default()).unwrap().update(&gradients(&clipped)).unwrap();
        let config = AdamWConfig { eps: 1.0, ..AdamWConfig::default() };
        let clip = AdamWConfig { clip_grad_norm: Some(norm / 4.0), ..config };
        run(&mut AdamW::named(clipped.clone(), clip).unwrap(), &clipped, 1);
        let mut quarter = gradients(&scaled);
        for (_, var) in &scaled[..2] {
            let gradient = (quarter.get(var).unwrap() * (0.25 / (1.0 + 1e-6 / norm))).unwrap();
            quarter.insert(var, gradient);
        }
        AdamW::named(scaled.clone(), config).unwrap().update(&quarter).unwrap();
        for ((name, found), (_, expected)) in clipped.iter().zip(&scaled) {
            crate::testing::compare(name, found, expected, 1e-6).unwrap();
        }
    }

    #[test]
    fn a_norm_that_is_not_finite_changes_nothing() {
        let vars = vars();
        let mut optimizer = AdamW::named(vars.clone(), AdamWConfig::default()).unwrap();
        let before: Vec<_> = vars.iter().flat_map(|(_, var)| bits(var)).collect();
        let mut broken = gradients(&vars);
        broken.insert(&vars[1].1, Tensor::full(f32::NAN, 5, &Device::Cpu).unwrap());
        assert!(optimizer.update(&broken).unwrap().is_nan());
        let line = optimizer.step(&broken).unwrap_err().to_string();
        assert!(line.contains("adamw: the norm of the gradient is NaN; no parameter was updated"), "{line}");
        assert_eq!(vars.iter().flat_map(|(_, var)| bits(var)).collect::<Vec<_>>(), before);
        assert_eq!(optimizer.updates(), 0);
    }

    #[test]
    fn is_an_optimizer_of_candles() {
        fn fit<O: Optimizer>(x: &Var, config: O::Config) -> O {
            let mut optimizer = O::new(vec![x.clone()], config).unwrap();
            optimizer.set_learning_rate(0.1);
            for _ in 0..200 {
                optimizer.backward_step(&x.sqr().unwrap().sum_all().unwrap()).unwrap();
            }
            optimizer
        }
        let x = variable(5, DType::F32, 1);
        let optimizer: AdamW = fit(&x, AdamWConfig::default());
        assert_eq!((optimizer.learning_rate(), optimizer.updates()), (0.1, 200));
        assert!(x.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap() < 1e-2, "{x}");
        assert_eq!(optimizer.state()[0].0, "0.first_moment");
    }
}
