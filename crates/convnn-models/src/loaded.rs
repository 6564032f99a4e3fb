//! A trained model, ready to use.

use crate::weights::{self, Stored};
use crate::{Model, ModelConfig, Preprocessing, Result};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use std::path::Path;

/// A trained model with what its folder says about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The model with its weights.
    pub model: Model,
    /// Its configuration.
    pub config: ModelConfig,
    /// What its input must look like; `None` if the folder does not say.
    pub preprocessing: Option<Preprocessing>,
    /// The names of the classes in the order of the logits; `None` if the folder does not say.
    pub labels: Option<Vec<String>>,
}

impl Model {
    /// Loads the model of a weights folder: `model.safetensors` and `config.json`.
    ///
    /// The parameters are constants of type `dtype` on `device`; to train them further, use
    /// [`weights::load_into`].
    ///
    /// # Errors
    /// Those of [`weights::load`].
    ///
    /// ```no_run
    /// # fn main() -> convnn_models::Result<()> {
    /// use candle_core::{DType, Device};
    /// use candle_nn::Module;
    /// use convnn_models::Model;
    ///
    /// let loaded = Model::load("weights/cifar10_hybrid", DType::F32, &Device::Cpu)?;
    /// let preprocessing = loaded.preprocessing.expect("stored with the weights");
    /// let (rgb, height, width) = (vec![128u8; 3 * 480 * 640], 480, 640);
    /// let logits = loaded.model.forward(&preprocessing.apply(&rgb, height, width)?)?;
    /// assert_eq!(logits.dims(), [1, loaded.config.classes()]);
    /// # Ok(()) }
    /// ```
    pub fn load(folder: impl AsRef<Path>, dtype: DType, device: &Device) -> Result<Loaded> {
        Loaded::new(weights::load(folder.as_ref())?, dtype, device)
    }

    /// [`Self::load`] of a model on the Hugging Face hub, which is downloaded into the cache unless it is there; see
    /// [`convnn_hub::download`].
    ///
    /// # Errors
    /// [`crate::Error::Hub`] if the download fails, and those of [`weights::load`].
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use candle_core::{DType, Device};
    /// use convnn_models::{HubConfig, Model};
    ///
    /// let hub = HubConfig::new("/home/me/.cache/huggingface/hub");
    /// let loaded = Model::load_hub(&hub, &"OWNER/NAME".parse()?, DType::F32, &Device::Cpu)?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "hub")]
    pub fn load_hub(
        hub: &convnn_hub::HubConfig,
        id: &convnn_hub::ModelId,
        dtype: DType,
        device: &Device,
    ) -> Result<Loaded> {
        Self::load(convnn_hub::download(hub, id)?, dtype, device)
    }

    /// [`Self::load`] from the contents of `config.json` and `model.safetensors`, such as those embedded in a program.
    ///
    /// # Errors
    /// Those of [`weights::decode`].
    pub fn load_bytes(config: &[u8], model: &[u8], dtype: DType, device: &Device) -> Result<Loaded> {
        Loaded::new(weights::decode(Path::new(""), config, model)?, dtype, device)
    }
}

impl Loaded {
    /// The model that `stored` describes, with its weights.
    ///
    /// # Errors
    /// Those of [`Model::new`].
    pub fn new(stored: Stored, dtype: DType, device: &Device) -> Result<Self> {
        let Stored { config, preprocessing, labels, tensors } = stored;
        let vb = VarBuilder::from_tensors(tensors.into_iter().collect(), dtype, device);
        Ok(Self { model: Model::new(&config, vb)?, config, preprocessing, labels })
    }

    /// Class probabilities (B, classes) of images (B, 3, S, S).
    ///
    /// # Errors
    /// Those of the model.
    pub fn probabilities(&self, images: &Tensor) -> Result<Tensor> {
        Ok(convnn_core::nn::softmax(&candle_nn::Module::forward(&self.model, images)?)?)
    }
}
