//! The plain forms of the operations, in tensor operations.
//!
//! They define what the kernels compute, serve as the expected values of tests, and run on devices without a kernel.
//! Arguments, results and errors are those of the operations.

pub use crate::nn::attention::attention_reference as attention;
pub use crate::nn::batch_norm::batch_norm_reference as batch_norm;
pub use crate::nn::cross_entropy::cross_entropy_reference as cross_entropy;
pub use crate::nn::dropout::{add_dropout_reference as add_dropout, dropout_reference as dropout};
pub use crate::nn::gelu::gelu_reference as gelu;
pub use crate::nn::layer_norm::layer_norm_reference as layer_norm;
pub use crate::nn::linear::linear_reference as linear;
pub use crate::nn::max_pool::max_pool_2x2_reference as max_pool_2x2;
pub use crate::nn::relu::relu_reference as relu;
pub use crate::nn::repeated_linear::repeated_linear_reference as repeated_linear;
pub use crate::nn::softmax::softmax_reference as softmax;
pub use crate::operator::aggregate::aggregate_reference as aggregate;
pub use crate::operator::aggregate::branches::aggregate_branches_reference as aggregate_branches;
pub use crate::operator::score::score_reference as score;
pub use crate::operator::select::select_reference as select;
pub use crate::optim::gradient_norm::gradient_norm_reference as gradient_norm;
