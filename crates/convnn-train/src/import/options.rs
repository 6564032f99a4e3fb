//! Options that shapes cannot tell: read from the arguments of the run that wrote the checkpoint, or assumed.

use convnn_models::ModelConfig;
pub use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt;

/// The plain values among the arguments of a training command, by name.
pub type Arguments = BTreeMap<String, Value>;

/// A configuration key with a value, in the form that `--set` takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The key, dotted.
    pub key: String,
    /// The value.
    pub value: Value,
}

impl Setting {
    pub(super) fn new(key: &str, value: impl Into<Value>) -> Self {
        Self { key: key.to_owned(), value: value.into() }
    }

    /// The setting as words of a shell command.
    pub fn as_argument(&self) -> String {
        let text = self.to_string();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._=-".contains(&byte);
        if text.bytes().all(plain) { format!("--set {text}") } else { format!("--set '{text}'") }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.value, toml::Value::try_from(&self.value)) {
            (Value::String(text), _) => write!(f, "{}={text}", self.key),
            (_, Ok(value)) => write!(f, "{}={value}", self.key),
            (value, Err(_)) => write!(f, "{}={value}", self.key),
        }
    }
}

/// The options that the arguments of the authors' training command stand for.
///
/// The names are those of the published run tables; a suffix `_type`, a prefix `num_` and capital letters make no
/// difference. An argument that is missing, or has a value that is not known, gives no option.
pub(super) fn from_arguments(arguments: &Arguments, layer: &str) -> Vec<Setting> {
    let named: BTreeMap<_, _> = arguments.iter().map(|(name, value)| (plain_name(name), value)).collect();
    let get = |name: &str| named.get(name).copied();
    let word = |name: &str| get(name).and_then(Value::as_str).unwrap_or_default().to_lowercase();
    let size = |name: &str| get(name).and_then(Value::as_u64);
    let fraction = |name: &str| get(name).and_then(Value::as_f64);

    let similarity = match word("metric").as_str() {
        "cosine" => Some("cosine"),
        "euclidean" => Some("euclidean"),
        "matmul" => Some("dot"),
        _ => None,
    };
    let compare = match word("similarity").as_str() {
        "col" => Some(json!("features")),
        "loc" => Some(json!("position")),
        "loc_col" => Some(json!({ "blend": fraction("lambda").unwrap_or(0.5) })),
        _ => None,
    };
    let values = match word("aggregation").as_str() {
        "col" => Some("features"),
        "loc_col" => Some("features_position"),
        _ => None,
    };
    let kernel = match word("conv").as_str() {
        "standard" => Some("standard"),
        "depthwise" => Some("depthwise"),
        "depthwise-separable" => Some("depthwise_separable"),
        _ => None,
    };
    let candidates = match (word("sampling").as_str(), size("samples")) {
        ("all", _) => Some(json!("all")),
        ("random", Some(n)) => Some(json!({ "random": { "n": n } })),
        ("spatial", Some(n)) => Some(json!({ "spatial": { "n": n, "margin": size("sample_padding").unwrap_or(0) } })),
        _ => None,
    };
    let modulation =
        get("softmax_topk_val").and_then(Value::as_bool).map(|on| if on { "softmax" } else { "similarity" });
    // Pattern and scale in one word, as in `BA2`.
    let shuffle = word("shuffle");
    let (pattern, scale) = shuffle.split_at(shuffle.trim_end_matches(|c: char| c.is_ascii_digit()).len());
    let pattern = match pattern {
        "na" => Some("none"),
        "b" => Some("before"),
        "a" => Some("after"),
        "ba" => Some("both"),
        _ => None,
    };
    let sparse = layer == "sparse_attention";
    let mode = Some(word("sparse_mode")).filter(|mode| sparse && !mode.is_empty());
    let settings = [
        ("layer.branch_ratio", fraction("branch_ratio").map(Value::from)),
        ("layer.heads", size("heads").map(Value::from)),
        ("layer.neighbors", size("k").map(Value::from)),
        ("layer.kernel", kernel.map(Value::from)),
        ("layer.kernel_size", size("conv_kernel").map(Value::from)),
        ("layer.padding", size("padding").map(Value::from)),
        ("layer.similarity", similarity.map(Value::from)),
        ("layer.compare", compare),
        ("layer.values", values.map(Value::from)),
        ("layer.modulation", modulation.map(Value::from)),
        ("layer.candidates", candidates),
        ("layer.shuffle", pattern.map(Value::from)),
        ("layer.shuffle_scale", scale.parse::<u64>().ok().map(Value::from)),
        ("layer.mode", mode.map(Value::from)),
        ("layer.window", size("sparse_window").filter(|_| sparse).map(Value::from)),
    ];
    settings.into_iter().filter_map(|(key, value)| Some(Setting::new(key, value?))).collect()
}

/// Whether the arguments are those of a run on ImageNet, which only the authors' 2026 code trained.
pub(super) fn are_of_2026(arguments: &Arguments) -> bool {
    let dataset = arguments.iter().find(|(name, _)| plain_name(name) == "dataset");
    dataset.and_then(|(_, value)| value.as_str()).is_some_and(|name| name.to_lowercase().contains("imagenet"))
}

fn plain_name(name: &str) -> String {
    let name = name.to_lowercase();
    let name = name.strip_prefix("num_").unwrap_or(&name);
    name.strip_suffix("_type").unwrap_or(name).to_owned()
}

