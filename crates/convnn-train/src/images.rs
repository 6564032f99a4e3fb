//! The images of a run or an evaluation.

use convnn_core::Streams;
use convnn_data::{Dataset, DatasetName, Search};
use convnn_models::ModelConfig;
use std::path::Path;

use crate::config::RunConfig;
use crate::{Error, Result};

/// The images that a configuration names, with the validation part taken from the training images.
///
/// # Errors
/// If they cannot be read, do not have as many classes as the model, or are too few to hold some out.
pub fn of_run(config: &RunConfig) -> Result<Dataset> {
    let named = (config.data != "search").then(|| Path::new(&config.data));
    let data = open(named, config.dataset, &config.model, config.test_share)?;
    Ok(data.hold_out(config.holdout, &mut Streams::new(config.seed).generator("holdout"))?)
}

/// The images of a data set for a model, from `named`, else from where they are usually found.
///
/// # Errors
/// If they cannot be read, or do not have as many classes as the model.
pub fn open(named: Option<&Path>, dataset: DatasetName, model: &ModelConfig, test_share: f64) -> Result<Dataset> {
    let mut search = Search::new(named, |name: &str| std::env::var_os(name));
    (search.image_size, search.test_share) = (model.image_size(), test_share);
    let data = search.open(dataset)?;
    match data.classes.len() == model.classes() {
        true => Ok(data),
        false => Err(Error::Value {
            key: "model.classes".to_owned(),
            found: model.classes().to_string(),
            expected: format!("{}, the number of classes in {}", data.classes.len(), data.origin),
        }),
    }
}
