//! Optimizer steps in place and in one pass.
#![allow(unsafe_code)]

mod adamw;
mod gradient_norm;
mod sgd;

pub use adamw::{AdamWStep, Moments, adamw_step, adamw_step_reference};
pub use gradient_norm::{gradient_norm, gradient_norm_reference};
pub use sgd::{Momentum, SgdStep, sgd_step, sgd_step_reference};
