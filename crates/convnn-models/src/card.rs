//! The model card in a folder of weights.

use crate::{ModelConfig, Preprocessing, Result};
use std::fmt::Write;

/// What a model card says besides the configuration.
#[derive(Clone, Debug, Default)]
pub struct ModelCard {
    /// Title, such as the names of the preset and the data set.
    pub title: String,
    /// Rows of the table of results: what was measured, and the value.
    pub metrics: Vec<(String, String)>,
    /// What the model's input must look like, for `config.json`; `None` if that is not known.
    pub preprocessing: Option<Preprocessing>,
    /// The names of the classes in the order of the logits, for `config.json`; empty if they are not known.
    pub labels: Vec<String>,
    /// The licence of the weights, as model hubs name it, such as `apache-2.0`; `None` if it is not stated.
    pub license: Option<String>,
    /// Sections to put at the end, as Markdown.
    pub sections: String,
}

impl ModelCard {
    /// The card as Markdown, with the metadata that model hubs read.
    pub fn text(&self, config: &ModelConfig) -> Result<String> {
        let (architecture, side, classes) = (config.title(), config.image_size(), config.classes());
        let title = if self.title.is_empty() { config.layer_kind() } else { &self.title };
        let (parameters, gflops) = (config.parameter_count()?, config.flops()? as f64 / 1e9);
        let configuration = serde_json::to_string_pretty(config).map_err(crate::Error::Words)?;
        let mut text = format!(
            "---\n{license}library_name: convnn\npipeline_tag: image-classification\ntags:\n- convnn\n- image-classification\n---\n\n\
             # {title}\n\n\
             A {architecture} with layers of kind `{kind}`, trained with [convnn]({repository}), an implementation of\n\
             Convolutional Nearest Neighbors (arXiv 2511.14137).\n\n\
             | | |\n|---|---|\n\
             | images | {side}×{side}, RGB, normalized |\n\
             | classes | {classes} |\n\
             | parameters | {parameters} |\n\
             | GFLOPs per image | {gflops:.4} |\n",
            license = self.license.as_deref().map(license).unwrap_or_default(),
            repository = env!("CARGO_PKG_REPOSITORY"),
            kind = config.layer_kind(),
        );
        for (what, value) in &self.metrics {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {what} | {value} |");
        }
        let _ = write!(
            text,
            "\n## Files\n\n`model.safetensors` holds the tensors under PyTorch's names; `config.json` holds the configuration:\n\n\
             ```json\n{configuration}\n```\n\n\
             ## Use\n\n```rust\nuse candle_core::{{DType, Device}};\nuse convnn_models::Model;\n\n\
             let loaded = Model::load(\"FOLDER\", DType::F32, &Device::Cpu)?;\n```\n"
        );
        text += &self.sections;
        Ok(text)
    }
}

/// The line of the metadata that names the license. Hubs take a list of names in place of `MIT OR Apache-2.0`.
fn license(name: &str) -> String {
    match name.contains(" OR ") {
        true => format!("license: [{}]\n", name.replace(" OR ", ", ").to_lowercase()),
        false => format!("license: {name}\n"),
    }
}
