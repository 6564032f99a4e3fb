//! Optimizers that update parameters in place.
//!
//! [`AdamW`], [`Sgd`] and [`Muon`] compute what PyTorch's `AdamW`, `Adam`, `SGD` and `Muon` compute, with the gradient
//! clipped by its norm or by value if asked for. All implement [`candle_nn::Optimizer`]. They also report the norm of the
//! gradient, and hand out and take back what they remember, as tensors with the names of the parameters. [`WeightAverage`]
//! follows the parameters with a moving average.
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
mod apply;
mod average;
pub(crate) mod gradient_norm;
mod in_place;
mod muon;
mod sgd;

pub use adamw::{AdamW, AdamWConfig};
pub use average::WeightAverage;
pub use gradient_norm::gradient_norm;
pub use in_place::InPlace;
pub use muon::{Muon, MuonConfig};
pub use sgd::{Momentum, Sgd, SgdConfig};
