//! The two data sets: names, classes, archives.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A data set, written `cifar10` or `cifar100` in configurations and on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DatasetName {
    /// 50,000 training and 10,000 test images in 10 classes.
    Cifar10,
    /// 50,000 training and 10,000 test images in 100 fine and 20 coarse classes.
    Cifar100,
}

impl DatasetName {
    /// Every data set.
    pub const ALL: [Self; 2] = [Self::Cifar10, Self::Cifar100];

    /// The title for display: "CIFAR-10".
    pub fn title(self) -> &'static str {
        match self {
            Self::Cifar10 => "CIFAR-10",
            Self::Cifar100 => "CIFAR-100",
        }
    }

    /// The class names, indexed by label; `None` for the coarse labels of CIFAR-10, which has none.
    pub fn class_names(self, labels: Labels) -> Option<&'static [&'static str]> {
        match (self, labels) {
            (Self::Cifar10, Labels::Fine) => Some(&CIFAR10),
            (Self::Cifar10, Labels::Coarse) => None,
            (Self::Cifar100, Labels::Fine) => Some(&CIFAR100_FINE),
            (Self::Cifar100, Labels::Coarse) => Some(&CIFAR100_COARSE),
        }
    }

    /// Number of fine classes: 10 or 100.
    pub fn classes(self) -> usize {
        match self {
            Self::Cifar10 => CIFAR10.len(),
            Self::Cifar100 => CIFAR100_FINE.len(),
        }
    }

    /// Name of the folder inside the official archive.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Cifar10 => "cifar-10-batches-bin",
            Self::Cifar100 => "cifar-100-binary",
        }
    }

    /// URL of the official archive of binary files.
    pub fn archive(self) -> &'static str {
        match self {
            Self::Cifar10 => "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            Self::Cifar100 => "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        }
    }

    /// A shell command that downloads the official files into `folder`.
    pub fn download_command(self, folder: &Path) -> String {
        let (folder, archive) = (folder.display(), self.archive());
        format!("mkdir -p '{folder}' && curl -fL {archive} | tar -xz --strip-components=1 -C '{folder}'")
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
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

/// A name that is neither `cifar10` nor `cifar100`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown data set {0:?}; expected cifar10 or cifar100")]
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

const CIFAR10: [&str; 10] = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

const CIFAR100_COARSE: [&str; 20] = [
    "aquatic_mammals",
    "fish",
    "flowers",
    "food_containers",
    "fruit_and_vegetables",
    "household_electrical_devices",
    "household_furniture",
    "insects",
    "large_carnivores",
    "large_man-made_outdoor_things",
    "large_natural_outdoor_scenes",
    "large_omnivores_and_herbivores",
    "medium_mammals",
    "non-insect_invertebrates",
    "people",
    "reptiles",
    "small_mammals",
    "trees",
    "vehicles_1",
    "vehicles_2",
];

const CIFAR100_FINE: [&str; 100] = [
    "apple",
    "aquarium_fish",
    "baby",
    "bear",
    "beaver",
    "bed",
    "bee",
    "beetle",
    "bicycle",
    "bottle",
    "bowl",
    "boy",
    "bridge",
    "bus",
    "butterfly",
    "camel",
    "can",
    "castle",
    "caterpillar",
    "cattle",
    "chair",
    "chimpanzee",
    "clock",
    "cloud",
    "cockroach",
    "couch",
    "crab",
    "crocodile",
    "cup",
    "dinosaur",
    "dolphin",
    "elephant",
    "flatfish",
    "forest",
    "fox",
    "girl",
    "hamster",
    "house",
    "kangaroo",
    "keyboard",
    "lamp",
    "lawn_mower",
    "leopard",
    "lion",
    "lizard",
    "lobster",
    "man",
    "maple_tree",
    "motorcycle",
    "mountain",
    "mouse",
    "mushroom",
    "oak_tree",
    "orange",
    "orchid",
    "otter",
    "palm_tree",
    "pear",
    "pickup_truck",
    "pine_tree",
    "plain",
    "plate",
    "poppy",
    "porcupine",
    "possum",
    "rabbit",
    "raccoon",
    "ray",
    "road",
    "rocket",
    "rose",
    "sea",
    "seal",
    "shark",
    "shrew",
    "skunk",
    "skyscraper",
    "snail",
    "snake",
    "spider",
    "squirrel",
    "streetcar",
    "sunflower",
    "sweet_pepper",
    "table",
    "tank",
    "telephone",
    "television",
    "tiger",
    "tractor",
    "train",
    "trout",
    "tulip",
    "turtle",
    "wardrobe",
    "whale",
    "willow_tree",
    "wolf",
    "woman",
    "worm",
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_round_trip_through_text() {
        for name in DatasetName::ALL {
            assert_eq!(name.to_string().parse::<DatasetName>().unwrap(), name);
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let message = "cifar".parse::<DatasetName>().unwrap_err().to_string();
        assert_eq!(message, "unknown data set \"cifar\"; expected cifar10 or cifar100");
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
}
