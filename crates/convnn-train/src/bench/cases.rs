//! The cases of the benchmark: their names, sizes and operation counts.

use crate::Result;
use convnn_core::{Branching2dConfig, Candidates, Compare, ConvNn2dConfig, ConvNnAttentionConfig};
use convnn_models::mixer::{KvtAttentionConfig, MultiHeadAttentionConfig};
use convnn_models::vgg::{Feature, VggHead};
use convnn_models::{LayerConfig, MixerConfig, ModelConfig, VggConfig, VitConfig};

/// Number of copies of each value in the 7×7 average pool of a 1×1 map, which the model folds into one.
const POOLED: usize = 49;

/// Batch size of a VGG, with images of 32×32.
const VGG_BATCH: usize = 128;

/// Batch size of a Vision Transformer, with images of 224×224.
const VIT_BATCH: usize = 32;

/// Batch, channels, tokens, neighbors: layers of VGG-11 on a padded 32×32 image and of ViT-Tiny, and one large image.
const SELECT: [[usize; 4]; 4] = [[32, 3, 1156, 9], [32, 64, 324, 9], [32, 192, 197, 9], [1, 64, 16384, 9]];

/// Batch, channels, tokens, neighbors, outputs.
const AGGREGATE: [[usize; 5]; 2] = [[32, 64, 324, 9, 128], [32, 256, 100, 9, 256]];

/// Numbers of tokens, for the growth of time and memory of the selection; one image of 64 channels.
const SCALING: [usize; 7] = [1024, 2048, 4096, 8192, 16384, 32768, 65536];

/// Part of the names of the cases of [`SCALING`], which take long and only run if asked for.
const SCALING_NAME: &str = "scaling";

/// A case of the benchmark.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name; the PyTorch case of that name does the same work.
    pub name: String,
    pub(super) work: Work,
}

/// The work of a case.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// A training step: forward with dropout, cross entropy, backward, clipping to norm 1, AdamW.
    Step { model: Box<ModelConfig>, batch: usize },
    /// Evaluation of a batch.
    Infer { model: Box<ModelConfig>, batch: usize },
    /// Selection by cosine similarity among all tokens, each token itself first.
    Select { batch: usize, channels: usize, tokens: usize, neighbors: usize },
    /// Aggregation of random neighbors, and its gradients with respect to values, weight and bias.
    Aggregate { batch: usize, channels: usize, tokens: usize, neighbors: usize, outputs: usize },
}

impl Case {
    /// All cases: those of the PyTorch benchmark in its order, then those for the growth of the selection.
    pub fn all() -> Vec<Self> {
        let models = models();
        let step = |(name, model, batch): &(&str, ModelConfig, usize)| {
            let (model, batch) = (Box::new(model.clone()), *batch);
            Self { name: format!("{name}_step"), work: Work::Step { model, batch } }
        };
        let infer = |(name, model, batch): &(&str, ModelConfig, usize)| {
            let (model, batch) = (Box::new(model.clone()), *batch);
            Self { name: format!("{name}_infer"), work: Work::Infer { model, batch } }
        };
        let select = |name, [batch, channels, tokens, neighbors]: [usize; 4]| Self {
            name: format!("{name}_b{batch}_c{channels}_n{tokens}_k{neighbors}"),
            work: Work::Select { batch, channels, tokens, neighbors },
        };
        let aggregate = |[batch, channels, tokens, neighbors, outputs]: [usize; 5]| Self {
            name: format!("aggregate_b{batch}_c{channels}_n{tokens}_k{neighbors}_o{outputs}"),
            work: Work::Aggregate { batch, channels, tokens, neighbors, outputs },
        };
        let steps = models.iter().map(step).chain(models.iter().map(infer));
        let selections = SELECT.into_iter().map(|sizes| select("select", sizes));
        let growing = SCALING.into_iter().map(|tokens| select("select_scaling", [1, 64, tokens, 9]));
        steps.chain(selections).chain(AGGREGATE.into_iter().map(aggregate)).chain(growing).collect()
    }

