//! The plain form of each operation, in tensor operations: for tests, and for devices without a kernel.

pub use crate::operator::aggregate_branches_reference as aggregate_branches;
pub use crate::operator::aggregate_reference as aggregate;
pub use crate::operator::score_reference as score;
pub use crate::operator::select_reference as select;
