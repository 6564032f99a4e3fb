//! Where a data set is looked for: the folder that was named, the user's cache folder, the hub.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::directory::command;
use super::{Directory, HubConfig, Source, TEST_SHARE};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::name::DatasetName;
use crate::split::SIDE;

/// The places where a data set is looked for.
#[derive(Debug, Clone)]
pub struct Search {
    /// `sample`, `hub`, or a folder. If set, no other place is tried.
    pub data: Option<PathBuf>,
    /// Folder that may hold the official folders, and that keeps the notes about passed checksums.
    pub cache: Option<PathBuf>,
    /// The hub, tried last.
    pub hub: Option<HubConfig>,
    /// Side in pixels to which pictures of a folder are resized and cropped: 32 unless changed.
    pub image_size: usize,
    /// Share of the pictures of a folder that are test pictures, if it has no test part: 0.2 unless changed.
    pub test_share: f64,
}

impl Search {
    /// The search of the command line: `data` (`sample`, `hub` or a folder), else `CONVNN_DATA` (the same), else the
    /// user's cache folder, else the hub.
    ///
    /// `variable` reads an environment variable; programs pass [`std::env::var_os`], since this crate does not read the
    /// environment itself. Used are `CONVNN_DATA`; `XDG_CACHE_HOME`, `HOME` and `LOCALAPPDATA` for the cache folder; and
    /// the hub's `HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `HF_HOME`, `HF_TOKEN`,
    /// `HF_HUB_DOWNLOAD_TIMEOUT` (in seconds) and `HTTPS_PROXY`.
    pub fn new(data: Option<&Path>, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let folder = |name: &str| variable(name).map(PathBuf::from);
        let user_cache = folder("XDG_CACHE_HOME")
            .or_else(|| folder("HOME").map(|home| home.join(".cache")))
            .or_else(|| folder("LOCALAPPDATA"));
        Self {
            data: data.map(Path::to_owned).or_else(|| folder("CONVNN_DATA")),
            cache: user_cache.as_ref().map(|cache| cache.join("convnn")),
            hub: HubConfig::from_variables(user_cache, variable),
            image_size: SIDE,
            test_share: TEST_SHARE,
        }
    }

    /// Opens the data set from the first place that has it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if no place has it; otherwise what is wrong with the data that was found.
    pub fn open(&self, name: DatasetName) -> Result<Dataset> {
        if let Some(source) = self.named()? {
            return Dataset::open(name, &source);
        }
        if name == DatasetName::Folder {
            return Err(Error::NoFolder);
        }
        let mut searched = vec!["no data folder was given".to_owned()];
        if let Some(cache) = &self.cache {
            let path = cache.join(name.folder());
            if path.exists() {
                return Dataset::open(name, &self.directory(path));
            }
            searched.push(format!("{} does not exist", path.display()));
        }
        if let Some(hub) = &self.hub {
            match Dataset::open(name, &Source::Hub(hub.clone())) {
                Err(error @ (Error::Hub { .. } | Error::HubOffline { .. } | Error::NoHub | Error::NotOnHub(_))) => {
                    searched.push(error.to_string());
                }
                opened => return opened,
            }
        }
        let folder = self.cache.as_deref().unwrap_or(Path::new("data")).join(name.folder());
        Err(Error::NotFound { dataset: name, searched, command: command(name, &folder) })
    }

    /// The source that was asked for by name.
    fn named(&self) -> Result<Option<Source>> {
        let Some(data) = &self.data else { return Ok(None) };
        Ok(Some(match data.to_str() {
            Some("sample") => Source::Sample,
            Some("hub") => Source::Hub(self.hub.clone().ok_or(Error::NoHubCache)?),
            _ => self.directory(data.clone()),
        }))
    }

