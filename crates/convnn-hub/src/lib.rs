#![doc = include_str!("../README.md")]

mod config;
mod error;
#[cfg(feature = "client")]
mod fetch;
#[cfg(feature = "client")]
mod file;
#[cfg(feature = "client")]
mod models;
mod name;
#[cfg(feature = "client")]
mod push;

pub use config::HubConfig;
pub use error::{Error, Result};
#[cfg(feature = "client")]
pub use fetch::{Expected, Refusal, Size, Target, fetch};
#[cfg(feature = "client")]
pub use file::{Failed, save};
#[cfg(feature = "client")]
pub use models::download;
pub use name::ModelId;
#[cfg(feature = "client")]
pub use push::{Push, push};

/// Bytes in hexadecimal digits.
#[cfg(feature = "client")]
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
