//! The files that are read from the hub, each pinned by revision, size and SHA-256.

use crate::name::DatasetName;

/// A data set on the hub.
pub(super) struct Repository<'a> {
    /// Its name, "owner/name".
    pub name: &'a str,
    /// The commit.
    pub revision: &'a str,
    /// Folder of the files.
    pub folder: &'a str,
    pub train: Pinned<'a>,
    pub test: Pinned<'a>,
}

/// A file of which every byte is known in advance.
pub(super) struct Pinned<'a> {
    pub name: &'a str,
    pub size: u64,
    pub sha256: &'a str,
}

const TRAIN: &str = "train-00000-of-00001.parquet";
const TEST: &str = "test-00000-of-00001.parquet";

const CIFAR10: Repository<'static> = Repository {
    name: "uoft-cs/cifar10",
    revision: "0b2714987fa478483af9968de7c934580d0bb9a2",
    folder: "plain_text",
    train: Pinned {
        name: TRAIN,
        size: 119_705_255,
        sha256: "8428b53a88a11ac374111006708df51469e315a22ac6d66470afd9c78d2ae883",
    },
    test: Pinned {
        name: TEST,
        size: 23_940_850,
        sha256: "841389e6f2d64f28bf17310e430aebac20ec3ba611a3c5e231dc93c645ce84de",
    },
};

const CIFAR100: Repository<'static> = Repository {
    name: "uoft-cs/cifar100",
    revision: "aadb3af77e9048adbea6b47c21a81e47dd092ae5",
    folder: "cifar100",
    train: Pinned {
        name: TRAIN,
        size: 118_518_617,
        sha256: "694865d6b990e234804f01268586c41e88bcbbb75e20858432c05ad4081aca23",
    },
    test: Pinned {
        name: TEST,
        size: 23_772_751,
        sha256: "98776c529bb146a9c791229df74a5cf076be9b43d82dbbd334b6a7788d73dc68",
    },
};

/// The repository of a data set, if it is read from the hub.
pub(super) fn published(name: DatasetName) -> Option<&'static Repository<'static>> {
    match name {
        DatasetName::Cifar10 => Some(&CIFAR10),
        DatasetName::Cifar100 => Some(&CIFAR100),
        DatasetName::Mnist | DatasetName::FashionMnist | DatasetName::Folder => None,
    }
}
