//! AdamW: Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101); and Adam itself.

use super::apply::{Update, limited, limited_reference};
use super::in_place::{Common, InPlace, Rule, Step};
use crate::Result;
use crate::kernel::float::Float;
use crate::kernel::simd::kernel;
use candle_core::Tensor;

/// AdamW over named variables, or Adam, if [`AdamWConfig::decoupled`] is false.
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
/// Adam adds weight_decay · p to g instead of the first line. A variable without a gradient stays as it is.
pub type AdamW = InPlace<AdamWConfig>;

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
    /// Weight decay, applied to every variable that has a gradient.
    pub weight_decay: f64,
    /// Whether weight decay scales the variable, as in AdamW; otherwise it is added to the gradient, as in Adam.
    pub decoupled: bool,
    /// Whether weight decay applies to variables with fewer than two dimensions: the weights of norms, and biases.
    pub decay_norms_and_biases: bool,
    /// The norm to which the whole gradient is clipped.
    pub clip_grad_norm: Option<f64>,
    /// The absolute value to which every number of the gradient is clipped, after the norm.
    pub clip_grad_value: Option<f64>,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 1e-2,
            decoupled: true,
            decay_norms_and_biases: true,
            clip_grad_norm: None,
            clip_grad_value: None,
        }
    }
}

impl Rule for AdamWConfig {
    type Update = Factors;

    fn memory(&self) -> &'static [&'static str] {
        &[".first_moment", ".second_moment"]
    }

    fn common(&self) -> Common {
        let &Self { learning_rate, weight_decay, decay_norms_and_biases, clip_grad_norm, clip_grad_value, .. } = self;
        Common { learning_rate, weight_decay, decay_norms_and_biases, clip_grad_norm, clip_grad_value }
    }

    fn decays(&self) -> Vec<(&'static str, f64)> {
        vec![("beta1", self.beta1), ("beta2", self.beta2)]
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.learning_rate = learning_rate;
    }

    fn update(&self, step: Step) -> Factors {
        let power = |beta: f64| beta.powf(step.number as f64);
        let (decoupled, added) = match self.decoupled {
            true => (step.weight_decay, 0.0),
            false => (0.0, step.weight_decay),
        };
        Factors {
            gradient: step.grad_scale,
            limit: step.grad_limit,
            added,
            parameter: 1.0 - self.learning_rate * decoupled,
            towards_first: 1.0 - self.beta1,
            second: self.beta2,
            towards_second: 1.0 - self.beta2,
            root: (1.0 - power(self.beta2)).sqrt(),
            eps: self.eps,
            size: self.learning_rate / (1.0 - power(self.beta1)),
        }
    }
}

/// The factors of the formulas.
#[derive(Clone, Copy)]
pub struct Factors {
    gradient: f64,
    limit: f64,
    /// Weight decay that is added to the gradient.
    added: f64,
    parameter: f64,
    towards_first: f64,
    second: f64,
    towards_second: f64,
    /// √(1 − β₂ᵗ).
    root: f64,
    eps: f64,
    /// lr / (1 − β₁ᵗ).
    size: f64,
}

impl Update for Factors {
    const NAME: &'static str = "adamw";

    fn part<T: Float>(&self, variable: &mut [T], [first, second]: [&mut [T]; 2], gradient: &[T]) {
        update(variable, first, second, gradient, self);
    }

    fn whole(&self, p: Tensor, [m, v]: [Tensor; 2], g: Tensor) -> Result<[Tensor; 3]> {
        let g = (limited_reference(&(g * self.gradient)?, self.limit)? + (&p * self.added)?)?;
        let m = (&m + ((&g - &m)? * self.towards_first)?)?;
        let v = ((v * self.second)? + (g.sqr()? * self.towards_second)?)?;
        let denominator = ((v.sqrt()? / self.root)? + self.eps)?;
        let p = ((p * self.parameter)? - ((&m / denominator)? * self.size)?)?;
        Ok([p, m, v])
    }
}

kernel! {
    fn update<const FMA: bool, T>(p: &mut [T], m: &mut [T], v: &mut [T], g: &[T], f: &Factors) {
        let [gradient, limit, added, parameter] = [f.gradient, f.limit, f.added, f.parameter].map(T::narrow);
        let [towards_first, second, towards_second] = [f.towards_first, f.second, f.towards_second].map(T::narrow);
        let [root, eps, size] = [f.root, f.eps, f.size].map(T::narrow);
        for (((p, m), v), &g) in p.iter_mut().zip(m).zip(v).zip(g) {
            let g = limited(g * gradient, limit) + added * *p;
            *m += (g - *m) * towards_first;
            *v = *v * second + g * g * towards_second;
            *p = *p * parameter - *m / (v.sqrt() / root + eps) * size;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::optim::apply::tests::check;
    use crate::testing::kernels::{bits, variable};
    use candle_core::backprop::GradStore;
    use candle_core::{DType, Device, Var};
    use candle_nn::Optimizer;
    use std::collections::BTreeMap;

    #[test]
    fn the_kernel() {
        for decoupled in [true, false] {
            let config = AdamWConfig { learning_rate: 0.1, decoupled, ..AdamWConfig::default() };
            for (grad_scale, grad_limit) in [(0.5, f64::INFINITY), (1.0, 0.3)] {
                check(2, |number| config.update(Step { number, grad_scale, grad_limit, weight_decay: 0.01 }));
            }
        }
    }

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
        let (measured, clipped, scaled) = (vars(), vars(), vars());
        let mut optimizer = AdamW::named(measured.clone(), AdamWConfig::default()).unwrap();
        let norm = optimizer.update(&gradients(&measured)).unwrap();
        assert!(norm > 0.0);
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
