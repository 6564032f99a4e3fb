//! The update that SGD makes of one parameter, in place and in one pass.

use super::{Momentum, SgdConfig};
use crate::kernel::float::{Float, has_kernel, values, with_float};
use crate::kernel::in_place::{edit, share_storage};
use crate::kernel::parallel::TASK;
use crate::kernel::simd::kernel;
use crate::{Result, error::ensure_shape};
use candle_core::{Tensor, Var};
use rayon::prelude::*;

/// The numbers of one step.
pub(super) struct Step<'a> {
    pub config: &'a SgdConfig,
    /// The gradient is multiplied by this first, to clip it.
    pub grad_scale: f64,
}

/// Updates `parameter` and, with momentum, its velocity, both of the gradient's shape. Without momentum there is no
/// velocity.
pub(super) fn sgd_step(parameter: &Var, gradient: &Tensor, velocity: Option<&Var>, step: &Step<'_>) -> Result<()> {
    check_shapes(parameter, gradient, velocity)?;
    if !has_kernel(parameter) || !parameter.is_contiguous() {
        return sgd_step_reference(parameter, gradient, velocity, step);
    }
    let shared = std::iter::once(parameter).chain(velocity).any(|edited| share_storage(edited, gradient));
    let gradient = match shared {
        true => gradient.force_contiguous()?,
        false => gradient.contiguous()?,
    };
    let (storage, layout) = gradient.storage_and_layout();
    with_float!(parameter.dtype(), T => {
        let g = values::<T>(&storage, layout)?;
        let factors = Factors::<T>::new(step);
        edit(parameter, |p: &mut [T]| match velocity {
            None => {
                p.par_chunks_mut(TASK).zip(g.par_chunks(TASK)).for_each(|(p, g)| update(p, g, &factors));
                Ok(())
            }
            Some(velocity) => edit(velocity, |v: &mut [T]| {
                let parts = p.par_chunks_mut(TASK).zip(v.par_chunks_mut(TASK)).zip(g.par_chunks(TASK));
                parts.for_each(|((p, v), g)| update_with_velocity(p, v, g, &factors));
                Ok(())
            }),
        })
    })?;
    Ok(())
}

/// [`sgd_step`] in tensor operations.
fn sgd_step_reference(parameter: &Var, gradient: &Tensor, velocity: Option<&Var>, step: &Step<'_>) -> Result<()> {
    check_shapes(parameter, gradient, velocity)?;
    let f = Factors::<f64>::new(step);
    let p = parameter.as_detached_tensor();
    let g = ((gradient.detach() * f.gradient)? + (&p * f.decay)?)?;
    let direction = match velocity {
        None => g,
        Some(velocity) => {
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
    fn new(step: &Step<'_>) -> Self {
        let config = step.config;
        let (momentum, of_gradient, of_velocity) = match config.momentum {
            Momentum::None => (0.0, 1.0, 0.0),
            Momentum::HeavyBall(momentum) => (momentum, 0.0, 1.0),
            Momentum::Nesterov(momentum) => (momentum, 1.0, momentum),
        };
        let [lr, gradient, decay, momentum, of_gradient, of_velocity] =
            [config.learning_rate, step.grad_scale, config.weight_decay, momentum, of_gradient, of_velocity]
                .map(T::narrow);
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
    use crate::testing::{
        self,
        kernels::{DTYPES, bits, same_for_threads, variable},
    };
    use candle_core::{DType, Device};

    const CONFIGS: [SgdConfig; 3] =
        [config(Momentum::None), config(Momentum::HeavyBall(0.9)), config(Momentum::Nesterov(0.9))];

    const fn config(momentum: Momentum) -> SgdConfig {
        SgdConfig { learning_rate: 0.1, momentum, weight_decay: 0.01, clip_grad_norm: None }
    }

    const fn step(config: &SgdConfig) -> Step<'_> {
        Step { config, grad_scale: 0.5 }
    }

    fn velocity(config: &SgdConfig, parameter: &Var) -> Option<Var> {
        let zeros = || Var::zeros(parameter.shape(), parameter.dtype(), &Device::Cpu).unwrap();
        (config.momentum != Momentum::None).then(zeros)
    }

    #[test]
    fn equals_the_reference() {
        for (dtype, tolerance) in DTYPES {
            for (len, config) in [1, 33, TASK, 2 * TASK + 7].into_iter().flat_map(|n| CONFIGS.map(|c| (n, c))) {
                let [p, q] = [variable(len, dtype, 1), variable(len, dtype, 1)];
                let (of_p, of_q) = (velocity(&config, &p), velocity(&config, &q));
                for number in 1..=3 {
                    let g = variable(len, dtype, 10 + number);
                    sgd_step(&p, &g, of_p.as_ref(), &step(&config)).unwrap();
                    sgd_step_reference(&q, &g, of_q.as_ref(), &step(&config)).unwrap();
                    testing::compare("p", &p, &q, tolerance).unwrap();
                }
                if let (Some(v), Some(w)) = (of_p, of_q) {
                    testing::compare("v", &v, &w, tolerance).unwrap();
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
        for (config, expected) in CONFIGS.into_iter().zip(expected) {
            let p = Var::from_slice(&[1.0, -2.0, 0.5, 0.0], 4, &Device::Cpu).unwrap();
            let velocity = velocity(&config, &p);
            for g in gradients {
                sgd_step(&p, &Tensor::new(&g, &Device::Cpu).unwrap(), velocity.as_ref(), &step(&config)).unwrap();
            }
            testing::compare("p", &p, &Tensor::new(&expected, &Device::Cpu).unwrap(), 1e-14).unwrap();
        }
    }

    #[test]
    fn a_gradient_may_share_what_is_edited() {
        for config in CONFIGS {
            let [p, apart] = [variable(5, DType::F32, 1), variable(5, DType::F32, 1)];
            let (of_p, of_apart) = (velocity(&config, &p), velocity(&config, &apart));
            for _ in 0..2 {
                sgd_step(&apart, &apart.copy().unwrap(), of_apart.as_ref(), &step(&config)).unwrap();
                sgd_step(&p, &p, of_p.as_ref(), &step(&config)).unwrap();
                assert_eq!(bits(&p), bits(&apart));
            }
            if let (Some(v), Some(w)) = (of_p, of_apart) {
                sgd_step(&apart, &w.copy().unwrap(), Some(&w), &step(&config)).unwrap();
                sgd_step(&p, &v, Some(&v), &step(&config)).unwrap();
                assert_eq!(bits(&p), bits(&apart));
            }
        }
    }

    #[test]
    fn a_gradient_of_another_shape_is_an_error() {
        let p = variable(5, DType::F32, 1);
        let line = sgd_step(&p, &variable(4, DType::F32, 2), None, &step(&CONFIGS[0])).unwrap_err().to_string();
        assert!(line.contains("sgd: `gradient` has shape [4]; expected [5]"), "{line}");
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        same_for_threads("sgd", || {
            let p = variable((3, TASK), DType::F32, 1);
            let velocity = velocity(&CONFIGS[2], &p);
            for seed in 2..4 {
                sgd_step(&p, &variable((3, TASK), DType::F32, seed), velocity.as_ref(), &step(&CONFIGS[2])).unwrap();
            }
            bits(&p)
        });
    }
}
