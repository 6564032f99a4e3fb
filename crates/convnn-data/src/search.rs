//! Where a data set is looked for: the folder that was named, the user's cache folder, the hub.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::dataset::{Dataset, Source};
use crate::directory::Directory;
use crate::error::{Error, Result};
#[cfg(feature = "hub")]
use crate::hub::HubConfig;
use crate::name::DatasetName;

/// The places where a data set is looked for, in their order.
#[derive(Debug, Clone)]
pub struct Search {
    /// A source that was asked for by name. If there is one, no other is tried: what the user names must be what runs.
    pub given: Option<Source>,
    /// Folder that may hold the official folders and that keeps the notes about passed checksums.
    pub cache: Option<PathBuf>,
    /// The hub, tried last.
    #[cfg(feature = "hub")]
    pub hub: Option<HubConfig>,
}

impl Search {
    /// The search of the command line: `data` (the word `sample` or a folder), else the variable `CONVNN_DATA` (the
    /// same), else the user's cache folder, else the hub.
    ///
    /// `variable` reads an environment variable; a program hands in [`std::env::var_os`], since this crate does not
    /// read the environment by itself. Used are `CONVNN_DATA`; `XDG_CACHE_HOME`, `HOME` and `LOCALAPPDATA` for the
    /// cache folder; and the hub's `HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`,
    /// `HF_HOME` and `HF_TOKEN`.
    pub fn new(data: Option<&Path>, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let folder = |name: &str| variable(name).map(PathBuf::from);
        let user_cache = folder("XDG_CACHE_HOME")
            .or_else(|| folder("HOME").map(|home| home.join(".cache")))
            .or_else(|| folder("LOCALAPPDATA"));
        let cache = user_cache.as_ref().map(|cache| cache.join("convnn"));
        let given = data.map(Path::to_owned).or_else(|| folder("CONVNN_DATA"));
        let given = given.map(|path| {
            if path.as_os_str() == "sample" {
                return Source::Sample;
            }
            Source::Directory(Directory { path, notes: cache.as_deref().map(notes) })
        });
        Self {
            given,
            #[cfg(feature = "hub")]
            hub: HubConfig::from_variables(user_cache, variable),
            cache,
        }
    }

    /// Opens the data set from the first place that has it.
    ///
    /// # Errors
    /// [`Error::NotFound`] where no place has it; else what is wrong with the data that was found.
    pub fn open(&self, name: DatasetName) -> Result<Dataset> {
        if let Some(source) = &self.given {
            return Dataset::open(name, source);
        }
        let mut looked = vec!["no data folder was named".to_owned()];
        if let Some(cache) = &self.cache {
            let path = cache.join(name.folder());
            if path.exists() {
                let notes = Some(notes(cache));
                return Dataset::open(name, &Source::Directory(Directory { path, notes }));
            }
            looked.push(format!("{} does not exist", path.display()));
        }
        #[cfg(feature = "hub")]
        if let Some(hub) = &self.hub {
            match Dataset::open(name, &Source::Hub(hub.clone())) {
                Err(error @ (Error::Hub { .. } | Error::HubOffline { .. })) => looked.push(error.to_string()),
                opened => return opened,
            }
        }
        Err(Error::NotFound {
            dataset: name,
            looked,
            command: name.download_command(&self.cache.as_deref().unwrap_or(Path::new("data")).join(name.folder())),
        })
    }
}

/// Where notes about passed checksums are kept.
fn notes(cache: &Path) -> PathBuf {
    cache.join("checked")
}

