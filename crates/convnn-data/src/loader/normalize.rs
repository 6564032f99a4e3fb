//! Normalisation: bytes to floats with zero mean and unit deviation per channel.

use serde::{Deserialize, Serialize};

use crate::name::DatasetName;
use crate::split::CHANNELS;

/// Mean and standard deviation of each channel of images in [0, 1]: x ↦ (x/255 − mean) / sd.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalization {
    /// Mean of the red, green and blue channel.
    pub mean: [f32; CHANNELS],
    /// Standard deviation of the red, green and blue channel.
    pub sd: [f32; CHANNELS],
}

impl Normalization {
    /// No normalisation: images in [0, 1].
    pub const NONE: Self = Self { mean: [0.; CHANNELS], sd: [1.; CHANNELS] };

    /// Mean and standard deviation of the training images of ImageNet.
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], sd: [0.229, 0.224, 0.225] };

    /// The constants for this data set: those of the paper for CIFAR, the usual ones for MNIST and Fashion-MNIST, and
    /// ImageNet's for folders of pictures.
    ///
    /// Folders have constants too, not their own statistics, so that weights mean the same wherever they are used:
    /// evaluated on other pictures, they see what they saw in training.
    pub fn of(name: DatasetName) -> Self {
        match name {
            DatasetName::Cifar10 => Self { mean: [0.4914, 0.4822, 0.4465], sd: [0.2470, 0.2435, 0.2616] },
            DatasetName::Cifar100 => Self { mean: [0.5071, 0.4867, 0.4408], sd: [0.2675, 0.2565, 0.2761] },
            DatasetName::Mnist => Self { mean: [0.1307; CHANNELS], sd: [0.3081; CHANNELS] },
            DatasetName::FashionMnist => Self { mean: [0.2860; CHANNELS], sd: [0.3530; CHANNELS] },
            DatasetName::Folder => Self::IMAGENET,
        }
    }

    /// The float for every byte, per channel, with the arithmetic of torchvision's `ToTensor` and `Normalize`.
    pub(crate) fn table(&self) -> [[f32; 256]; CHANNELS] {
        std::array::from_fn(|channel| {
            std::array::from_fn(|byte| (byte as f32 / 255. - self.mean[channel]) / self.sd[channel])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_the_floats_of_torchvision() {
        // torch.tensor([0, 128, 255], dtype=torch.uint8).to(torch.float32).div(255).sub(mean).div(sd)
        let table = Normalization::of(DatasetName::Cifar10).table();
        let values = [table[0][0], table[1][128], table[2][255]];
        assert_eq!(values, [-1.9894737, 0.08115326, 2.115826]);
        let table = Normalization::of(DatasetName::Cifar100).table();
        let values = [table[0][0], table[1][128], table[2][255]];
        assert_eq!(values, [-1.8957008, 0.059496354, 2.025353]);
        let table = Normalization::NONE.table();
        assert_eq!([table[0][0], table[1][51], table[2][255]], [0., 0.2, 1.]);
    }
}
