//! Muon: momentum whose steps are orthogonal matrices (Jordan et al., <https://kellerjordan.github.io/posts/muon>).

use super::adamw::{AdamW, AdamWConfig};
use super::apply::limited_reference;
use super::gradient_norm;
use super::in_place::{Rule, copy, refuse_half};
use crate::Result;
use crate::error::ensure_shape;
use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use candle_nn::Optimizer;
use std::collections::BTreeMap;

const VELOCITY: &str = ".velocity";

/// Muon for variables with two or more dimensions, [`AdamW`] for the rest: the weights of norms, and biases.
///
/// A variable with more than two dimensions counts as a matrix with a row per entry of the first, so a convolution's row
/// is one filter. An update of an m × n matrix computes, with g the clipped gradient and v the velocity, which starts at
/// 0:
///
/// ```text
/// v ← μ v + (1 − μ) g
/// p ← p · (1 − lr · weight_decay) − lr · 0.2 √max(m, n) · orthogonal(μ v + (1 − μ) g)
/// ```
///
/// Orthogonal means that all singular values are near 1, by five steps of a Newton–Schulz iteration. The factor gives a
/// step the size that AdamW's has (Liu et al., arXiv 2502.16982), so both share a learning rate and a weight decay. This
/// is PyTorch's `torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"`, but for the iteration, which PyTorch runs in
/// bfloat16 and this in the variable's own type.
///
/// A variable without a gradient stays as it is.
#[derive(Debug)]
pub struct Muon {
    config: MuonConfig,
    matrices: Vec<Matrix>,
    others: AdamW,
}

/// The options of [`Muon`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MuonConfig {
    /// Momentum, μ.
    pub momentum: f64,
    /// The options of AdamW; its learning rate, weight decay and clipping count for both. The weight decay of matrices always
    /// scales them, whatever [`AdamWConfig::decoupled`] is.
    pub adamw: AdamWConfig,
}

impl Default for MuonConfig {
    fn default() -> Self {
        Self { momentum: 0.95, adamw: AdamWConfig::default() }
    }
}

/// A variable that Muon updates.
#[derive(Debug)]
struct Matrix {
    name: String,
    var: Var,
    velocity: Var,
}

impl Muon {
    /// An optimizer of `vars`, such as those of [`Parameters::trainable`](crate::Parameters::trainable). The names are
    /// those of [`Self::state`].
    ///
    /// # Errors
    /// [`Error::DType`](crate::Error::DType) for variables in half precision.
    pub fn named(vars: Vec<(String, Var)>, config: MuonConfig) -> Result<Self> {
        let (matrices, others): (Vec<_>, Vec<_>) = vars.into_iter().partition(|(_, var)| var.rank() > 1);
        let matrix = |(name, var): (String, Var)| {
            refuse_half("muon", &var)?;
            let velocity = Var::zeros(var.shape(), var.dtype(), var.device())?;
            Ok(Matrix { name, var, velocity })
        };
        let matrices = matrices.into_iter().map(matrix).collect::<Result<_>>()?;
        Ok(Self { config, matrices, others: AdamW::named(others, config.adamw)? })
    }

    /// Updates every variable that has a gradient; returns the norm of all gradients together, before clipping.
    ///
    /// If the norm is not finite, nothing is updated.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if a gradient does not have the shape of its variable.
    pub fn update(&mut self, gradients: &GradStore) -> Result<f64> {
        let of_matrices = self.matrices.iter().filter_map(|matrix| gradients.get(&matrix.var));
        let present: Vec<&Tensor> = of_matrices.chain(self.others.gradients(gradients)).collect();
        let norm = gradient_norm(&present)?;
        if !norm.is_finite() {
            return Ok(norm);
        }
        for matrix in &self.matrices {
            if let Some(gradient) = gradients.get(&matrix.var) {
                matrix.update(&self.config, gradient, norm)?;
            }
        }
        self.others.update_given_norm(gradients, norm)?;
        Ok(norm)
    }

    /// The number of updates so far.
    pub const fn updates(&self) -> u64 {
        self.others.updates()
    }

    /// What is remembered of every variable, by name: `NAME.velocity` of a matrix, [`AdamW`]'s tensors of the others.
    ///
    /// The tensors share storage with the optimizer: the next update changes them.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let velocity = |matrix: &Matrix| (format!("{}{VELOCITY}", matrix.name), matrix.velocity.as_tensor().clone());
        self.matrices.iter().map(velocity).chain(self.others.state()).collect()
    }

    /// Continues after `updates` updates with a copy of what [`Self::state`] returned then.
    ///
    /// A variable of which `state` holds nothing starts with zeros, as before its first gradient.
    ///
    /// # Errors
    /// [`Error::OptimizerState`](crate::Error::OptimizerState) if `state` holds a tensor that belongs to no variable, or one
    /// of another shape, or only one of AdamW's two tensors of a variable; the optimizer is then unchanged.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>, updates: u64) -> Result<()> {
        let mut rest = state.clone();
        let velocity = |Matrix { name, var, .. }: &Matrix| {
            let name = format!("{name}{VELOCITY}");
            match rest.remove(&name) {
                Some(tensor) => copy(&name, &tensor, var),
                None => Ok(Var::zeros(var.shape(), var.dtype(), var.device())?),
            }
        };
        let velocities = self.matrices.iter().map(velocity).collect::<Result<Vec<_>>>()?;
        self.others.load_state(&rest, updates)?;
        for (matrix, velocity) in self.matrices.iter_mut().zip(velocities) {
            matrix.velocity = velocity;
        }
        Ok(())
    }
}

