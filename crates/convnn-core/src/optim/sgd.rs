//! Stochastic gradient descent with momentum.

use super::sgd_step::{Step, sgd_step};
use super::slots::{Memory, Slots, ensure_finite, numbered};
use crate::Result;
use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use std::collections::BTreeMap;

/// The options of [`Sgd`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdConfig {
    /// Learning rate.
    pub learning_rate: f64,
    /// How earlier gradients count.
    pub momentum: Momentum,
    /// Weight decay, added to the gradient of every variable that has one.
    pub weight_decay: f64,
    /// The norm to which the whole gradient is clipped.
    pub clip_grad_norm: Option<f64>,
}

impl Default for SgdConfig {
    fn default() -> Self {
        Self { learning_rate: 1e-3, momentum: Momentum::None, weight_decay: 0.0, clip_grad_norm: None }
    }
}

/// How earlier gradients count, with μ the momentum and v the velocity, which starts at 0.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Momentum {
    /// They do not.
    None,
    /// v ← μ v + g, and v takes the place of the gradient.
    HeavyBall(f64),
    /// v ← μ v + g, and g + μ v takes the place of the gradient.
    Nesterov(f64),
}

/// Stochastic gradient descent over named variables.
///
/// An update computes p ← p − lr · g, with g the clipped gradient plus weight_decay · p, or what [`Momentum`] makes of
/// that. A variable without a gradient stays as it is.
#[derive(Debug)]
pub struct Sgd {
    config: SgdConfig,
    slots: Slots<Option<Var>>,
}

impl Memory for Option<Var> {
    const SUFFIXES: &'static [&'static str] = &[".velocity"];

    fn tensors(&self) -> Vec<&Var> {
        self.iter().collect()
    }

    fn from_tensors(tensors: Vec<Var>) -> Option<Self> {
        Some(tensors.into_iter().next())
    }
}

impl Sgd {
    /// An optimizer of `vars`, such as those of [`Parameters::trainable`](crate::Parameters::trainable). The names are
    /// those of [`Self::state`].
    pub fn named(vars: Vec<(String, Var)>, config: SgdConfig) -> Result<Self> {
        Ok(Self { config, slots: Slots::new(vars, |_| Ok(None))? })
    }

    /// Updates every variable that has a gradient; returns the norm of all gradients together, before clipping.
    ///
    /// If the norm is not finite, nothing is updated.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if a gradient does not have the shape of its variable.
    pub fn update(&mut self, gradients: &GradStore) -> Result<f64> {
        let config = self.config;
        self.slots.update(gradients, config.clip_grad_norm, |var, velocity, gradient, grad_scale| {
            if config.momentum != Momentum::None && velocity.is_none() {
                *velocity = Some(Var::zeros(var.shape(), var.dtype(), var.device())?);
            }
            let velocity = velocity.as_ref().filter(|_| config.momentum != Momentum::None);
            sgd_step(var, gradient, velocity, &Step { config: &config, grad_scale })
        })
    }

    /// The velocities by name, `NAME.velocity`, of the variables that have one: with momentum, those that have had a
    /// gradient.
    ///
    /// The tensors share storage with the optimizer: the next update changes them.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.slots.state()
    }

    /// Continues with a copy of what [`Self::state`] returned.
    ///
    /// # Errors
    /// [`Error::OptimizerState`](crate::Error::OptimizerState) if a tensor belongs to no variable or has another shape;
    /// the optimizer is then unchanged.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.slots.load_state(state)
    }
}

/// Variables are named by their positions. A gradient whose norm is not finite is an error.
impl candle_nn::Optimizer for Sgd {
    type Config = SgdConfig;

    fn new(vars: Vec<Var>, config: SgdConfig) -> candle_core::Result<Self> {
        Ok(Self::named(numbered(vars), config)?)
    }

    fn step(&mut self, gradients: &GradStore) -> candle_core::Result<()> {
        ensure_finite("sgd", self.update(gradients)?)
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
    use candle_core::DType;
    use candle_nn::Optimizer;

    const CONFIG: SgdConfig =
        SgdConfig { learning_rate: 0.1, momentum: Momentum::Nesterov(0.9), weight_decay: 1e-3, clip_grad_norm: None };

    /// `updates` times down the gradient of the first variable's Σ x².
    fn run(optimizer: &mut Sgd, vars: &[(String, Var)], updates: usize) -> Vec<u64> {
        for _ in 0..updates {
            let loss = vars[0].1.sqr().unwrap().sum_all().unwrap();
            optimizer.update(&crate::backward(&loss).unwrap()).unwrap();
        }
        bits(&vars[0].1)
    }

    fn vars() -> Vec<(String, Var)> {
        ["a", "unused"].map(|name| (name.to_owned(), variable(5, DType::F32, 1))).into()
    }

    #[test]
    fn continues_from_its_state() {
        let (whole, stopped) = (vars(), vars());
        let expected = run(&mut Sgd::named(whole.clone(), CONFIG).unwrap(), &whole, 5);
        let mut first = Sgd::named(stopped.clone(), CONFIG).unwrap();
        run(&mut first, &stopped, 2);
        let state: BTreeMap<_, _> = first.state().into_iter().collect();
        assert_eq!(state.keys().collect::<Vec<_>>(), ["a.velocity"]);
        let mut second = Sgd::named(stopped.clone(), CONFIG).unwrap();
        second.load_state(&state).unwrap();
        assert_eq!(run(&mut second, &stopped, 3), expected);
        assert_eq!(bits(&stopped[1].1), bits(&variable(5, DType::F32, 1)), "a variable without a gradient stays");
        // The first one's velocity was copied.
        assert_ne!(bits(&second.state()[0].1), bits(&state["a.velocity"]));
        let other: BTreeMap<_, _> = [("b.velocity".to_owned(), state["a.velocity"].clone())].into();
        let line = second.load_state(&other).unwrap_err().to_string();
        assert!(line.contains("optimizer state: 1 of 1 tensors belong to no parameter"), "{line}");
    }

    #[test]
    fn without_momentum_nothing_is_remembered() {
        let vars = vars();
        let mut optimizer = <Sgd as Optimizer>::new(vec![vars[0].1.clone()], SgdConfig::default()).unwrap();
        optimizer.set_learning_rate(0.25);
        let expected = (vars[0].1.as_detached_tensor() * 0.5).unwrap();
        optimizer.backward_step(&vars[0].1.sqr().unwrap().sum_all().unwrap()).unwrap();
        assert_eq!(bits(&vars[0].1), bits(&expected));
        assert!(optimizer.state().is_empty());
    }
}
