//! Stochastic gradient descent with momentum.

use super::apply::{Update, limited, limited_reference};
use super::in_place::{Common, InPlace, Rule, Step};
use crate::Result;
use crate::kernel::float::Float;
use crate::kernel::simd::kernel;
use candle_core::Tensor;

/// Stochastic gradient descent over named variables.
///
/// An update computes p ← p − lr · g, with g the clipped gradient plus weight_decay · p, or what [`Momentum`] makes of
/// that. A variable without a gradient stays as it is.
pub type Sgd = InPlace<SgdConfig>;

/// The options of [`Sgd`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdConfig {
    /// Learning rate.
    pub learning_rate: f64,
    /// How earlier gradients count.
    pub momentum: Momentum,
    /// Weight decay, added to the gradient of every variable that has one.
    pub weight_decay: f64,
    /// Whether weight decay applies to variables with fewer than two dimensions: the weights of norms, and biases.
    pub decay_norms_and_biases: bool,
    /// The norm to which the whole gradient is clipped.
    pub clip_grad_norm: Option<f64>,
    /// The absolute value to which every number of the gradient is clipped, after the norm.
    pub clip_grad_value: Option<f64>,
}

impl Default for SgdConfig {
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            momentum: Momentum::None,
            weight_decay: 0.0,
            decay_norms_and_biases: true,
            clip_grad_norm: None,
            clip_grad_value: None,
        }
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

impl Rule for SgdConfig {
    type Update = Factors;

    fn memory(&self) -> &'static [&'static str] {
        if self.momentum == Momentum::None { &[] } else { &[".velocity"] }
    }

    fn common(&self) -> Common {
        let &Self { learning_rate, weight_decay, decay_norms_and_biases, clip_grad_norm, clip_grad_value, .. } = self;
        Common { learning_rate, weight_decay, decay_norms_and_biases, clip_grad_norm, clip_grad_value }
    }

    fn decays(&self) -> Vec<(&'static str, f64)> {
        match self.momentum {
            Momentum::None => Vec::new(),
            Momentum::HeavyBall(momentum) | Momentum::Nesterov(momentum) => vec![("momentum", momentum)],
        }
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.learning_rate = learning_rate;
    }

    fn update(&self, step: Step) -> Factors {
        let (momentum, of_gradient, of_velocity) = match self.momentum {
            Momentum::None => (0.0, 1.0, 0.0),
            Momentum::HeavyBall(momentum) => (momentum, 0.0, 1.0),
            Momentum::Nesterov(momentum) => (momentum, 1.0, momentum),
        };
        Factors {
            lr: self.learning_rate,
            gradient: step.grad_scale,
            limit: step.grad_limit,
            decay: step.weight_decay,
            momentum,
            of_gradient,
            of_velocity,
        }
    }
}

/// The factors of the formulas; the step is of_gradient · g + of_velocity · v.
#[derive(Clone, Copy)]
pub struct Factors {
    lr: f64,
    gradient: f64,
    limit: f64,
    decay: f64,
    momentum: f64,
    of_gradient: f64,
    of_velocity: f64,
}

impl Update for Factors {
    const NAME: &'static str = "sgd";

    fn part<T: Float>(&self, variable: &mut [T], [velocity, _]: [&mut [T]; 2], gradient: &[T]) {
        if velocity.is_empty() {
            update(variable, gradient, self);
        } else {
            update_with_velocity(variable, velocity, gradient, self);
        }
    }

    fn whole(&self, p: Tensor, [v, unused]: [Tensor; 2], g: Tensor) -> Result<[Tensor; 3]> {
        let g = (limited_reference(&(g * self.gradient)?, self.limit)? + (&p * self.decay)?)?;
        let v = ((v * self.momentum)? + &g)?;
        let direction = ((g * self.of_gradient)? + (&v * self.of_velocity)?)?;
        Ok([(p - (direction * self.lr)?)?, v, unused])
    }
}

kernel! {
    fn update<const FMA: bool, T>(p: &mut [T], g: &[T], f: &Factors) {
        let [lr, gradient, limit, decay] = [f.lr, f.gradient, f.limit, f.decay].map(T::narrow);
        for (p, &g) in p.iter_mut().zip(g) {
            *p -= lr * (limited(g * gradient, limit) + decay * *p);
        }
    }
}

kernel! {
    fn update_with_velocity<const FMA: bool, T>(p: &mut [T], v: &mut [T], g: &[T], f: &Factors) {
        let [lr, gradient, limit, decay] = [f.lr, f.gradient, f.limit, f.decay].map(T::narrow);
        let [momentum, of_gradient, of_velocity] = [f.momentum, f.of_gradient, f.of_velocity].map(T::narrow);
        for ((p, v), &g) in p.iter_mut().zip(v).zip(g) {
            let g = limited(g * gradient, limit) + decay * *p;
            *v = momentum * *v + g;
            *p -= lr * (of_gradient * g + of_velocity * *v);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::optim::apply::tests::check;
    use crate::testing::kernels::{bits, variable};
    use candle_core::{DType, Var};
    use candle_nn::Optimizer;
    use std::collections::BTreeMap;

    #[test]
    fn the_kernels() {
        for momentum in [Momentum::None, Momentum::HeavyBall(0.9), Momentum::Nesterov(0.9)] {
            let config = SgdConfig { learning_rate: 0.1, momentum, ..SgdConfig::default() };
            for (grad_scale, grad_limit) in [(0.5, f64::INFINITY), (1.0, 0.3)] {
                let step = |number| Step { number, grad_scale, grad_limit, weight_decay: 0.01 };
                check(config.memory().len(), |number| config.update(step(number)));
            }
        }
    }

    fn config() -> SgdConfig {
        let momentum = Momentum::Nesterov(0.9);
        SgdConfig { learning_rate: 0.1, momentum, weight_decay: 1e-3, ..SgdConfig::default() }
    }

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
        let expected = run(&mut Sgd::named(whole.clone(), config()).unwrap(), &whole, 5);
        let mut first = Sgd::named(stopped.clone(), config()).unwrap();
        run(&mut first, &stopped, 2);
        let state: BTreeMap<_, _> = first.state().into_iter().collect();
        assert_eq!(state.keys().collect::<Vec<_>>(), ["a.velocity", "unused.velocity"]);
        let mut second = Sgd::named(stopped.clone(), config()).unwrap();
        second.load_state(&state, first.updates()).unwrap();
        assert_eq!(run(&mut second, &stopped, 3), expected);
        assert_eq!(bits(&stopped[1].1), bits(&variable(5, DType::F32, 1)), "a variable without a gradient stays");
        // The first one's velocity was copied.
        assert_ne!(bits(&second.state()[0].1), bits(&state["a.velocity"]));
        let other: BTreeMap<_, _> = [("b.velocity".to_owned(), state["a.velocity"].clone())].into();
        let line = second.load_state(&other, 1).unwrap_err().to_string();
        assert!(line.contains("optimizer state: 1 of 1 tensors belong to no parameter"), "{line}");
        // Velocities of zeros used not to be saved.
        let velocity: BTreeMap<_, _> = [("a.velocity".to_owned(), state["a.velocity"].clone())].into();
        second.load_state(&velocity, 2).unwrap();
        assert!(bits(&second.state()[1].1).iter().all(|&bits| bits == 0));
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
