//! The Hugging Face hub as a source. Its configuration is always there; downloading needs the feature `hub`.

#[cfg(feature = "hub")]
mod download;
#[cfg(feature = "hub")]
mod parquet;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

#[cfg(feature = "hub")]
pub(crate) use download::open;

#[cfg(not(feature = "hub"))]
use crate::{dataset::Dataset, error::Error, name::DatasetName};

#[cfg(not(feature = "hub"))]
pub(crate) fn open(_: DatasetName, _: &HubConfig) -> Result<Dataset, Error> {
    Err(Error::NoHub)
}

/// How to reach the Hugging Face hub.
#[derive(Clone, PartialEq, Eq)]
pub struct HubConfig {
    /// URL of the hub or of a mirror.
    pub endpoint: String,
    /// The hub cache, in the layout that all hub tools share.
    pub cache: PathBuf,
    /// Use cached files only.
    pub offline: bool,
    /// Access token. By default the hub client uses the user's own; the two data sets need none.
    pub token: Option<String>,
}

impl HubConfig {
    /// The public hub, with its cache in `cache`.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self { endpoint: "https://huggingface.co".to_owned(), cache: cache.into(), offline: false, token: None }
    }

    /// The hub, configured from the environment, or `None` if the environment names no cache folder.
    pub(crate) fn from_variables(
        user_cache: Option<PathBuf>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Option<Self> {
        let folder = |name: &str| variable(name).map(PathBuf::from);
        let text = |name: &str| variable(name).and_then(|value| value.into_string().ok());
        let home = folder("HF_HOME").or_else(|| Some(user_cache?.join("huggingface")));
        let cache =
            folder("HF_HUB_CACHE").or_else(|| folder("HUGGINGFACE_HUB_CACHE")).or_else(|| Some(home?.join("hub")))?;
        let mut config = Self::new(cache);
        config.endpoint = text("HF_ENDPOINT").unwrap_or(config.endpoint);
        // hf-hub does not read this switch; these are the values that the other hub tools accept.
        config.offline =
            text("HF_HUB_OFFLINE").is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&&*value.to_uppercase()));
        config.token = text("HF_TOKEN");
        Some(config)
    }
}

impl fmt::Debug for HubConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubConfig")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("offline", &self.offline)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .finish()
    }
}
