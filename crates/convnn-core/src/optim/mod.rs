//! Optimizers that update parameters in place: one pass over each, on all threads.
//!
//! [`AdamW`] and [`Sgd`] compute what PyTorch's optimizers of these names compute, with the gradient clipped to a norm
//! if asked for. Both implement [`candle_nn::Optimizer`]. They also report the norm of the gradient, and hand out and
//! take back what they remember, as tensors with the names of the parameters.
//!
//! The same gradients give the same bits, for any number of threads.
//!
//! ```
//! # fn main() -> convnn_core::Result<()> {
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::Module;
//! use convnn_core::optim::{AdamW, AdamWConfig};
//! use convnn_core::{Parameters, Streams, backward};
//!
//! let parameters = Parameters::new(&Streams::new(0), DType::F32, &Device::Cpu);
//! let layer = candle_nn::linear(3, 1, parameters.builder())?;
//! let config = AdamWConfig { learning_rate: 0.1, clip_grad_norm: Some(1.0), ..AdamWConfig::default() };
//! let mut optimizer = AdamW::named(parameters.trainable(), config)?;
//!
//! let x = Tensor::new(&[[1f32, 2.0, 3.0]], &Device::Cpu)?;
//! let loss = || -> convnn_core::Result<Tensor> { Ok(layer.forward(&x)?.sqr()?.mean_all()?) };
//! let before = loss()?.to_scalar::<f32>()?;
//! for _ in 0..100 {
//!     let norm = optimizer.update(&backward(&loss()?)?)?;
//!     assert!(norm.is_finite());
//! }
//! assert!(loss()?.to_scalar::<f32>()? < 0.01 * before);
//! # Ok(()) }
//! ```
#![allow(unsafe_code)]

mod adamw;
mod adamw_step;
pub(crate) mod gradient_norm;
mod sgd;
mod sgd_step;
mod slots;

pub use adamw::{AdamW, AdamWConfig};
pub use gradient_norm::gradient_norm;
pub use sgd::{Momentum, Sgd, SgdConfig};
