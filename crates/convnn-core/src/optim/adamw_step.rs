//! The update that AdamW makes of one parameter, in place and in one pass.

use super::AdamWConfig;
use crate::kernel::float::{Float, has_kernel, values, with_float};
use crate::kernel::in_place::{edit, share_storage};
use crate::kernel::parallel::TASK;
use crate::kernel::simd::kernel;
use crate::{Result, error::ensure_shape};
use candle_core::{Tensor, Var};
use rayon::prelude::*;

/// The numbers of one step.
pub(super) struct Step<'a> {
    pub config: &'a AdamWConfig,
    /// The number of this step, counted from 1.
    pub number: u64,
    /// The gradient is multiplied by this first, to clip it.
    pub grad_scale: f64,
}

/// Updates `parameter` and its two moments, all of the gradient's shape.
pub(super) fn adamw_step(parameter: &Var, gradient: &Tensor, moments: &[Var; 2], step: &Step<'_>) -> Result<()> {
    check_shapes(parameter, gradient, moments)?;
    if !has_kernel(parameter) || !parameter.is_contiguous() {
        return adamw_step_reference(parameter, gradient, moments, step);
    }
    let [first, second] = moments;
    let edited = [parameter, first, second];
    let gradient = match edited.iter().any(|edited| share_storage(edited, gradient)) {
        true => gradient.force_contiguous()?,
        false => gradient.contiguous()?,
    };
    let (storage, layout) = gradient.storage_and_layout();
    with_float!(parameter.dtype(), T => {
        let g = values::<T>(&storage, layout)?;
        let factors = Factors::<T>::new(step);
        edit(parameter, |p: &mut [T]| {
            edit(first, |m: &mut [T]| {
                edit(second, |v: &mut [T]| {
                    let parts = p.par_chunks_mut(TASK).zip(m.par_chunks_mut(TASK)).zip(v.par_chunks_mut(TASK));
                    parts.zip(g.par_chunks(TASK)).for_each(|(((p, m), v), g)| update(p, m, v, g, &factors));
                    Ok(())
                })
            })
        })
    })?;
    Ok(())
}

/// [`adamw_step`] in tensor operations.
fn adamw_step_reference(parameter: &Var, gradient: &Tensor, moments: &[Var; 2], step: &Step<'_>) -> Result<()> {
    check_shapes(parameter, gradient, moments)?;
    let [first, second] = moments;
    let f = Factors::<f64>::new(step);
    let g = (gradient.detach() * f.gradient)?;
    let m = first.as_detached_tensor();
    let m = (&m + ((&g - &m)? * f.towards_first)?)?;
    let v = ((second.as_detached_tensor() * f.second)? + (g.sqr()? * f.towards_second)?)?;
    let denominator = ((v.sqrt()? / f.root)? + f.eps)?;
    let p = ((parameter.as_detached_tensor() * f.parameter)? - ((&m / denominator)? * f.size)?)?;
    first.set(&m)?;
    second.set(&v)?;
    Ok(parameter.set(&p)?)
}

fn check_shapes(parameter: &Var, gradient: &Tensor, [first, second]: &[Var; 2]) -> Result<()> {
    for (name, tensor) in [("gradient", gradient), ("first moment", first), ("second moment", second)] {
        ensure_shape(tensor.dims() == parameter.dims(), "adamw", name, tensor, || format!("{:?}", parameter.dims()))?;
    }
    Ok(())
}

/// The factors of the formulas, computed in f64.
struct Factors<T> {
    gradient: T,
    parameter: T,
    towards_first: T,
    second: T,
    towards_second: T,
    /// √(1 − β₂ᵗ).
    root: T,
    eps: T,
    /// lr / (1 − β₁ᵗ).
    size: T,
}

impl<T: Float> Factors<T> {
    fn new(step: &Step<'_>) -> Self {
        let s = step.config;
        let power = |beta: f64| beta.powf(step.number as f64);
        Self {
            gradient: T::narrow(step.grad_scale),
            parameter: T::narrow(1.0 - s.learning_rate * s.weight_decay),
            towards_first: T::narrow(1.0 - s.beta1),
            second: T::narrow(s.beta2),
            towards_second: T::narrow(1.0 - s.beta2),
            root: T::narrow((1.0 - power(s.beta2)).sqrt()),
            eps: T::narrow(s.eps),
            size: T::narrow(s.learning_rate / (1.0 - power(s.beta1))),
        }
    }
}

