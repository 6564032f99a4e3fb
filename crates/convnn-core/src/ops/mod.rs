//! Every operation under one name.

pub use crate::kernel::allocator;
pub use crate::nn::*;
pub use crate::operator::*;
pub use crate::optim::*;
