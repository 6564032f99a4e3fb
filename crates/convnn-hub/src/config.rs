//! How to reach the hub.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

/// How to reach the Hugging Face hub.
///
/// Every file is pinned by revision, size and SHA-256, so a mirror cannot give other data. Plain HTTP is used on this machine
/// only, and messages show no more of a URL than its host.
#[derive(Clone, PartialEq, Eq)]
pub struct HubConfig {
    /// URL of the hub or of a mirror.
    pub endpoint: String,
    /// The hub cache, in the layout that all hub tools share.
    pub cache: PathBuf,
    /// Use cached files only.
    pub offline: bool,
    /// Access token, sent to the hub alone.
    pub token: Option<String>,
    /// A file with the access token, read if `token` is `None`.
    pub token_file: Option<PathBuf>,
    /// URL of an HTTP proxy.
    pub proxy: Option<String>,
    /// The longest wait for a connection, a response, or the next bytes.
    pub timeout: Duration,
}

impl HubConfig {
    /// The public hub, with its cache in `cache`.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: "https://huggingface.co".to_owned(),
            cache: cache.into(),
            offline: false,
            token: None,
            token_file: None,
            proxy: None,
            timeout: Duration::from_secs(30),
        }
    }

    /// The endpoint without credentials, path and query.
    pub fn shown_endpoint(&self) -> String {
        let (scheme, rest) = self.endpoint.split_once("://").unwrap_or(("", &self.endpoint));
        let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") }
    }

    /// The access token: the one that was given, or else the one in the file.
    pub fn token(&self) -> Option<String> {
        let stored = || {
            let mut text = String::new();
            // Anything but a short text file is ignored.
            fs::File::open(self.token_file.as_ref()?).ok()?.take(4096).read_to_string(&mut text).ok()?;
            Some(text)
        };
        let token = self.token.clone().or_else(stored)?.trim().to_owned();
        (!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())).then_some(token)
    }

    /// The hub, configured from the environment, or `None` if the environment names no cache folder.
    ///
    /// `variable` reads an environment variable, and `user_cache` is the cache folder of the user. Used are `HF_ENDPOINT`,
    /// `HF_HUB_OFFLINE`, `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `HF_HOME`, `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN`,
    /// `HF_TOKEN_PATH`, `HF_HUB_DOWNLOAD_TIMEOUT` (in seconds) and `HTTPS_PROXY`.
    pub fn from_variables(user_cache: Option<PathBuf>, variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let folder = |name: &str| variable(name).map(PathBuf::from);
        let text = |name: &str| variable(name).and_then(|value| value.into_string().ok());
        let home = folder("HF_HOME").or_else(|| Some(user_cache?.join("huggingface")));
        let named = folder("HF_HUB_CACHE").or_else(|| folder("HUGGINGFACE_HUB_CACHE"));
        let cache = named.or_else(|| Some(home.as_ref()?.join("hub")))?;
        let mut config = Self::new(cache);
        config.token_file = folder("HF_TOKEN_PATH").or_else(|| Some(home?.join("token")));
        config.endpoint = text("HF_ENDPOINT").unwrap_or(config.endpoint);
        // These are the values that the other hub tools accept.
        config.offline =
            text("HF_HUB_OFFLINE").is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&&*value.to_uppercase()));
        config.token = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN"));
        config.proxy = text("HTTPS_PROXY").or_else(|| text("https_proxy"));
        let seconds = text("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|seconds| seconds.parse().ok());
        config.timeout =
            seconds.filter(|seconds| (1..=3600).contains(seconds)).map_or(config.timeout, Duration::from_secs);
        Some(config)
    }
}

impl fmt::Debug for HubConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubConfig")
            .field("endpoint", &self.shown_endpoint())
            .field("cache", &self.cache)
            .field("offline", &self.offline)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("token_file", &self.token_file)
            .field("proxy", &self.proxy.as_ref().map(|_| "…"))
            .field("timeout", &self.timeout)
            .finish()
    }
}