/// Imported local attention computes what the published runs computed.
pub(super) fn as_published(layer: &str) -> Option<Setting> {
    (layer == "local_attention").then(|| Setting::new("layer.published", true))
}

/// The options of `config` that have no effect on shapes, with their values.
pub fn not_in_shapes(config: &ModelConfig) -> Vec<Setting> {
    let kind = config.layer_kind();
    let in_shapes = |key: &str| match key {
        "kind" | "kernel" | "kernel_size" | "branch_ratio" | "values" | "positions" | "bias" => true,
        "shuffle" | "shuffle_scale" => true,
        "neighbors" => kind != "kvt_attention",
        "heads" => kind == "conv_nn_attention",
        // Only training drops.
        "dropout" => true,
        _ => false,
    };
    let layer = serde_json::to_value(config).ok().and_then(|mut config| Some(config.get_mut("layer")?.take()));
    let Some(Value::Object(layer)) = layer else { return Vec::new() };
    let settings = layer.into_iter().filter(|(key, _)| !in_shapes(key));
    settings.map(|(key, value)| Setting::new(&format!("layer.{key}"), value)).collect()
}

/// Whether the authors' 2025 code computed something else for `config`: it mixed tokens up with more than one head.
pub fn differs_from_2025(config: &ModelConfig) -> bool {
    let heads = serde_json::to_value(config).ok().and_then(|config| config.pointer("/layer/heads")?.as_u64());
    config.layer_kind() == "conv_nn_attention" && heads.is_some_and(|heads| heads > 1)
}

/// Whether `config` has the key of `setting`.
pub(super) fn has(config: &ModelConfig, setting: &Setting) -> bool {
    let pointer = format!("/{}", setting.key.replace('.', "/"));
    serde_json::to_value(config).is_ok_and(|config| config.pointer(&pointer).is_some())
}

#[cfg(test)]
mod tests {
    use super::{Arguments, Setting, Value, are_of_2026, from_arguments};
    use serde_json::json;

    fn arguments(values: Value) -> Arguments {
        match values {
            Value::Object(values) => values.into_iter().collect(),
            _ => Arguments::new(),
        }
    }

    #[track_caller]
    fn options(layer: &str, values: Value, expected: Value) {
        let found = from_arguments(&arguments(values), layer);
        let found: Arguments = found.into_iter().map(|setting| (setting.key, setting.value)).collect();
        assert_eq!(found, arguments(expected));
    }

    #[test]
    fn arguments_of_the_published_runs() {
        let vgg = json!({
            "model": "vgg11", "layer": "Branching", "k": 9, "conv_kernel": 3, "sampling_type": "spatial",
            "num_samples": 8, "sample_padding": 1, "metric": "euclidean", "similarity_type": "Loc_Col",
            "aggregation_type": "Loc_Col", "lambda": 0.25, "branch_ratio": 0.5, "shuffle": "BA2", "padding": 1, "lr": 1e-4,
        });
        let expected = json!({
            "layer.branch_ratio": 0.5, "layer.neighbors": 9, "layer.kernel_size": 3, "layer.padding": 1,
            "layer.similarity": "euclidean", "layer.compare": { "blend": 0.25 }, "layer.values": "features_position",
            "layer.candidates": { "spatial": { "n": 8, "margin": 1 } }, "layer.shuffle": "both", "layer.shuffle_scale": 2,
        });
        options("branching_2d", vgg, expected);
        let vit = json!({
            "K": 9, "sampling": "random", "num_samples": 32, "metric": "matmul", "num_heads": 3,
            "softmax_topk_val": true, "conv_type": "depthwise-separable", "sparse_mode": "all", "sparse_window": 128,
        });
        let expected = json!({
            "layer.heads": 3, "layer.neighbors": 9, "layer.kernel": "depthwise_separable", "layer.similarity": "dot",
            "layer.modulation": "softmax", "layer.candidates": { "random": { "n": 32 } },
        });
        options("conv_nn_attention", vit, expected);
        let sparse = json!({ "sparse_mode": "strided", "sparse_window": 14, "num_samples": -1, "sampling": "all" });
        let expected = json!({ "layer.candidates": "all", "layer.mode": "strided", "layer.window": 14 });
        options("sparse_attention", sparse, expected);
    }

    #[test]
    fn settings_are_shell_words() {
        let words = |key, value: Value| Setting::new(key, value).as_argument();
        assert_eq!(words("layer.heads", json!(3)), "--set layer.heads=3");
        assert_eq!(words("layer.similarity", json!("dot")), "--set layer.similarity=dot");
        assert_eq!(words("model.features", json!([8, "M"])), "--set 'model.features=[8, \"M\"]'");
        assert_eq!(words("layer.compare", json!({ "blend": 0.5 })), "--set 'layer.compare={ blend = 0.5 }'");
    }

    #[test]
    fn unknown_values_give_no_option() {
        let values = json!({ "metric": "mahalanobis", "k": "many", "sampling": "random", "shuffle": 3 });
        options("conv_nn_2d", values, json!({}));
    }

    #[test]
    fn runs_on_imagenet_are_of_2026() {
        assert!(are_of_2026(&arguments(json!({ "dataset": "ImageNet1K" }))));
        assert!(!are_of_2026(&arguments(json!({ "dataset": "cifar10", "data": "imagenet" }))));
    }
}