impl Matrix {
    fn update(&self, config: &MuonConfig, gradient: &Tensor, norm: f64) -> Result<()> {
        let &MuonConfig { momentum, adamw } = config;
        let expected = || format!("{:?}", self.var.dims());
        ensure_shape(gradient.dims() == self.var.dims(), "muon", "gradient", gradient, expected)?;
        let (scale, limit) = adamw.common().clip(norm);
        let gradient = (limited_reference(&(gradient.detach() * scale)?, limit)? * (1.0 - momentum))?;
        let velocity = ((self.velocity.as_detached_tensor() * momentum)? + &gradient)?;
        let direction = ((&velocity * momentum)? + gradient)?.flatten_from(1)?;
        let (rows, columns) = direction.dims2()?;
        let size = adamw.learning_rate * 0.2 * (rows.max(columns) as f64).sqrt();
        let step = (orthogonal(&direction)? * size)?.reshape(self.var.shape())?;
        let kept = (self.var.as_detached_tensor() * (1.0 - adamw.learning_rate * adamw.weight_decay))?;
        self.var.set(&(kept - step)?)?;
        Ok(self.velocity.set(&velocity)?)
    }
}

/// The matrix with the singular vectors of `matrix`, and singular values between 0.7 and 1.2, but for those that are tiny
/// beside the largest; zeros for a matrix of zeros.
fn orthogonal(matrix: &Tensor) -> Result<Tensor> {
    let (rows, columns) = matrix.dims2()?;
    let wide = if rows > columns { matrix.t()?.contiguous()? } else { matrix.clone() };
    let mut x = (&wide / gradient_norm(&[&wide])?.max(1e-7))?;
    for _ in 0..5 {
        // x ← a x + (b y + c y²) x with y = x xᵀ, a polynomial of the singular values that drives them towards 1.
        let y = x.matmul(&x.t()?)?;
        let polynomial = ((&y * -4.7750)? + (y.matmul(&y)? * 2.0315)?)?;
        x = ((&x * 3.4445)? + polynomial.matmul(&x)?)?;
    }
    Ok(if rows > columns { x.t()?.contiguous()? } else { x })
}

/// Variables are named by their positions. A gradient whose norm is not finite is an error.
impl Optimizer for Muon {
    type Config = MuonConfig;

    fn new(vars: Vec<Var>, config: MuonConfig) -> candle_core::Result<Self> {
        Ok(Self::named(vars.into_iter().enumerate().map(|(i, var)| (i.to_string(), var)).collect(), config)?)
    }

    fn step(&mut self, gradients: &GradStore) -> candle_core::Result<()> {
        let norm = self.update(gradients)?;
        match norm.is_finite() {
            true => Ok(()),
            false => candle_core::bail!("muon: the norm of the gradient is {norm}; no parameter was updated"),
        }
    }

    fn learning_rate(&self) -> f64 {
        self.config.adamw.learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.config.adamw.learning_rate = learning_rate;
        self.others.set_learning_rate(learning_rate);
    }

