//! One step of stochastic gradient descent in place and in one pass.

use crate::kernel::float::{Float, has_kernel, values, with_float};
use crate::kernel::in_place::{edit, share_storage};
use crate::kernel::parallel::TASK;
use crate::kernel::simd::kernel;
use crate::{Result, error::ensure_shape};
use candle_core::{Tensor, Var};
use rayon::prelude::*;

/// The numbers of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdStep {
    /// Learning rate.
    pub lr: f64,
    /// What the step makes of earlier gradients.
    pub momentum: Momentum,
    /// Weight decay, added to the gradient.
    pub weight_decay: f64,
    /// Factor for the gradient before all else, for clipping.
    pub grad_scale: f64,
}

/// How earlier gradients count.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Momentum {
    /// Not at all.
    None,
    /// The step is v ← μ v + g.
    Heavy(f64),
    /// The step is g + μ v after v ← μ v + g.
    Nesterov(f64),
}

/// Updates `parameter` as PyTorch's `SGD` does, in place: with g the gradient times `grad_scale` plus weight_decay · p,
/// p ← p − lr · (g or what [`Momentum`] makes of it).
///
/// `velocity` holds v, of the parameter's shape. It is made, of zeros, at the first step that needs one.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) where gradient or velocity are not of the parameter's shape.
pub fn sgd_step(parameter: &Var, gradient: &Tensor, velocity: &mut Option<Var>, step: &SgdStep) -> Result<()> {
    check_shapes(parameter, gradient, velocity.as_ref())?;
    if !has_kernel(parameter) || !parameter.is_contiguous() {
        return sgd_step_reference(parameter, gradient, velocity, step);
    }
    let shared = std::iter::once(parameter).chain(velocity.as_ref()).any(|edited| share_storage(edited, gradient));
    let gradient = match shared {
        true => gradient.force_contiguous()?,
        false => gradient.contiguous()?,
    };
    let (storage, layout) = gradient.storage_and_layout();
    with_float!(parameter.dtype(), T => {
        let g = values::<T>(&storage, layout)?;
        let factors = Factors::<T>::new(step);
        edit(parameter, |p: &mut [T]| match step.momentum {
            Momentum::None => {
                p.par_chunks_mut(TASK).zip(g.par_chunks(TASK)).for_each(|(p, g)| update(p, g, &factors));
                Ok(())
            }
            _ => edit(velocity_of(parameter, velocity)?, |v: &mut [T]| {
                let parts = p.par_chunks_mut(TASK).zip(v.par_chunks_mut(TASK)).zip(g.par_chunks(TASK));
                parts.for_each(|((p, v), g)| update_with_velocity(p, v, g, &factors));
                Ok(())
            }),
        })
    })?;
    Ok(())
}

/// [`sgd_step`] in tensor operations.
///
/// # Errors
/// As [`sgd_step`].
pub fn sgd_step_reference(
    parameter: &Var,
    gradient: &Tensor,
    velocity: &mut Option<Var>,
    step: &SgdStep,
) -> Result<()> {
    check_shapes(parameter, gradient, velocity.as_ref())?;
    let f = Factors::<f64>::new(step);
    let p = parameter.as_detached_tensor();
    let g = ((gradient.detach() * f.gradient)? + (&p * f.decay)?)?;
    let direction = match step.momentum {
        Momentum::None => g,
        _ => {
            let velocity = velocity_of(parameter, velocity)?;
            let v = ((velocity.as_detached_tensor() * f.momentum)? + &g)?;
            velocity.set(&v)?;
            ((g * f.of_gradient)? + (v * f.of_velocity)?)?
        }
    };
    Ok(parameter.set(&(p - (direction * f.lr)?)?)?)
}

fn check_shapes(parameter: &Var, gradient: &Tensor, velocity: Option<&Var>) -> Result<()> {
    let velocity = velocity.map_or(gradient, |v| v.as_tensor());
    for (name, tensor) in [("gradient", gradient), ("velocity", velocity)] {
        ensure_shape(tensor.dims() == parameter.dims(), "sgd", name, tensor, || format!("{:?}", parameter.dims()))?;
    }
    Ok(())
}

fn velocity_of<'a>(parameter: &Var, velocity: &'a mut Option<Var>) -> candle_core::Result<&'a Var> {
    match velocity {
        Some(velocity) => Ok(velocity),
        // `zeros_like` reads the parameter's shape alone, so that it may be called while its elements are edited.
        None => Ok(velocity.insert(Var::from_tensor(&parameter.zeros_like()?)?)),
    }
}

/// The factors of the formulas; the step is of_gradient · g + of_velocity · v.
struct Factors<T> {
    lr: T,
    gradient: T,
    decay: T,
    momentum: T,
    of_gradient: T,
    of_velocity: T,
}

impl<T: Float> Factors<T> {
    fn new(step: &SgdStep) -> Self {
        let (momentum, of_gradient, of_velocity) = match step.momentum {
            Momentum::None => (0.0, 1.0, 0.0),
            Momentum::Heavy(momentum) => (momentum, 0.0, 1.0),
            Momentum::Nesterov(momentum) => (momentum, 1.0, momentum),
        };
        let [lr, gradient, decay, momentum, of_gradient, of_velocity] =
            [step.lr, step.grad_scale, step.weight_decay, momentum, of_gradient, of_velocity].map(T::narrow);
        Self { lr, gradient, decay, momentum, of_gradient, of_velocity }
    }
}