    /// The cases whose names contain `part`. Those for the growth of the selection must be asked for with `scaling`.
    pub fn matching(part: &str) -> Vec<Self> {
        let asked = |case: &Self| part.contains(SCALING_NAME) || !case.name.contains(SCALING_NAME);
        Self::all().into_iter().filter(|case| case.name.contains(part) && asked(case)).collect()
    }

    /// The case of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|case| case.name == name)
    }

    /// The number of operations of the case, 2 per multiply-add, counted from its sizes.
    ///
    /// A step counts as three forward passes, and an aggregation with its gradients as three aggregations.
    ///
    /// # Errors
    /// If the configuration is not that of a model.
    pub fn flops(&self) -> Result<u64> {
        Ok(match &self.work {
            Work::Step { model, batch } => 3 * *batch as u64 * forward_flops(model)?,
            Work::Infer { model, batch } => *batch as u64 * forward_flops(model)?,
            &Work::Select { batch, channels, tokens, .. } => (2 * batch * tokens * tokens * channels) as u64,
            &Work::Aggregate { batch, channels, tokens, neighbors, outputs } => {
                (3 * 2 * batch * tokens * neighbors * channels * outputs) as u64
            }
        })
    }
}

/// Operations of the forward pass of one image.
///
/// [`ModelConfig::flops`] counts two parts that [`Model::forward_t`](convnn_models::Model::forward_t) skips: 48 of 49 copies of
/// a pooled pixel, and the hidden layer of the last block for all tokens but the first.
fn forward_flops(config: &ModelConfig) -> Result<u64> {
    let skipped = match config {
        ModelConfig::Vgg { model, .. } if model.head == VggHead::Mlp => {
            let width = model.features.iter().rev().find_map(|feature| match feature {
                Feature::Layer(width) => Some(*width),
                Feature::Pool => None,
            });
            2 * (POOLED - 1) * width.unwrap_or(0) * model.hidden
        }
        ModelConfig::Vit { model, .. } => 2 * 2 * (model.tokens() - 1) * model.dim * model.mlp,
        _ => 0,
    };
    Ok(config.flops()? - skipped as u64)
}

