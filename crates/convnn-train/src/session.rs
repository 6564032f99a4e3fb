//! A model with its parameters, ready to be trained or evaluated.

use crate::Result;
use crate::config::RunConfig;
use crate::metrics::Tally;
use crate::view::View;
use crate::weights::Weights;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use convnn_core::{Parameters, Pass, Streams, nn};
use convnn_data::{Dataset, Loader, LoaderConfig, Order, Split};
use convnn_models::{Model, ModelConfig};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A model with seeded parameters.
pub struct Session {
    /// The random streams of the run.
    pub streams: Streams,
    /// The parameters and running statistics.
    pub parameters: Parameters,
    /// The model.
    pub model: Model,
    config: ModelConfig,
}

impl Session {
    /// Builds the model and computes two images of zeros, so that whatever cannot work fails here.
    ///
    /// # Errors
    /// If the configuration is not that of a model.
    pub fn new(config: &ModelConfig, seed: u64) -> Result<Self> {
        config.check()?;
        let streams = Streams::new(seed);
        let parameters = Parameters::new(&streams, DType::F32, &Device::Cpu);
        let model = Model::new(config, parameters.builder())?;
        let side = config.image_size();
        let images = Tensor::zeros((2, 3, side, side), DType::F32, &Device::Cpu)?;
        model.forward_t(&images, &Pass::evaluation())?;
        Ok(Self { streams, parameters, model, config: config.clone() })
    }

    /// The model with its current parameters as constants, so that a forward pass keeps nothing for a backward pass.
    pub fn model_to_evaluate(&self) -> Result<Model> {
        let parameters = self.parameters.all().into_iter();
        let tensors = parameters.map(|(name, var)| (name, var.as_detached_tensor())).collect();
        Ok(Model::new(&self.config, VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu))?)
    }

    /// The parameters and running statistics as tensors, by name.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        self.parameters.all().into_iter().map(|(name, var)| (name, var.as_tensor().clone())).collect()
    }

    /// Sets every parameter and running statistic.
    ///
    /// # Errors
    /// If one is missing or has another shape.
    pub fn restore(&self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        Ok(convnn_models::weights::load_into(&self.parameters, tensors)?)
    }

    /// Batches of training images, shuffled and augmented as configured.
    ///
    /// # Errors
    /// If the configuration does not fit the data.
    pub fn training_loader(&self, data: &Dataset, config: &RunConfig) -> Result<Loader> {
        let settings = LoaderConfig {
            order: Order::Shuffled,
            augmentation: config.augmentation.clone(),
            mix: config.mix(),
            ..self.loader_config(data, config.batch_size)
        };
        self.loader(&data.train, settings)
    }

    /// Batches of test images in order.
    ///
    /// # Errors
    /// If the batch size is 0.
    pub fn test_loader(&self, data: &Dataset, batch_size: usize) -> Result<Loader> {
        self.loader(&data.test, self.loader_config(data, batch_size))
    }

    /// [`Self::test_loader`] with the normalization of the weights, which may have been trained on another data set.
    ///
    /// # Errors
    /// If the batch size is 0.
    pub fn test_loader_for(&self, weights: &Weights, data: &Dataset, batch_size: usize) -> Result<Loader> {
        let own = self.loader_config(data, batch_size);
        let normalization = weights.preprocessing.map_or(own.normalization, |known| known.normalization());
        self.loader(&data.test, LoaderConfig { normalization, ..own })
    }

    /// Batches of the images held out for validation, in order; `None` if there are none.
    ///
    /// # Errors
    /// If the batch size is 0.
    pub fn validation_loader(&self, data: &Dataset, batch_size: usize) -> Result<Option<Loader>> {
        let loader = |split| self.loader(split, self.loader_config(data, batch_size));
        data.validation.as_ref().map(loader).transpose()
    }

    fn loader_config(&self, data: &Dataset, batch_size: usize) -> LoaderConfig {
        LoaderConfig {
            image_size: self.config.image_size(),
            classes: data.classes.len(),
            ..LoaderConfig::new(data.name, batch_size)
        }
    }

    fn loader(&self, split: &Arc<Split>, settings: LoaderConfig) -> Result<Loader> {
        let streams = self.streams.clone();
        Ok(Loader::new(Arc::clone(split), settings, Arc::new(move |name: &str| streams.generator(name)))?)
    }

    /// Loss, top-1 and top-5 over the batches of `loader`.
    ///
    /// `proceed` is called after every batch with the sums so far; if it returns `false`, the result is `None`.
    ///
    /// # Errors
    /// If a batch cannot be read or computed.
    pub fn evaluate(&self, loader: &Loader, mut proceed: impl FnMut(&Tally) -> bool) -> Result<Option<Tally>> {
        self.predict(loader, View::Image, |tally, _, _| Ok(proceed(tally)))
    }

    /// [`Self::evaluate`] with a choice of what the model sees of an image; `proceed` also gets the logits (B, classes) and
    /// labels (B) of the batch.
    ///
    /// # Errors
    /// As [`Self::evaluate`], or those of `proceed`.
    pub fn predict(
        &self,
        loader: &Loader,
        view: View,
        mut proceed: impl FnMut(&Tally, &Tensor, &Tensor) -> Result<bool>,
    ) -> Result<Option<Tally>> {
        let mut tally = Tally::default();
        let model = self.model_to_evaluate()?;
        for batch in loader.epoch(0)? {
            let batch = batch?;
            let logits = view.logits(&model, &batch.images)?;
            let loss = f64::from(nn::cross_entropy(&logits, &batch.labels)?.to_scalar::<f32>()?);
            tally.add(&logits, &batch.labels, loss)?;
            if !proceed(&tally, &logits, &batch.labels)? {
                return Ok(None);
            }
        }
        Ok(Some(tally))
    }
}
