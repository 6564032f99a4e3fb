#![doc = include_str!("../README.md")]

mod card;
mod described;
pub mod digests;
mod error;
pub mod files;
mod flops;
pub mod golden;
mod kinds;
pub mod layer;
mod limits;
mod loaded;
mod memory;
pub mod mixer;
pub mod model;
mod network;
mod observed;
mod preprocessing;
mod presets;
mod shapes;
mod summary;
pub mod vgg;
pub mod vit;
pub mod weights;

pub use card::ModelCard;
pub use error::{Error, Result};
pub use layer::LayerConfig;
pub use loaded::Loaded;
pub use memory::Memory;
pub use mixer::MixerConfig;
pub use model::{Model, ModelConfig};
pub use network::{Network, Observe};
pub use observed::Observed;
pub use preprocessing::Preprocessing;
pub use presets::{Decay, Preset, Training, preset, presets};
pub use summary::{Choice, LayerSummary};
pub use vgg::{Vgg, VggConfig};
pub use vit::{Vit, VitConfig};

#[cfg(feature = "hub")]
pub use convnn_hub::{HubConfig, ModelId};
pub use convnn_image::Normalization;
