//! The adapter between variables and the kernels that update them: in place, in one pass, on all threads.

use crate::kernel::float::{Float, has_kernel, values, with_float};
use crate::kernel::in_place::{edit, share_storage};
use crate::kernel::parallel::{TASK, fill_groups};
use crate::{Result, error::ensure_shape};
use candle_core::{Tensor, Var};

/// An update of one variable.
pub trait Update: Sync {
    /// Its name, for errors.
    const NAME: &'static str;

    /// Updates a part of a variable and of what is remembered of it, given the same part of the gradient.
    ///
    /// Up to two tensors are remembered; those that are not are empty.
    fn part<T: Float>(&self, variable: &mut [T], memory: [&mut [T]; 2], gradient: &[T]);

    /// [`Self::part`] in tensor operations. What is not remembered is zeros.
    fn whole(&self, variable: Tensor, memory: [Tensor; 2], gradient: Tensor) -> Result<[Tensor; 3]>;
}

/// Updates `variable` and `memory`, which has its shape, from `gradient`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the gradient has another shape.
pub(super) fn apply<U: Update>(update: &U, variable: &Var, memory: &[Var], gradient: &Tensor) -> Result<()> {
    let expected = || format!("{:?}", variable.dims());
    ensure_shape(gradient.dims() == variable.dims(), U::NAME, "gradient", gradient, expected)?;
    if !has_kernel(variable) || !variable.is_contiguous() {
        return apply_reference(update, variable, memory, gradient);
    }
    let shared = std::iter::once(variable).chain(memory).any(|edited| share_storage(edited, gradient));
    let gradient = match shared {
        true => gradient.force_contiguous()?,
        false => gradient.contiguous()?,
    };
    let (storage, layout) = gradient.storage_and_layout();
    with_float!(variable.dtype(), T => {
        let g = values::<T>(&storage, layout)?;
        edit(variable, |p: &mut [T]| {
            edit_if_any(memory.first(), |m| {
                edit_if_any(memory.get(1), |v| {
                    fill_groups([(p, TASK), (m, TASK), (v, TASK)], |i, [p, m, v]| {
                        let g = &g[i * TASK..i * TASK + p.len()];
                        update.part(p, [m, v], g);
                    });
                    Ok(())
                })
            })
        })
    })?;
    Ok(())
}

/// Runs `f` on the values of `tensor`, or on an empty slice for `None`.
fn edit_if_any<T: Float, R>(
    tensor: Option<&Var>,
    f: impl FnOnce(&mut [T]) -> candle_core::Result<R>,
) -> candle_core::Result<R> {
    match tensor {
        Some(tensor) => edit(tensor, f),
        None => f(&mut []),
    }
}

/// [`apply`] in tensor operations.
pub(super) fn apply_reference<U: Update>(update: &U, variable: &Var, memory: &[Var], gradient: &Tensor) -> Result<()> {
    let remembered = |i: usize| match memory.get(i) {
        Some(var) => Ok(var.as_detached_tensor()),
        None => variable.zeros_like(),
    };
    let [p, m, v] = update.whole(variable.as_detached_tensor(), [remembered(0)?, remembered(1)?], gradient.detach())?;
    for (var, value) in memory.iter().zip([m, v]) {
        var.set(&value)?;
    }
    Ok(variable.set(&p)?)
}

/// `x`, moved into −limit … limit. NaN stays NaN.
#[inline(always)]
pub(super) fn limited<T: Float>(x: T, limit: T) -> T {
    if x > limit {
        limit
    } else if x < -limit {
        -limit
    } else {
        x
    }
}

/// [`limited`] of every element.
pub(super) fn limited_reference(x: &Tensor, limit: f64) -> candle_core::Result<Tensor> {
    if limit.is_finite() { x.clamp(-limit, limit) } else { Ok(x.clone()) }
}

/// What the tests of the updates share.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;
    use crate::testing::{
        self,
        kernels::{DTYPES, bits, same_for_threads, variable},
    };
    use candle_core::{DType, Device};

    fn zeros(parameter: &Var, memories: usize) -> Vec<Var> {
        (0..memories).map(|_| Var::zeros(parameter.shape(), parameter.dtype(), &Device::Cpu).unwrap()).collect()
    }

    /// Checks the kernel of an update that remembers `memories` tensors: against tensor operations, on any number of
    /// threads, and with gradients that share the storage of what is edited. `update` gets the number of the step.
    pub fn check<U: Update>(memories: usize, update: impl Fn(u64) -> U + Sync) {
        for (dtype, tolerance) in DTYPES {
            for len in [1, 33, TASK, 2 * TASK + 7] {
                let [p, q] = [variable(len, dtype, 1), variable(len, dtype, 1)];
                let (of_p, of_q) = (zeros(&p, memories), zeros(&q, memories));
                for number in 1..=3 {
                    let g = variable(len, dtype, 10 + number);
                    apply(&update(number), &p, &of_p, &g).unwrap();
                    apply_reference(&update(number), &q, &of_q, &g).unwrap();
                    testing::compare("variable", &p, &q, tolerance).unwrap();
                    for (m, n) in of_p.iter().zip(&of_q) {
                        testing::compare("memory", m, n, tolerance).unwrap();
                    }
                }
            }
        }
        same_for_threads(U::NAME, || {
            let p = variable((3, TASK), DType::F32, 1);
            let memory = zeros(&p, memories);
            for number in 1..=2 {
                apply(&update(number), &p, &memory, &variable((3, TASK), DType::F32, 1 + number)).unwrap();
            }
            bits(&p)
        });
        let [p, apart] = [variable(5, DType::F32, 1), variable(5, DType::F32, 1)];
        let (of_p, of_apart) = (zeros(&p, memories), zeros(&apart, memories));
        for number in 1..=2 {
            apply(&update(number), &apart, &of_apart, &apart.copy().unwrap()).unwrap();
            apply(&update(number), &p, &of_p, &p).unwrap();
            assert_eq!(bits(&p), bits(&apart));
        }
        if let ([m, ..], [n, ..]) = (&of_p[..], &of_apart[..]) {
            apply(&update(3), &apart, &of_apart, &n.copy().unwrap()).unwrap();
            apply(&update(3), &p, &of_p, m).unwrap();
            assert_eq!(bits(&p), bits(&apart));
        }
        let line = apply(&update(1), &p, &of_p, &variable(4, DType::F32, 2)).unwrap_err().to_string();
        assert!(line.contains(&format!("{}: `gradient` has shape [4]; expected [5]", U::NAME)), "{line}");
    }
}
