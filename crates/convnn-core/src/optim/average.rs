//! A moving average of weights.

use super::apply::{Update, apply};
use super::in_place::copy;
use crate::kernel::float::Float;
use crate::kernel::simd::kernel;
use crate::{Error, Result};
use candle_core::{Tensor, Var};
use std::collections::BTreeMap;

/// An exponential moving average of named variables, as PyTorch's `AveragedModel` with `get_ema_multi_avg_fn`.
///
/// The first update copies the variables; every other one computes average ← average + (1 − decay) (variable − average).
#[derive(Debug)]
pub struct WeightAverage {
    decay: f64,
    vars: Vec<(String, Var)>,
    /// In the order of `vars`; empty before the first update.
    averages: Vec<Var>,
}

impl WeightAverage {
    /// An average of `vars` before its first update.
    pub const fn new(vars: Vec<(String, Var)>, decay: f64) -> Self {
        Self { decay, vars, averages: Vec::new() }
    }

    /// Moves the averages towards the variables.
    pub fn update(&mut self) -> Result<()> {
        if self.averages.is_empty() {
            let copies = self.vars.iter().map(|(name, var)| copy(name, var, var));
            self.averages = copies.collect::<Result<_>>()?;
            return Ok(());
        }
        let towards = Towards { share: 1.0 - self.decay };
        for ((_, var), average) in self.vars.iter().zip(&self.averages) {
            apply(&towards, average, &[], var)?;
        }
        Ok(())
    }

    /// The averages by the names of the variables; none before the first update.
    ///
    /// The tensors share storage with this average: the next update changes them.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let names = self.vars.iter().map(|(name, _)| name.clone());
        names.zip(self.averages.iter().map(|average| average.as_tensor().clone())).collect()
    }

    /// Continues with a copy of what [`Self::state`] returned.
    ///
    /// # Errors
    /// [`Error::OptimizerState`] if a tensor is missing, belongs to no variable or has another shape; the average is then
    /// unchanged.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let averages = self.vars.iter().filter_map(|(name, var)| Some(copy(name, state.get(name)?, var)));
        let averages: Vec<Var> = averages.collect::<Result<_>>()?;
        if averages.len() != state.len() || !(state.is_empty() || averages.len() == self.vars.len()) {
            let (found, expected) = (state.len(), self.vars.len());
            return Err(Error::OptimizerState(format!("{found} averages of weights; expected those of {expected}")));
        }
        self.averages = averages;
        Ok(())
    }
}

struct Towards {
    share: f64,
}

impl Update for Towards {
    const NAME: &'static str = "weight_average";

    fn part<T: Float>(&self, average: &mut [T], _: [&mut [T]; 2], current: &[T]) {
        update(average, current, T::narrow(self.share));
    }

    fn whole(&self, average: Tensor, unused: [Tensor; 2], current: Tensor) -> Result<[Tensor; 3]> {
        let [first, second] = unused;
        let average = (&average + ((current - &average)? * self.share)?)?;
        Ok([average, first, second])
    }
}

kernel! {
    fn update<const FMA: bool, T>(average: &mut [T], current: &[T], share: T) {
        for (average, &current) in average.iter_mut().zip(current) {
            *average += (current - *average) * share;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::kernels::{bits, variable};
    use candle_core::DType;

    #[test]
    fn the_kernel() {
        crate::optim::apply::tests::check(0, |_| Towards { share: 0.1 });
    }

    fn vars() -> Vec<(String, Var)> {
        ["a", "b"].iter().zip(1..).map(|(name, seed)| (name.to_string(), variable(5, DType::F32, seed))).collect()
    }

    fn follow(average: &mut WeightAverage, vars: &[(String, Var)], seeds: std::ops::Range<u64>) -> Vec<u64> {
        for seed in seeds {
            for (_, var) in vars {
                var.set(&variable(5, DType::F32, seed)).unwrap();
            }
            average.update().unwrap();
        }
        average.state().iter().flat_map(|(_, tensor)| bits(tensor)).collect()
    }

    #[test]
    fn continues_from_its_state() {
        let vars = vars();
        let mut whole = WeightAverage::new(vars.clone(), 0.9);
        assert!(whole.state().is_empty());
        follow(&mut whole, &vars, 1..3);
        let state: BTreeMap<_, _> =
            whole.state().into_iter().map(|(name, tensor)| (name, tensor.copy().unwrap())).collect();
        let expected = follow(&mut whole, &vars, 3..6);
        let mut resumed = WeightAverage::new(vars.clone(), 0.9);
        resumed.load_state(&state).unwrap();
        assert_eq!(follow(&mut resumed, &vars, 3..6), expected);

        let half: BTreeMap<_, _> = state.clone().into_iter().take(1).collect();
        let line = resumed.load_state(&half).unwrap_err().to_string();
        assert!(line.contains("1 averages of weights; expected those of 2"), "{line}");
        assert_eq!(resumed.state().iter().flat_map(|(_, tensor)| bits(tensor)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_first_update_copies() {
        let vars = vars();
        let mut average = WeightAverage::new(vars.clone(), 0.9);
        average.update().unwrap();
        let first = bits(&average.state()[0].1);
        assert_eq!(first, bits(&vars[0].1));
        vars[0].1.set(&variable(5, DType::F32, 9)).unwrap();
        assert_eq!(bits(&average.state()[0].1), first, "it is a copy");
    }
}