    fn directory(&self, path: PathBuf) -> Source {
        Source::Directory(Directory {
            path,
            notes: self.cache.as_ref().map(|cache| cache.join("checked")),
            image_size: self.image_size,
            test_share: self.test_share,
        })
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

    fn named_path(search: &Search) -> Option<PathBuf> {
        match search.named().unwrap()? {
            Source::Directory(directory) => Some(directory.path),
            _ => None,
        }
    }

    #[test]
    fn the_given_folder_takes_precedence_over_the_variable() {
        let variables = [("CONVNN_DATA", "/b"), ("HOME", "/home/u")];
        assert_eq!(named_path(&search(Some("/a"), &variables)), Some("/a".into()));
        assert_eq!(named_path(&search(None, &variables)), Some("/b".into()));
        assert!(search(None, &[("CONVNN_DATA", "")]).data.is_none(), "empty is unset");
    }

    #[test]
    fn sample_is_a_word_and_not_a_folder() {
        assert_eq!(search(Some("sample"), &[]).named().unwrap(), Some(Source::Sample));
        let variables = [("CONVNN_DATA", "sample")];
        assert_eq!(search(None, &variables).named().unwrap(), Some(Source::Sample));
        assert_eq!(named_path(&search(Some("./sample"), &[])), Some("./sample".into()));
    }

    #[test]
    fn hub_is_a_word_and_not_a_folder() {
        let named = search(Some("hub"), &[("HOME", "/h")]).named().unwrap();
        let Some(Source::Hub(named)) = named else { panic!("{named:?}") };
        assert_eq!(named.cache, Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(named_path(&search(Some("./hub"), &[])), Some("./hub".into()));
        let message = search(Some("hub"), &[]).open(DatasetName::Cifar10).unwrap_err().to_string();
        assert_eq!(message, "cannot find a cache folder for the hub; set HF_HUB_CACHE to one");
    }

    #[cfg(not(feature = "hub"))]
    #[test]
    fn without_the_feature_the_hub_says_how_to_build_with_it() {
        let home = tempfile::tempdir().unwrap();
        let variables = [("HOME", home.path().to_str().unwrap())];
        let message = search(Some("hub"), &variables).open(DatasetName::Cifar10).unwrap_err().to_string();
        let expected = "the Hugging Face hub is not part of this build; build with `--features hub` to use it";
        assert_eq!(message, expected);
        let message = search(None, &variables).open(DatasetName::Cifar10).unwrap_err().to_string();
        assert!(message.contains(&format!(" does not exist; {expected}\ndownload it with:\n  mkdir ")), "{message}");
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
    fn with_no_place_to_look_the_message_says_how_to_get_the_data() {
        let message = search(None, &[]).open(DatasetName::Cifar100).unwrap_err().to_string();
        assert_eq!(
            message,
            "CIFAR-100 was not found: no data folder was given\ndownload it with:\n  mkdir -p 'data/cifar-100-binary' && \
             curl -fL https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz | \
             tar -xz --strip-components=1 -C 'data/cifar-100-binary'"
        );
    }

    #[test]
    fn a_broken_folder_in_the_cache_is_reported_and_not_skipped() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(".cache/convnn/cifar-10-batches-bin");
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("test_batch.bin"), b"short").unwrap();
        let variables = [("HOME", home.path().to_str().unwrap())];
        let error = search(None, &variables).open(DatasetName::Cifar10).unwrap_err();
        assert!(matches!(error, Error::FilesMissing { .. }), "{error}");
    }

    #[test]
    fn the_hub_follows_its_variables() {
        let hub = |variables: &[(&str, &str)]| search(None, variables).hub;
        let home = hub(&[("HOME", "/h")]).unwrap();
        let token_file = Some(PathBuf::from("/h/.cache/huggingface/token"));
        assert_eq!(home, HubConfig { token_file, ..HubConfig::new("/h/.cache/huggingface/hub") });
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
            "CIFAR-10 was not found: no data folder was given; ",
            ".cache/convnn/cifar-10-batches-bin does not exist; ",
            "uoft-cs/cifar10/plain_text/train-00000-of-00001.parquet is not in the hub cache ",
            ".cache/huggingface/hub and downloads are disabled (HF_HUB_OFFLINE)\ndownload it with:\n  mkdir -p '",
            "/.cache/convnn/cifar-10-batches-bin' && curl -fL https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz | ",
        ] {
            assert!(message.contains(part), "{part:?} in {message:?}");
        }
        assert_eq!(message.lines().count(), 3, "{message:?}");
    }
}
