//! One step of AdamW in place and in one pass.

use crate::kernel::float::{Float, has_kernel, values, with_float};
use crate::kernel::in_place::{edit, share_storage};
use crate::kernel::parallel::TASK;
use crate::kernel::simd::kernel;
use crate::{Error, Result, error::ensure_shape};
use candle_core::{Tensor, Var};
use rayon::prelude::*;

/// The numbers of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Number of this step, from 1.
    pub step: u64,
    /// Factor for the gradient before all else, for clipping.
    pub grad_scale: f64,
}

/// The running moments of a parameter's gradient.
#[derive(Clone, Debug)]
pub struct Moments {
    first: Var,
    second: Var,
}

impl Moments {
    /// Zeros, as before the first step.
    ///
    /// # Errors
    /// Where Candle fails.
    pub fn zeros(parameter: &Var) -> Result<Self> {
        Ok(Self {
            first: Var::from_tensor(&parameter.zeros_like()?)?,
            second: Var::from_tensor(&parameter.zeros_like()?)?,
        })
    }

    /// Moments as read from a checkpoint, of the parameter's shape and type.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where the two differ in shape.
    pub fn from_tensors(first: &Tensor, second: &Tensor) -> Result<Self> {
        ensure_shape(second.dims() == first.dims(), "adamw", "second moment", second, || {
            format!("{:?}", first.dims())
        })?;
        // Detached, since `Var::from_tensor` shares the elements of a variable and copies those of any other tensor.
        Ok(Self { first: Var::from_tensor(&first.detach())?, second: Var::from_tensor(&second.detach())? })
    }

    /// Running mean of the gradient, of the parameter's shape. Changes with the next step.
    pub fn first(&self) -> &Tensor {
        &self.first
    }

    /// Running mean of the squared gradient, of the parameter's shape. Changes with the next step.
    pub fn second(&self) -> &Tensor {
        &self.second
    }
}

