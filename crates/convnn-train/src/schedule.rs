//! Learning rate schedules.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// How the learning rate changes after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Schedule {
    /// The rate stays constant.
    Constant,
    /// Along half a cosine, from the full rate to 0 after the last step.
    Cosine,
    /// It is multiplied by `step_factor` every `step_epochs` epochs.
    Step,
    /// PyTorch's `OneCycleLR`: along half a cosine from a 25th of the full rate up to it, then down to a 10,000th of
    /// where it began. It rises for `warmup_epochs`, or 30 % of the run if that is 0. The momentum stays as it is.
    OneCycle,
    /// It is multiplied by `plateau_factor` whenever the validation accuracy has not been better than before for more
    /// than `plateau_patience` epochs in a row, as in PyTorch's `ReduceLROnPlateau`.
    Plateau,
}

/// When the learning rate changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ScheduleUnit {
    /// Updated every step.
    #[default]
    Step,
    /// Updated every epoch: all its steps have the same rate.
    Epoch,
}

/// The learning rate as a function of the step.
///
/// During the warm-up it rises linearly from `base / warmup` to `base`. Times are in units: steps or epochs.
#[derive(Clone, Copy, Debug)]
pub struct LearningRate {
    /// How it changes after the warm-up.
    pub schedule: Schedule,
    /// The full rate.
    pub base: f64,
    /// Number of steps in a unit.
    pub unit_steps: u64,
    /// Length of the warm-up.
    pub warmup: u64,
    /// Length of the whole run, including the warm-up.
    pub total: u64,
    /// Time between the drops of [`Schedule::Step`].
    pub drop_every: u64,
    /// Factor of every drop of [`Schedule::Step`] and [`Schedule::Plateau`].
    pub drop_factor: f64,
    /// The number of drops of [`Schedule::Plateau`] so far, from [`plateau_drops`].
    pub plateau_drops: usize,
}

/// The rate at the beginning of [`Schedule::OneCycle`], as a share of the full one.
const FIRST: f64 = 1.0 / 25.0;
/// The rate at its end, as a share of that at the beginning.
const LAST: f64 = 1e-4;
/// The share of the run in which the rate rises.
const RISING: f64 = 0.3;

impl LearningRate {
    /// The learning rate of `step`, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        let now = step / self.unit_steps.max(1);
        if self.schedule == Schedule::OneCycle {
            return self.one_cycle(now);
        }
        if now < self.warmup {
            return self.base * (now + 1) as f64 / self.warmup as f64;
        }
        match self.schedule {
            Schedule::Constant | Schedule::OneCycle => self.base,
            Schedule::Cosine => {
                let after = self.total.saturating_sub(self.warmup).max(1);
                let done = (now - self.warmup).min(after) as f64 / after as f64;
                0.5 * self.base * (1.0 + (PI * done).cos())
            }
            Schedule::Step => self.base * self.drop_factor.powi((now / self.drop_every.max(1)) as i32),
            Schedule::Plateau => self.base * self.drop_factor.powi(self.plateau_drops as i32),
        }
    }

    fn one_cycle(&self, now: u64) -> f64 {
        let (first, last) = (self.base * FIRST, self.base * FIRST * LAST);
        let length = match self.warmup {
            0 => RISING * self.total as f64,
            warmup => warmup as f64,
        };
        // The first unit is at the lowest rate, and the last one of each part at the end of its curve.
        let (top, end) = (length - 1.0, self.total.saturating_sub(1) as f64);
        let now = (now as f64).min(end);
        let along = |from: f64, to: f64, done: f64| to + (from - to) / 2.0 * (1.0 + (PI * done).cos());
        match now <= top {
            true => along(first, self.base, if top > 0.0 { now / top } else { 1.0 }),
            false => along(self.base, last, (now - top) / (end - top)),
        }
    }
}

/// The number of drops of [`Schedule::Plateau`] after epochs with these validation accuracies.
///
/// It depends on the accuracies alone, so that a resumed run needs nothing but its history.
pub fn plateau_drops(accuracies: impl IntoIterator<Item = f64>, patience: usize) -> usize {
    let (mut best, mut waited, mut drops) = (f64::NEG_INFINITY, 0, 0);
    for accuracy in accuracies {
        if accuracy > best {
            (best, waited) = (accuracy, 0);
        } else {
            waited += 1;
        }
        if waited > patience {
            (drops, waited) = (drops + 1, 0);
        }
    }
    drops
}

/// The number of epochs since the first one with the best of these validation accuracies.
pub fn epochs_since_best(accuracies: impl IntoIterator<Item = f64>) -> usize {
    let best = |(best, since): (f64, usize), accuracy| if accuracy > best { (accuracy, 0) } else { (best, since + 1) };
    accuracies.into_iter().fold((f64::NEG_INFINITY, 0), best).1
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: LearningRate = LearningRate {
        schedule: Schedule::Cosine,
        base: 0.1,
        unit_steps: 1,
        warmup: 4,
        total: 14,
        drop_every: 5,
        drop_factor: 0.5,
        plateau_drops: 2,
    };

    #[track_caller]
    fn check(rate: LearningRate, expected: &[(u64, f64)]) {
        for &(step, value) in expected {
            let found = rate.at(step);
            assert!((found - value).abs() < 1e-15, "{rate:?} at {step}: {found}, expected {value}");
        }
    }

    #[test]
    fn whole_curves() {
        let rate = |schedule| LearningRate { schedule, ..RATE };
        check(rate(Schedule::Constant), &[(0, 0.025), (3, 0.1), (4, 0.1), (13, 0.1)]);
        check(rate(Schedule::Cosine), &[(0, 0.025), (3, 0.1), (4, 0.1), (9, 0.05), (14, 0.0), (99, 0.0)]);
        check(rate(Schedule::Step), &[(1, 0.05), (4, 0.1), (5, 0.05), (9, 0.05), (10, 0.025)]);
        check(rate(Schedule::Plateau), &[(1, 0.05), (4, 0.025), (13, 0.025)]);
        check(rate(Schedule::OneCycle), &[(0, 0.004), (3, 0.1), (8, 0.0500002), (13, 4e-7), (99, 4e-7)]);
    }

    #[test]
    fn within_an_epoch_the_rate_can_stay() {
        let rate = LearningRate { unit_steps: 7, warmup: 1, total: 3, ..RATE };
        check(rate, &[(0, 0.1), (6, 0.1), (7, 0.1), (13, 0.1), (14, 0.05), (20, 0.05), (21, 0.0)]);
    }

    #[test]
    fn without_warm_up_the_full_rate_comes_first() {
        check(LearningRate { warmup: 0, ..RATE }, &[(0, 0.1)]);
    }

    #[test]
    fn runs_of_one_step() {
        for schedule in [Schedule::Constant, Schedule::Cosine, Schedule::Step, Schedule::OneCycle] {
            for warmup in [0, 1] {
                let rate = LearningRate { schedule, warmup, total: 1, ..RATE }.at(0);
                assert!(rate.is_finite() && rate > 0.0, "{schedule:?}: {rate}");
            }
        }
    }

    #[test]
    fn epochs_are_counted_from_the_first_best() {
        assert_eq!(epochs_since_best([]), 0);
        assert_eq!(epochs_since_best([10.0, 30.0, 30.0, 20.0]), 2);
        assert_eq!(epochs_since_best([10.0, 30.0, 31.0]), 0);
    }
}
