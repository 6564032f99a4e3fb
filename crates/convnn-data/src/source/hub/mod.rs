//! The Hugging Face hub as a source. Its configuration is always there; downloading needs the feature `hub`.

#[cfg(feature = "hub")]
mod download;
#[cfg(feature = "hub")]
mod files;
#[cfg(feature = "hub")]
mod parquet;
#[cfg(all(test, feature = "hub"))]
mod tests;

pub use convnn_hub::HubConfig;

#[cfg(feature = "hub")]
pub(crate) use download::open;

#[cfg(not(feature = "hub"))]
use crate::{dataset::Dataset, error::Error, name::DatasetName};

#[cfg(not(feature = "hub"))]
pub(crate) fn open(_: DatasetName, _: &HubConfig) -> Result<Dataset, Error> {
    Err(Error::NoHub)
}