/// The models and their batch sizes.
fn models() -> Vec<(&'static str, ModelConfig, usize)> {
    let vgg = |name, branch_ratio, branch| {
        let layer =
            LayerConfig::Branching2d(Branching2dConfig { branch_ratio, branch, ..Branching2dConfig::default() });
        (name, ModelConfig::Vgg { model: VggConfig::default(), layer }, VGG_BATCH)
    };
    let vit = |name, layer| (name, ModelConfig::Vit { model: VitConfig::default(), layer }, VIT_BATCH);
    let compare = |compare| ConvNn2dConfig { compare, ..ConvNn2dConfig::default() };
    let among = |candidates| ConvNn2dConfig { candidates, ..ConvNn2dConfig::default() };
    let conv_nn = |candidates| {
        MixerConfig::ConvNnAttention(ConvNnAttentionConfig { candidates, ..ConvNnAttentionConfig::default() })
    };
    vec![
        vgg("vgg11_conv", 0.0, ConvNn2dConfig::default()),
        vgg("vgg11_hybrid", 0.5, ConvNn2dConfig::default()),
        vgg("vgg11_convnn", 1.0, ConvNn2dConfig::default()),
        vgg("vgg11_hybrid_blend", 0.5, compare(Compare::Blend(0.5))),
        vgg("vgg11_hybrid_random64", 0.5, among(Candidates::Random { n: 64 })),
        vgg("vgg11_hybrid_spatial8", 0.5, among(Candidates::Spatial { n: 8, margin: 0 })),
        vit("vit_tiny_attention", MixerConfig::MultiHeadAttention(MultiHeadAttentionConfig::default())),
        vit("vit_tiny_kvt100", MixerConfig::KvtAttention(KvtAttentionConfig::default())),
        vit("vit_tiny_convnn", conv_nn(Candidates::All)),
        vit("vit_tiny_convnn_random32", conv_nn(Candidates::Random { n: 32 })),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The names that the PyTorch benchmark prints, in its order.
    const PYTORCH: [&str; 26] = [
        "vgg11_conv_step",
        "vgg11_hybrid_step",
        "vgg11_convnn_step",
        "vgg11_hybrid_blend_step",
        "vgg11_hybrid_random64_step",
        "vgg11_hybrid_spatial8_step",
        "vit_tiny_attention_step",
        "vit_tiny_kvt100_step",
        "vit_tiny_convnn_step",
        "vit_tiny_convnn_random32_step",
        "vgg11_conv_infer",
        "vgg11_hybrid_infer",
        "vgg11_convnn_infer",
        "vgg11_hybrid_blend_infer",
        "vgg11_hybrid_random64_infer",
        "vgg11_hybrid_spatial8_infer",
        "vit_tiny_attention_infer",
        "vit_tiny_kvt100_infer",
        "vit_tiny_convnn_infer",
        "vit_tiny_convnn_random32_infer",
        "select_b32_c3_n1156_k9",
        "select_b32_c64_n324_k9",
        "select_b32_c192_n197_k9",
        "select_b1_c64_n16384_k9",
        "aggregate_b32_c64_n324_k9_o128",
        "aggregate_b32_c256_n100_k9_o256",
    ];

    /// Numbers of parameters of the PyTorch models.
    const PYTORCH_PARAMETERS: [(&str, usize); 10] = [
        ("vgg11_conv", 130_015_690),
        ("vgg11_hybrid", 130_015_690),
        ("vgg11_convnn", 130_015_690),
        ("vgg11_hybrid_blend", 130_015_690),
        ("vgg11_hybrid_random64", 130_015_690),
        ("vgg11_hybrid_spatial8", 130_015_690),
        ("vit_tiny_attention", 5_479_306),
        ("vit_tiny_kvt100", 5_479_306),
        ("vit_tiny_convnn", 5_500_042),
        ("vit_tiny_convnn_random32", 5_500_042),
    ];

    fn names(part: &str) -> Vec<String> {
        Case::matching(part).into_iter().map(|case| case.name).collect()
    }

    #[test]
    fn the_cases_are_those_of_pytorch() {
        assert_eq!(names(""), PYTORCH);
        assert_eq!(names("select_b1_"), ["select_b1_c64_n16384_k9"]);
        assert_eq!(names("scaling").len(), SCALING.len());
        assert_eq!(names("select_scaling_b1_c64_n65536_k9").len(), 1);
        assert!(names("nothing").is_empty());
    }

    #[test]
    fn the_models_are_those_of_pytorch() {
        let count = |name: &str| models().into_iter().find(|(n, ..)| *n == name).unwrap().1.parameter_count().unwrap();
        for (name, expected) in PYTORCH_PARAMETERS {
            assert_eq!(count(name), expected, "{name}");
        }
        assert_eq!(models().len(), PYTORCH_PARAMETERS.len());
    }

    #[test]
    fn operations_are_counted_once() {
        let flops = |name: &str| Case::named(name).unwrap().flops().unwrap();
        assert_eq!(flops("vgg11_conv_step"), 3 * flops("vgg11_conv_infer"));
        assert_eq!(flops("select_b32_c3_n1156_k9"), 2 * 32 * 1156 * 1156 * 3);
        assert_eq!(flops("aggregate_b32_c64_n324_k9_o128"), 6 * 32 * 324 * 9 * 64 * 128);
        // Eight 3×3 convolutions, each followed by a 1×1 convolution, and three linear layers, the first of one pixel.
        let layers: [(u64, u64, u64); 8] = [
            (1024, 3, 64),
            (256, 64, 128),
            (64, 128, 256),
            (64, 256, 256),
            (16, 256, 512),
            (16, 512, 512),
            (4, 512, 512),
            (4, 512, 512),
        ];
        let layers: u64 =
            layers.iter().map(|(tokens, inputs, outputs)| tokens * outputs * (9 * inputs + outputs)).sum();
        let head = 512 * 4096 + 4096 * 4096 + 4096 * 10;
        assert_eq!(flops("vgg11_conv_infer"), 128 * 2 * (layers + head));
    }
}
