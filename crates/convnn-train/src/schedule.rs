//! Learning rate schedules.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// How the learning rate changes after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Schedule {
    /// It does not.
    Constant,
    /// Along half a cosine, from the full rate to 0 after the last step.
    Cosine,
    /// It is multiplied by `step_factor` every `step_epochs` epochs.
    Step,
}

/// The learning rate as a function of the step.
///
/// During the warm-up it rises linearly from `base / warmup_steps` to `base`.
#[derive(Clone, Copy, Debug)]
pub struct LearningRate {
    /// How it changes after the warm-up.
    pub schedule: Schedule,
    /// The full rate.
    pub base: f64,
    /// Number of warm-up steps.
    pub warmup_steps: u64,
    /// Number of steps of the whole run, including the warm-up.
    pub total_steps: u64,
    /// Number of steps between the drops of [`Schedule::Step`].
    pub drop_steps: u64,
    /// Factor of every drop of [`Schedule::Step`].
    pub drop_factor: f64,
}

impl LearningRate {
    /// The learning rate of `step`, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.base * (step + 1) as f64 / self.warmup_steps as f64;
        }
        match self.schedule {
            Schedule::Constant => self.base,
            Schedule::Cosine => {
                let after = self.total_steps.saturating_sub(self.warmup_steps).max(1);
                let done = (step - self.warmup_steps).min(after) as f64 / after as f64;
                0.5 * self.base * (1.0 + (PI * done).cos())
            }
            Schedule::Step => self.base * self.drop_factor.powi((step / self.drop_steps.max(1)) as i32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: LearningRate = LearningRate {
        schedule: Schedule::Cosine,
        base: 0.1,
        warmup_steps: 4,
        total_steps: 14,
        drop_steps: 5,
        drop_factor: 0.5,
    };

    #[track_caller]
    fn check(schedule: Schedule, expected: &[(u64, f64)]) {
        for &(step, rate) in expected {
            let found = LearningRate { schedule, ..RATE }.at(step);
            assert!((found - rate).abs() < 1e-15, "{schedule:?} at {step}: {found}, expected {rate}");
        }
    }

    #[test]
    fn whole_curves() {
        check(Schedule::Constant, &[(0, 0.025), (3, 0.1), (4, 0.1), (13, 0.1)]);
        check(Schedule::Cosine, &[(0, 0.025), (3, 0.1), (4, 0.1), (9, 0.05), (14, 0.0), (99, 0.0)]);
        check(Schedule::Step, &[(1, 0.05), (4, 0.1), (5, 0.05), (9, 0.05), (10, 0.025)]);
    }

    #[test]
    fn without_warm_up_the_full_rate_comes_first() {
        let rate = LearningRate { warmup_steps: 0, ..RATE };
        assert!((rate.at(0) - 0.1).abs() < 1e-15);
    }
}
