//! The data sets: names, classes, where they are published.

mod classes;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use convnn_image::{CHANNELS, Normalization};
use serde::{Deserialize, Serialize};

use crate::source::quote;
use classes::{CIFAR10, CIFAR100_COARSE, CIFAR100_FINE, DIGITS, FASHION};

/// A data set, written `cifar10`, `cifar100`, `mnist`, `fashion_mnist` or `folder` in configurations and on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DatasetName {
    /// 50,000 training and 10,000 test images in 10 classes.
    Cifar10,
    /// 50,000 training and 10,000 test images in 100 fine and 20 coarse classes.
    Cifar100,
    /// 60,000 training and 10,000 test images of handwritten digits.
    Mnist,
    /// 60,000 training and 10,000 test images of clothes in 10 classes, in the format of MNIST.
    #[serde(rename = "fashion_mnist")]
    FashionMnist,
    /// A folder of pictures with a folder for each class.
    Folder,
}

impl DatasetName {
    /// Every data set.
    pub const ALL: [Self; 5] = [Self::Cifar10, Self::Cifar100, Self::Mnist, Self::FashionMnist, Self::Folder];

    /// The title for display: "CIFAR-10".
    pub fn title(self) -> &'static str {
        match self {
            Self::Cifar10 => "CIFAR-10",
            Self::Cifar100 => "CIFAR-100",
            Self::Mnist => "MNIST",
            Self::FashionMnist => "Fashion-MNIST",
            Self::Folder => "folder of pictures",
        }
    }

    /// The class names, indexed by label; `None` for coarse labels except those of CIFAR-100, and for a folder, whose names are
    /// in [`Dataset::classes`](crate::Dataset::classes).
    pub fn class_names(self, labels: Labels) -> Option<&'static [&'static str]> {
        match (self, labels) {
            (Self::Cifar10, Labels::Fine) => Some(&CIFAR10),
            (Self::Cifar100, Labels::Fine) => Some(&CIFAR100_FINE),
            (Self::Cifar100, Labels::Coarse) => Some(&CIFAR100_COARSE),
            (Self::Mnist, Labels::Fine) => Some(&DIGITS),
            (Self::FashionMnist, Labels::Fine) => Some(&FASHION),
            (Self::Folder, _) | (_, Labels::Coarse) => None,
        }
    }

    /// The constants that normalize its images: those of the paper for CIFAR, the usual ones for MNIST and Fashion-MNIST,
    /// and ImageNet's for folders of pictures.
    ///
    /// Folders have constants too, not their own statistics, so that weights mean the same wherever they are used:
    /// evaluated on other pictures, they see what they saw in training.
    pub const fn normalization(self) -> Normalization {
        match self {
            Self::Cifar10 => Normalization::CIFAR10,
            Self::Cifar100 => Normalization::CIFAR100,
            Self::Mnist => Normalization { mean: [0.1307; CHANNELS], sd: [0.3081; CHANNELS] },
            Self::FashionMnist => Normalization { mean: [0.2860; CHANNELS], sd: [0.3530; CHANNELS] },
            Self::Folder => Normalization::IMAGENET,
        }
    }

    /// Number of fine classes; `None` for a folder, which has as many as it has folders.
    pub fn classes(self) -> Option<usize> {
        self.class_names(Labels::Fine).map(<[_]>::len)
    }

    /// Name of the folder for the official files, inside the archive if there is one.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Cifar10 => "cifar-10-batches-bin",
            Self::Cifar100 => "cifar-100-binary",
            Self::Mnist => "mnist",
            Self::FashionMnist => "fashion-mnist",
            Self::Folder => "pictures",
        }
    }

    /// A shell command that downloads the official files into `folder`; `None` for a folder of pictures.
    pub fn download_command(self, folder: &Path) -> Option<String> {
        let folder = quote(folder);
        let archive =
            |url: &str| format!("mkdir -p {folder} && curl -fL {url} | tar -xz --strip-components=1 -C {folder}");
        let files = |url: &str| {
            let names = "{train-images-idx3,train-labels-idx1,t10k-images-idx3,t10k-labels-idx1}-ubyte.gz";
            format!("mkdir -p {folder} && cd {folder} && curl -fL --remote-name-all '{url}/{names}'")
        };
        match self {
            Self::Cifar10 => Some(archive("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz")),
            Self::Cifar100 => Some(archive("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz")),
            Self::Mnist => Some(files("https://ossci-datasets.s3.amazonaws.com/mnist")),
            Self::FashionMnist => Some(files("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com")),
            Self::Folder => None,
        }
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
            Self::Mnist => "mnist",
            Self::FashionMnist => "fashion_mnist",
            Self::Folder => "folder",
        })
    }
}

impl FromStr for DatasetName {
    type Err = UnknownDataset;

    fn from_str(name: &str) -> Result<Self, UnknownDataset> {
        let known = Self::ALL.into_iter().find(|known| known.to_string() == name);
        known.ok_or_else(|| UnknownDataset(name.to_owned()))
    }
}

/// A name that is not one of a data set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown data set {0:?}; expected cifar10, cifar100, mnist, fashion_mnist or folder")]
pub struct UnknownDataset(pub String);

/// Which labels to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Labels {
    /// The classes: 10 of CIFAR-10, 100 of CIFAR-100.
    #[default]
    Fine,
    /// The 20 superclasses of CIFAR-100.
    Coarse,
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fine => "fine",
            Self::Coarse => "coarse",
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_round_trip_through_text() {
        for name in DatasetName::ALL {
            assert_eq!(name.to_string().parse::<DatasetName>().unwrap(), name);
            assert_eq!(serde_json::to_value(name).unwrap(), name.to_string());
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let message = "cifar".parse::<DatasetName>().unwrap_err().to_string();
        assert_eq!(message, "unknown data set \"cifar\"; expected cifar10, cifar100, mnist, fashion_mnist or folder");
    }

    #[test]
    fn classes_are_named_in_label_order() {
        let fine = DatasetName::Cifar100.class_names(Labels::Fine).unwrap();
        assert_eq!((fine[0], fine[99]), ("apple", "worm"));
        let coarse = DatasetName::Cifar100.class_names(Labels::Coarse).unwrap();
        assert_eq!((coarse.len(), coarse[0], coarse[19]), (20, "aquatic_mammals", "vehicles_2"));
        assert_eq!(DatasetName::Cifar10.class_names(Labels::Fine).unwrap()[3], "cat");
        assert_eq!(DatasetName::Cifar10.class_names(Labels::Coarse), None);
    }

    #[test]
    fn the_download_command_quotes_the_folder() {
        let command = DatasetName::Cifar10.download_command(Path::new("it's here")).unwrap();
        assert!(command.starts_with(r"mkdir -p 'it'\''s here' && curl -fL https://"), "{command}");
        assert!(command.ends_with(r"-C 'it'\''s here'"), "{command}");
    }
}