#[cfg(feature = "hub")]
impl HubConfig {
    /// The hub as its variables describe it; `None` where there is no place for a cache.
    fn from_variables(user_cache: Option<PathBuf>, variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let folder = |name: &str| variable(name).map(PathBuf::from);
        let text = |name: &str| variable(name).and_then(|value| value.into_string().ok());
        let home = folder("HF_HOME").or_else(|| Some(user_cache?.join("huggingface")));
        let cache =
            folder("HF_HUB_CACHE").or_else(|| folder("HUGGINGFACE_HUB_CACHE")).or_else(|| Some(home?.join("hub")))?;
        let mut config = Self::new(cache);
        config.endpoint = text("HF_ENDPOINT").unwrap_or(config.endpoint);
        // The words that the hub's own tools take for yes. hf-hub does not read this switch.
        config.offline =
            text("HF_HUB_OFFLINE").is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&&*value.to_uppercase()));
        config.token = text("HF_TOKEN");
        Some(config)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn search(data: Option<&str>, variables: &[(&str, &str)]) -> Search {
        Search::new(data.map(Path::new), |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    fn given_path(search: &Search) -> Option<&Path> {
        match search.given.as_ref()? {
            Source::Directory(directory) => Some(&directory.path),
            _ => None,
        }
    }

    #[test]
    fn the_named_folder_goes_before_the_variable() {
        let variables = [("CONVNN_DATA", "/b"), ("HOME", "/home/u")];
        assert_eq!(given_path(&search(Some("/a"), &variables)), Some(Path::new("/a")));
        assert_eq!(given_path(&search(None, &variables)), Some(Path::new("/b")));
        assert!(search(None, &[("CONVNN_DATA", "")]).given.is_none(), "empty is unset");
    }

    #[test]
    fn sample_is_a_word_and_not_a_folder() {
        assert!(matches!(search(Some("sample"), &[]).given, Some(Source::Sample)));
        let variables = [("CONVNN_DATA", "sample")];
        assert!(matches!(search(None, &variables).given, Some(Source::Sample)));
        assert_eq!(given_path(&search(Some("./sample"), &[])), Some(Path::new("./sample")));
    }

    #[test]
    fn a_named_folder_that_is_missing_is_not_replaced_by_another_source() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("none");
        let home = folder.path().to_str().unwrap();
        let error = search(missing.to_str(), &[("HOME", home)]).open(DatasetName::Cifar10);
        assert!(matches!(error.unwrap_err(), Error::FolderMissing { .. }));
    }

    #[test]
    fn the_cache_folder_follows_the_variables() {
        let cache = |variables: &[(&str, &str)]| search(None, variables).cache;
        let expected = |path: &str| Some(PathBuf::from(path));
        assert_eq!(cache(&[("HOME", "/h")]), expected("/h/.cache/convnn"));
        assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), expected("/x/convnn"));
        assert_eq!(cache(&[("LOCALAPPDATA", "/l")]), expected("/l/convnn"));
        assert_eq!(cache(&[]), None);
    }

    #[test]
    fn without_any_place_the_message_tells_how_to_get_the_data() {
        let message = search(None, &[]).open(DatasetName::Cifar100).unwrap_err().to_string();
        assert_eq!(
            message,
            "CIFAR-100 was not found: no data folder was named; get it with `mkdir -p 'data/cifar-100-binary' && \
             curl -fL https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz | \
             tar -xz --strip-components=1 -C 'data/cifar-100-binary'`"
        );
    }

    #[test]
    fn a_broken_folder_in_the_cache_is_reported_and_not_passed_over() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(".cache/convnn/cifar-10-batches-bin");
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("test_batch.bin"), b"short").unwrap();
        let variables = [("HOME", home.path().to_str().unwrap())];
        let error = search(None, &variables).open(DatasetName::Cifar10).unwrap_err();
        assert!(matches!(error, Error::FilesMissing { .. }), "{error}");
    }

    #[cfg(feature = "hub")]
    #[test]
    fn the_hub_follows_its_variables() {
        let hub = |variables: &[(&str, &str)]| search(None, variables).hub;
        let home = hub(&[("HOME", "/h")]).unwrap();
        assert_eq!(home, HubConfig::new("/h/.cache/huggingface/hub"));
        assert!(!home.offline);
        assert_eq!(hub(&[("HF_HOME", "/f")]).unwrap().cache, Path::new("/f/hub"));
        let caches = [("HF_HOME", "/f"), ("HUGGINGFACE_HUB_CACHE", "/g")];
        assert_eq!(hub(&caches).unwrap().cache, Path::new("/g"));
        let caches = [("HF_HUB_CACHE", "/c"), ("HUGGINGFACE_HUB_CACHE", "/g")];
        assert_eq!(hub(&caches).unwrap().cache, Path::new("/c"));
        assert_eq!(hub(&[]), None);
        for (value, offline) in [("1", true), ("true", true), ("0", false), ("", false)] {
            let variables = [("HOME", "/h"), ("HF_HUB_OFFLINE", value)];
            assert_eq!(hub(&variables).unwrap().offline, offline, "{value:?}");
        }
        let variables = [("HOME", "/h"), ("HF_ENDPOINT", "http://mirror"), ("HF_TOKEN", "secret")];
        let config = hub(&variables).unwrap();
        assert_eq!(config.endpoint, "http://mirror");
        assert_eq!(config.token.as_deref(), Some("secret"));
        assert!(!format!("{config:?}").contains("secret"), "a token must not reach a log");
    }

    #[cfg(feature = "hub")]
    #[test]
    fn offline_with_a_cold_cache_names_every_place_and_the_command() {
        let home = tempfile::tempdir().unwrap();
        let variables = [("HOME", home.path().to_str().unwrap()), ("HF_HUB_OFFLINE", "1")];
        let error = search(None, &variables).open(DatasetName::Cifar10).unwrap_err();
        let message = error.to_string();
        for part in [
            "CIFAR-10 was not found: no data folder was named; ",
            ".cache/convnn/cifar-10-batches-bin does not exist; ",
            "uoft-cs/cifar10/plain_text/train-00000-of-00001.parquet is not in the hub cache ",
            ".cache/huggingface/hub and the hub is switched off (HF_HUB_OFFLINE); get it with `mkdir -p '",
            "/.cache/convnn/cifar-10-batches-bin' && curl -fL https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz | ",
        ] {
            assert!(message.contains(part), "{part:?} in {message:?}");
        }
        assert!(!message.contains('\n'), "one line: {message:?}");
    }
}