kernel! {
    fn update<const FMA: bool, T>(p: &mut [T], m: &mut [T], v: &mut [T], g: &[T], f: &Factors<T>) {
        for (((p, m), v), &g) in p.iter_mut().zip(m).zip(v).zip(g) {
            let g = g * f.gradient;
            *m += (g - *m) * f.towards_first;
            *v = *v * f.second + g * g * f.towards_second;
            *p = *p * f.parameter - *m / (v.sqrt() / f.root + f.eps) * f.size;
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

    const CONFIG: AdamWConfig = AdamWConfig {
        learning_rate: 0.1,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.01,
        clip_grad_norm: None,
    };

    const fn step(number: u64) -> Step<'static> {
        Step { config: &CONFIG, number, grad_scale: 0.5 }
    }

    fn zeros(parameter: &Var) -> [Var; 2] {
        [(); 2].map(|()| Var::zeros(parameter.shape(), parameter.dtype(), &Device::Cpu).unwrap())
    }

    #[test]
    fn equals_the_reference() {
        for (dtype, tolerance) in DTYPES {
            for len in [1, 33, TASK, 2 * TASK + 7] {
                let [p, q] = [variable(len, dtype, 1), variable(len, dtype, 1)];
                let (of_p, of_q) = (zeros(&p), zeros(&q));
                for number in 1..=3 {
                    let g = variable(len, dtype, 10 + number);
                    adamw_step(&p, &g, &of_p, &step(number)).unwrap();
                    adamw_step_reference(&q, &g, &of_q, &step(number)).unwrap();
                    testing::compare("p", &p, &q, tolerance).unwrap();
                    testing::compare("m", &of_p[0], &of_q[0], tolerance).unwrap();
                    testing::compare("v", &of_p[1], &of_q[1], tolerance).unwrap();
                }
            }
        }
    }

    #[test]
    fn equals_pytorch() {
        // import torch
        // p = torch.nn.Parameter(torch.tensor([1., -2., 0.5, 0.], dtype=torch.float64))
        // o = torch.optim.AdamW([p], lr=0.1, weight_decay=0.01)
        // for g in ([1., 2., 0., -1e-9], [-3., 0.5, 0., 0.], [0.25, -1., 2., 1.]):
        //     p.grad = torch.tensor(g, dtype=torch.float64) * 0.5
        //     o.step()
        // print(p.tolist(), o.state[p]["exp_avg"].tolist(), o.state[p]["exp_avg_sq"].tolist())
        let gradients = [[1.0, 2.0, 0.0, -1e-9], [-3.0, 0.5, 0.0, 0.0], [0.25, -1.0, 2.0, 1.0]];
        let p = Var::from_slice(&[1.0, -2.0, 0.5, 0.0], 4, &Device::Cpu).unwrap();
        let moments = zeros(&p);
        for (number, g) in (1..).zip(gradients) {
            adamw_step(&p, &Tensor::new(&g, &Device::Cpu).unwrap(), &moments, &step(number)).unwrap();
        }
        let expect = |label, found: &Tensor, expected: [f64; 4]| {
            testing::compare(label, found, &Tensor::new(&expected, &Device::Cpu).unwrap(), 1e-14).unwrap();
        };
        expect("p", &p, [0.979617219899451, -2.206637963469236, 0.43462014066605287, -0.05684369583107683]);
        expect("m", &moments[0], [-0.08199999999999999, 0.05349999999999999, 0.09999999999999998, 0.04999999995949999]);
        expect(
            "v",
            &moments[1],
            [0.0025128752500000024, 0.0013104385000000012, 0.0010000000000000009, 0.0002500000000000002],
        );
    }

    #[test]
    fn a_gradient_of_another_shape_is_an_error() {
        let p = variable(5, DType::F32, 1);
        let line = adamw_step(&p, &variable(4, DType::F32, 2), &zeros(&p), &step(2)).unwrap_err().to_string();
        assert!(line.contains("adamw: `gradient` has shape [4]; expected [5]"), "{line}");
    }

    #[test]
    fn a_gradient_may_share_what_is_edited() {
        let [p, apart] = [variable(5, DType::F32, 1), variable(5, DType::F32, 1)];
        let (moments, expected) = (zeros(&p), zeros(&apart));
        for number in 1..=2 {
            adamw_step(&apart, &apart.copy().unwrap(), &expected, &step(number)).unwrap();
            adamw_step(&p, &p, &moments, &step(number)).unwrap();
            assert_eq!(bits(&p), bits(&apart));
        }
        adamw_step(&apart, &expected[0].copy().unwrap(), &expected, &step(3)).unwrap();
        adamw_step(&p, &moments[0], &moments, &step(3)).unwrap();
        assert_eq!(bits(&p), bits(&apart));
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        same_for_threads("adamw", || {
            let p = variable((3, TASK), DType::F32, 1);
            adamw_step(&p, &variable((3, TASK), DType::F32, 2), &zeros(&p), &step(1)).unwrap();
            bits(&p)
        });
    }
}