kernel! {
    fn update<const FMA: bool, T>(p: &mut [T], g: &[T], f: &Factors<T>) {
        for (p, &g) in p.iter_mut().zip(g) {
            *p -= f.lr * (g * f.gradient + f.decay * *p);
        }
    }
}

kernel! {
    fn update_with_velocity<const FMA: bool, T>(p: &mut [T], v: &mut [T], g: &[T], f: &Factors<T>) {
        for ((p, v), &g) in p.iter_mut().zip(v).zip(g) {
            let g = g * f.gradient + f.decay * *p;
            *v = f.momentum * *v + g;
            *p -= f.lr * (f.of_gradient * g + f.of_velocity * *v);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{
        check,
        testing::kernels::{DTYPES, bits, same_for_threads, variable},
    };
    use candle_core::{DType, Device};

    const MOMENTA: [Momentum; 3] = [Momentum::None, Momentum::Heavy(0.9), Momentum::Nesterov(0.9)];

    fn step(momentum: Momentum) -> SgdStep {
        SgdStep { lr: 0.1, momentum, weight_decay: 0.01, grad_scale: 0.5 }
    }

    #[test]
    fn equals_the_reference() {
        for (dtype, tolerance) in DTYPES {
            for (len, momentum) in [1, 33, TASK, 2 * TASK + 7].into_iter().flat_map(|n| MOMENTA.map(|m| (n, m))) {
                let [p, q] = [variable(len, dtype, 1), variable(len, dtype, 1)];
                let (mut of_p, mut of_q) = (None, None);
                for number in 1..=3 {
                    let g = variable(len, dtype, 10 + number);
                    sgd_step(&p, &g, &mut of_p, &step(momentum)).unwrap();
                    sgd_step_reference(&q, &g, &mut of_q, &step(momentum)).unwrap();
                    check::compare("p", &p, &q, tolerance).unwrap();
                }
                assert_eq!(of_p.is_none(), momentum == Momentum::None);
                if let (Some(v), Some(w)) = (of_p, of_q) {
                    check::compare("v", &v, &w, tolerance).unwrap();
                }
            }
        }
    }

    #[test]
    fn equals_pytorch() {
        // import torch
        // for k in ({}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}):
        //     p = torch.nn.Parameter(torch.tensor([1., -2., 0.5, 0.], dtype=torch.float64))
        //     o = torch.optim.SGD([p], lr=0.1, weight_decay=0.01, **k)
        //     for g in ([1., 2., 0., -1.], [-3., 0.5, 0., 0.], [0.25, -1., 2., 1.]):
        //         p.grad = torch.tensor(g, dtype=torch.float64) * 0.5
        //         o.step()
        //     print(p.tolist())
        let expected = [
            [1.0844529489999999, -2.068781098, 0.3985014995, -9.995000000000004e-05],
            [1.131434749, -2.2568846979999995, 0.3971973995, 0.08531005],
            [1.2027379581909998, -2.299460438182, 0.3059824505705, 0.07643544295000002],
        ];
        let gradients = [[1.0, 2.0, 0.0, -1.0], [-3.0, 0.5, 0.0, 0.0], [0.25, -1.0, 2.0, 1.0]];
        for (momentum, expected) in MOMENTA.into_iter().zip(expected) {
            let p = Var::from_slice(&[1.0, -2.0, 0.5, 0.0], 4, &Device::Cpu).unwrap();
            let mut velocity = None;
            for g in gradients {
                sgd_step(&p, &Tensor::new(&g, &Device::Cpu).unwrap(), &mut velocity, &step(momentum)).unwrap();
            }
            check::compare("p", &p, &Tensor::new(&expected, &Device::Cpu).unwrap(), 1e-14).unwrap();
        }
    }

    #[test]
    fn a_gradient_may_share_what_is_edited() {
        for momentum in MOMENTA {
            let [p, apart] = [variable(5, DType::F32, 1), variable(5, DType::F32, 1)];
            let (mut velocity, mut expected) = (None, None);
            for _ in 0..2 {
                sgd_step(&apart, &apart.copy().unwrap(), &mut expected, &step(momentum)).unwrap();
                sgd_step(&p, &p, &mut velocity, &step(momentum)).unwrap();
                assert_eq!(bits(&p), bits(&apart));
            }
            if let (Some(v), Some(w)) = (velocity.clone(), expected.clone()) {
                sgd_step(&apart, &w.copy().unwrap(), &mut expected, &step(momentum)).unwrap();
                sgd_step(&p, &v, &mut velocity, &step(momentum)).unwrap();
                assert_eq!(bits(&p), bits(&apart));
            }
        }
    }

    #[test]
    fn shapes_and_threads() {
        let p = variable(5, DType::F32, 1);
        let line = sgd_step(&p, &variable(4, DType::F32, 2), &mut None, &step(Momentum::None)).unwrap_err().to_string();
        assert!(line.contains("sgd: `gradient` has shape [4]; expected [5]"), "{line}");
        same_for_threads("sgd", || {
            let (p, mut velocity) = (variable((3, TASK), DType::F32, 1), None);
            for seed in 2..4 {
                let g = variable((3, TASK), DType::F32, seed);
                sgd_step(&p, &g, &mut velocity, &step(Momentum::Nesterov(0.9))).unwrap();
            }
            bits(&p)
        });
    }
}