    fn backward_step(&mut self, loss: &Tensor) -> candle_core::Result<()> {
        self.step(&crate::backward(loss)?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::kernels::{bits, same_for_threads, variable};
    use candle_core::{DType, Device};

    fn vars() -> Vec<(String, Var)> {
        let var = |(name, shape, seed): (&str, &[usize], u64)| (name.to_owned(), variable(shape, DType::F32, seed));
        [("a", &[4, 3, 2][..], 1), ("b", &[5], 2), ("unused", &[2, 2], 3)].map(var).into()
    }

    /// `updates` times down the gradients of Σ a³ + b³.
    fn run(optimizer: &mut Muon, vars: &[(String, Var)], updates: usize) -> Vec<u64> {
        for _ in 0..updates {
            let cubes = vars[..2].iter().map(|(_, var)| var.powf(3.0).unwrap().sum_all().unwrap());
            let loss = cubes.reduce(|a, b| (a + b).unwrap()).unwrap();
            assert!(optimizer.update(&crate::backward(&loss).unwrap()).unwrap() > 0.0);
        }
        vars.iter().flat_map(|(_, var)| bits(var)).collect()
    }

    #[test]
    fn steps_are_orthogonal() {
        for (rows, columns) in [(1, 7), (5, 5), (6, 40), (40, 6)] {
            let matrix = variable((rows, columns), DType::F64, 7);
            let q = orthogonal(&matrix).unwrap();
            assert_eq!(q.dims(), [rows, columns]);
            let gram = if rows > columns { q.t().unwrap().matmul(&q) } else { q.matmul(&q.t().unwrap()) };
            let gram = gram.unwrap().to_vec2::<f64>().unwrap();
            for (i, row) in gram.iter().enumerate() {
                for (j, &product) in row.iter().enumerate() {
                    // The iteration stops at singular values near 1 and goes no closer.
                    let expected = if i == j { 0.4..1.5 } else { -0.5..0.5 };
                    assert!(expected.contains(&product), "{rows}x{columns}: {i}, {j}: {product}");
                }
            }
            let turned = orthogonal(&matrix.t().unwrap().contiguous().unwrap()).unwrap().t().unwrap();
            crate::testing::compare("of the transpose", &turned, &q, 1e-12).unwrap();
            let longer = orthogonal(&(&*matrix * 1e3).unwrap()).unwrap();
            crate::testing::compare("of a multiple", &longer, &q, 1e-12).unwrap();
        }
        let zeros = Tensor::zeros((3, 4), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(bits(&orthogonal(&zeros).unwrap()), bits(&zeros));
    }

    #[test]
    fn continues_from_its_state() {
        let (whole, stopped) = (vars(), vars());
        let expected = run(&mut Muon::named(whole.clone(), MuonConfig::default()).unwrap(), &whole, 5);
        let mut first = Muon::named(stopped.clone(), MuonConfig::default()).unwrap();
        run(&mut first, &stopped, 2);
        let state: BTreeMap<_, _> = first.state().into_iter().collect();
        let names = ["a.velocity", "b.first_moment", "b.second_moment", "unused.velocity"];
        assert_eq!(state.keys().collect::<Vec<_>>(), names);
        let mut second = Muon::named(stopped.clone(), MuonConfig::default()).unwrap();
        second.load_state(&state, first.updates()).unwrap();
        assert_eq!(run(&mut second, &stopped, 3), expected);
        assert_eq!(bits(&stopped[2].1), bits(&vars()[2].1), "a variable without a gradient stays");
    }

    #[test]
    fn a_state_that_does_not_fit_changes_nothing() {
        let vars = vars();
        let mut optimizer = Muon::named(vars.clone(), MuonConfig::default()).unwrap();
        run(&mut optimizer, &vars, 2);
        let state: BTreeMap<_, _> = optimizer.state().into_iter().map(|(name, t)| (name, t.copy().unwrap())).collect();
        let expected = optimizer.state().iter().flat_map(|(_, t)| bits(t)).collect::<Vec<_>>();
        let mut refused = |name: &str, shape: &[usize], message: &str| {
            let mut changed: BTreeMap<_, _> =
                state.iter().map(|(name, t)| (name.clone(), t.zeros_like().unwrap())).collect();
            changed.insert(name.to_owned(), Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap());
            let line = optimizer.load_state(&changed, 7).unwrap_err().to_string();
            assert!(line.contains(message), "{line}");
            assert_eq!(optimizer.state().iter().flat_map(|(_, t)| bits(t)).collect::<Vec<_>>(), expected);
            assert_eq!(optimizer.updates(), 2);
        };
        refused("a.velocity", &[4, 6], "tensor `a.velocity` has shape [4, 6]; expected [4, 3, 2]");
        refused("b.first_moment", &[4], "tensor `b.first_moment` has shape [4]; expected [5]");
        refused("c.velocity", &[4], "1 of 3 tensors belong to no parameter");
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        same_for_threads("muon", || {
            let vars = vec![("a".to_owned(), variable((96, 432), DType::F32, 1))];
            let loss = vars[0].1.powf(3.0).unwrap().sum_all().unwrap();
            let mut optimizer = Muon::named(vars.clone(), MuonConfig::default()).unwrap();
            optimizer.update(&crate::backward(&loss).unwrap()).unwrap();
            bits(&vars[0].1)
        });
    }

    #[test]
    fn is_an_optimizer_of_candles() {
        let x = variable((3, 5), DType::F32, 1);
        let mut optimizer = <Muon as Optimizer>::new(vec![x.clone()], MuonConfig::default()).unwrap();
        optimizer.set_learning_rate(0.05);
        for _ in 0..200 {
            optimizer.backward_step(&x.sqr().unwrap().sum_all().unwrap()).unwrap();
        }
        assert_eq!((optimizer.learning_rate(), optimizer.updates()), (0.05, 200));
        assert!(x.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap() < 0.1, "{x}");
        let loss = (x.sum_all().unwrap() * f64::NAN).unwrap();
        let before = bits(&x);
        let line = optimizer.backward_step(&loss).unwrap_err().to_string();
        assert!(line.contains("muon: the norm of the gradient is NaN; no parameter was updated"), "{line}");
        assert_eq!(bits(&x), before);
        let mut gradients = crate::backward(&x.sum_all().unwrap()).unwrap();
        gradients.insert(&x, Tensor::zeros((5, 3), DType::F32, &Device::Cpu).unwrap());
        let line = optimizer.update(&gradients).unwrap_err().to_string();
        assert!(line.contains("muon: `gradient` has shape [5, 3]; expected [3, 5]"), "{line}");
    }
}