/// Updates `parameter` and its moments as PyTorch's `AdamW` does, in place.
///
/// p ← p · (1 − lr · weight_decay); m ← m + (1 − β₁)(g − m); v ← β₂ v + (1 − β₂) g²;
/// p ← p − lr / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + eps), with g the gradient times `grad_scale`.
///
/// # Errors
/// [`Error::Shape`] where gradient or moments are not of the parameter's shape, [`Error::Option`] for step 0.
pub fn adamw_step(parameter: &Var, gradient: &Tensor, moments: &mut Moments, step: &AdamWStep) -> Result<()> {
    check(parameter, gradient, moments, step)?;
    if !has_kernel(parameter) || !parameter.is_contiguous() {
        return adamw_step_reference(parameter, gradient, moments, step);
    }
    let edited = [parameter, &moments.first, &moments.second];
    let gradient = match edited.iter().any(|edited| share_storage(edited, gradient)) {
        true => gradient.force_contiguous()?,
        false => gradient.contiguous()?,
    };
    let (storage, layout) = gradient.storage_and_layout();
    with_float!(parameter.dtype(), T => {
        let g = values::<T>(&storage, layout)?;
        let factors = Factors::<T>::new(step);
        edit(parameter, |p: &mut [T]| {
            edit(&moments.first, |m: &mut [T]| {
                edit(&moments.second, |v: &mut [T]| {
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
///
/// # Errors
/// As [`adamw_step`].
pub fn adamw_step_reference(parameter: &Var, gradient: &Tensor, moments: &mut Moments, step: &AdamWStep) -> Result<()> {
    check(parameter, gradient, moments, step)?;
    let f = Factors::<f64>::new(step);
    let g = (gradient.detach() * f.gradient)?;
    let m = moments.first.as_detached_tensor();
    let m = (&m + ((&g - &m)? * f.towards_first)?)?;
    let v = ((moments.second.as_detached_tensor() * f.second)? + (g.sqr()? * f.towards_second)?)?;
    let denominator = ((v.sqrt()? / f.root)? + f.eps)?;
    let p = ((parameter.as_detached_tensor() * f.parameter)? - ((&m / denominator)? * f.size)?)?;
    moments.first.set(&m)?;
    moments.second.set(&v)?;
    Ok(parameter.set(&p)?)
}

fn check(parameter: &Var, gradient: &Tensor, moments: &Moments, step: &AdamWStep) -> Result<()> {
    // The bias correction of step 0 divides by zero.
    if step.step == 0 {
        let (found, expected) = ("0".to_owned(), "a number from 1".to_owned());
        return Err(Error::Option { layer: "adamw".to_owned(), option: "step", found, expected });
    }
    for (name, tensor) in [("gradient", gradient), ("first moment", &moments.first), ("second moment", &moments.second)]
    {
        ensure_shape(tensor.dims() == parameter.dims(), "adamw", name, tensor, || format!("{:?}", parameter.dims()))?;
    }
    Ok(())
}

/// The factors of the formulas, worked out in f64.
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
    fn new(s: &AdamWStep) -> Self {
        let power = |beta: f64| beta.powf(s.step as f64);
        Self {
            gradient: T::narrow(s.grad_scale),
            parameter: T::narrow(1.0 - s.lr * s.weight_decay),
            towards_first: T::narrow(1.0 - s.beta1),
            second: T::narrow(s.beta2),
            towards_second: T::narrow(1.0 - s.beta2),
            root: T::narrow((1.0 - power(s.beta2)).sqrt()),
            eps: T::narrow(s.eps),
            size: T::narrow(s.lr / (1.0 - power(s.beta1))),
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
    use crate::{
        check,
        testing::kernels::{DTYPES, bits, same_for_threads, variable},
    };
    use candle_core::{DType, Device};

    fn step(number: u64) -> AdamWStep {
        AdamWStep { lr: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, step: number, grad_scale: 0.5 }
    }

    #[test]
    fn equals_the_reference() {
        for (dtype, tolerance) in DTYPES {
            for len in [1, 33, TASK, 2 * TASK + 7] {
                let [p, q] = [variable(len, dtype, 1), variable(len, dtype, 1)];
                let [mut of_p, mut of_q] = [Moments::zeros(&p).unwrap(), Moments::zeros(&q).unwrap()];
                for number in 1..=3 {
                    let g = variable(len, dtype, 10 + number);
                    adamw_step(&p, &g, &mut of_p, &step(number)).unwrap();
                    adamw_step_reference(&q, &g, &mut of_q, &step(number)).unwrap();
                    check::compare("p", &p, &q, tolerance).unwrap();
                    check::compare("m", of_p.first(), of_q.first(), tolerance).unwrap();
                    check::compare("v", of_p.second(), of_q.second(), tolerance).unwrap();
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
        let mut moments = Moments::zeros(&p).unwrap();
        for (number, g) in (1..).zip(gradients) {
            adamw_step(&p, &Tensor::new(&g, &Device::Cpu).unwrap(), &mut moments, &step(number)).unwrap();
        }
        let expect = |label, found: &Tensor, expected: [f64; 4]| {
            check::compare(label, found, &Tensor::new(&expected, &Device::Cpu).unwrap(), 1e-14).unwrap();
        };
        expect("p", &p, [0.979617219899451, -2.206637963469236, 0.43462014066605287, -0.05684369583107683]);
        expect(
            "m",
            moments.first(),
            [-0.08199999999999999, 0.05349999999999999, 0.09999999999999998, 0.04999999995949999],
        );
        expect(
            "v",
            moments.second(),
            [0.0025128752500000024, 0.0013104385000000012, 0.0010000000000000009, 0.0002500000000000002],
        );
    }

    #[test]
    fn moments_return_from_a_checkpoint() {
        let p = variable(5, DType::F32, 1);
        let mut moments = Moments::zeros(&p).unwrap();
        adamw_step(&p, &variable(5, DType::F32, 2), &mut moments, &step(1)).unwrap();
        let read = Moments::from_tensors(&moments.first().copy().unwrap(), &moments.second().copy().unwrap()).unwrap();
        assert_eq!(bits(read.first()), bits(moments.first()));
        assert_eq!(bits(read.second()), bits(moments.second()));
        assert!(Moments::from_tensors(moments.first(), &moments.second().narrow(0, 0, 4).unwrap()).is_err());
        let line = adamw_step(&p, &variable(4, DType::F32, 2), &mut moments, &step(2)).unwrap_err().to_string();
        assert!(line.contains("adamw: `gradient` has shape [4]; expected [5]"), "{line}");
    }

    #[test]
    fn a_gradient_may_share_what_is_edited() {
        let p = variable(5, DType::F32, 1);
        let mut moments = Moments::zeros(&p).unwrap();
        let apart = variable(5, DType::F32, 1);
        let mut expected = Moments::zeros(&apart).unwrap();
        for number in 1..=2 {
            adamw_step(&apart, &apart.copy().unwrap(), &mut expected, &step(number)).unwrap();
            adamw_step(&p, &p, &mut moments, &step(number)).unwrap();
            assert_eq!(bits(&p), bits(&apart));
        }
        let first = moments.first().clone();
        adamw_step(&apart, &first.copy().unwrap(), &mut expected, &step(3)).unwrap();
        adamw_step(&p, &first, &mut moments, &step(3)).unwrap();
        assert_eq!(bits(&p), bits(&apart));
    }

    #[test]
    fn step_0_is_an_error() {
        let (p, g) = (variable(5, DType::F32, 1), variable(5, DType::F32, 2));
        let mut moments = Moments::zeros(&p).unwrap();
        let before = bits(&p);
        for run in [adamw_step, adamw_step_reference] {
            let line = run(&p, &g, &mut moments, &step(0)).unwrap_err().to_string();
            assert!(line.contains("adamw: `step` is 0; expected a number from 1"), "{line}");
            assert_eq!(bits(&p), before);
        }
    }

    #[test]
    fn moments_are_copies() {
        let (first, second) = (variable(5, DType::F32, 1), variable(5, DType::F32, 2));
        let before = [bits(&first), bits(&second)];
        let mut moments = Moments::from_tensors(&first, &second).unwrap();
        let p = variable(5, DType::F32, 3);
        adamw_step(&p, &variable(5, DType::F32, 4), &mut moments, &step(1)).unwrap();
        assert_eq!([bits(&first), bits(&second)], before);
        assert_ne!(bits(moments.first()), before[0]);
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        same_for_threads("adamw", || {
            let p = variable((3, TASK), DType::F32, 1);
            let mut moments = Moments::zeros(&p).unwrap();
            adamw_step(&p, &variable((3, TASK), DType::F32, 2), &mut moments, &step(1)).unwrap();
            bits(&p)
        });
    }
}
