//! The small parts that networks are made of, where candle-nn trains wrongly or slowly.

mod attention;
mod batch_norm;
mod batch_norm_kernels;
mod cross_entropy;
mod dropout;
mod gelu;
mod layer_norm;
mod linear;
mod max_pool;
mod relu;
mod repeated_linear;
mod softmax;

pub use attention::{Attention, attention, attention_reference};
pub use batch_norm::{Activation, Statistics, batch_norm, batch_norm_reference};
pub use cross_entropy::{cross_entropy, cross_entropy_reference};
pub use dropout::{DropoutMask, add_dropout, add_dropout_reference, dropout, dropout_reference};
pub use gelu::{gelu, gelu_reference};
pub use layer_norm::{layer_norm, layer_norm_reference};
pub use linear::{linear, linear_reference};
pub use max_pool::{max_pool_2x2, max_pool_2x2_reference};
pub use relu::{relu, relu_reference};
pub use repeated_linear::{repeated_linear, repeated_linear_reference};
pub use softmax::{softmax, softmax_reference};
