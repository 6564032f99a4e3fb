//! The model card in a folder of weights.

use crate::{ModelConfig, Result};
use std::fmt::Write;

/// What a model card says besides the configuration.
#[derive(Clone, Debug, Default)]
pub struct ModelCard {
    /// Title, such as the names of the preset and the data set.
    pub title: String,
    /// Rows of the table of results: what was measured, and the value.
    pub metrics: Vec<(String, String)>,
    /// The names of the classes by label, for `classes.json`; none if they are not known.
    pub classes: Vec<String>,
}

impl ModelCard {
    /// The card as Markdown, with the metadata that model hubs read.
    pub fn text(&self, config: &ModelConfig) -> Result<String> {
        let (architecture, side, classes) = (config.title(), config.image_size(), config.classes());
        let title = if self.title.is_empty() { config.layer_kind() } else { &self.title };
        let (parameters, gflops) = (config.parameter_count()?, config.flops()? as f64 / 1e9);
        let configuration = serde_json::to_string_pretty(config).map_err(crate::Error::Words)?;
        let mut text = format!(
            "---\nlibrary_name: convnn\npipeline_tag: image-classification\ntags:\n- convnn\n- image-classification\n---\n\n\
             # {title}\n\n\
             A {architecture} with layers of kind `{kind}`, from an implementation of Convolutional Nearest Neighbors\n\
             (arXiv 2511.14137).\n\n\
             | | |\n|---|---|\n\
             | images | {side}×{side}, RGB, normalized |\n\
             | classes | {classes} |\n\
             | parameters | {parameters} |\n\
             | GFLOPs per image | {gflops:.4} |\n",
            kind = config.layer_kind(),
        );
        for (what, value) in &self.metrics {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {what} | {value} |");
        }
        let _ = write!(
            text,
            "\n## Files\n\n`model.safetensors` holds f32 tensors under PyTorch's names; `config.json` is the configuration:\n\n\
             ```json\n{configuration}\n```\n\n\
             ## Use\n\n```rust\nlet (config, tensors) = convnn_models::weights::load(folder)?;\n```\n"
        );
        Ok(text)
    }
}
