#![doc = include_str!("../README.md")]

pub mod config;
mod error;
mod exact;
mod flops;
mod layer;
mod mixer;
pub mod mixers;
mod model;
mod model_card;
pub mod nn;
mod presets;
mod shapes;
mod vgg;
mod vit;
pub mod weights;

pub use config::{LayerConfig, MixerConfig, ModelConfig};
pub use error::{Error, Result};
pub use layer::{Conv2d, Layer};
pub use mixer::Mixer;
pub use model::{Model, Network};
pub use model_card::ModelCard;
pub use presets::{Decay, Preset, Training, preset, presets};
pub use vgg::Vgg;
pub use vit::{Block, Vit};
