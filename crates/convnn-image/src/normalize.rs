//! Normalisation: bytes to floats with zero mean and unit deviation per channel.

use serde::{Deserialize, Serialize};

use crate::CHANNELS;

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

    /// Mean and standard deviation of the training images of CIFAR-10, as in the paper.
    pub const CIFAR10: Self = Self { mean: [0.4914, 0.4822, 0.4465], sd: [0.2470, 0.2435, 0.2616] };

    /// Mean and standard deviation of the training images of CIFAR-100, as in the paper.
    pub const CIFAR100: Self = Self { mean: [0.5071, 0.4867, 0.4408], sd: [0.2675, 0.2565, 0.2761] };

    /// The float for every byte, per channel, with the arithmetic of torchvision's `ToTensor` and `Normalize`.
    pub fn table(&self) -> [[f32; 256]; CHANNELS] {
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
        let table = Normalization::CIFAR10.table();
        let values = [table[0][0], table[1][128], table[2][255]];
        assert_eq!(values, [-1.9894737, 0.08115326, 2.115826]);
        let table = Normalization::CIFAR100.table();
        let values = [table[0][0], table[1][128], table[2][255]];
        assert_eq!(values, [-1.8957008, 0.059496354, 2.025353]);
        let table = Normalization::NONE.table();
        assert_eq!([table[0][0], table[1][51], table[2][255]], [0., 0.2, 1.]);
    }
}
