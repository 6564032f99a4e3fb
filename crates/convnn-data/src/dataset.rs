//! A data set in memory.

use std::sync::Arc;

use crate::name::DatasetName;
use crate::split::Split;

/// A data set in memory; clones share the images.
///
/// Read one with [`Dataset::open`], or take the embedded sample with [`Dataset::sample`].
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Which data set it is.
    pub name: DatasetName,
    /// The training images.
    pub train: Arc<Split>,
    /// Training images held out for validation; they are not among `train`.
    pub validation: Option<Arc<Split>>,
    /// The test images.
    pub test: Arc<Split>,
    /// Where the images came from, for logs and run records.
    pub origin: String,
}

impl Dataset {
    pub(crate) fn new(name: DatasetName, train: Split, test: Split, origin: String) -> Self {
        Self { name, train: Arc::new(train), validation: None, test: Arc::new(test), origin }
    }
}
