//! What the names and shapes of a checkpoint tell about its model.

use super::options::{Setting, Value};
use candle_core::Tensor;
use convnn_models::ModelConfig;
use serde_json::json;
use std::collections::BTreeMap;

/// The largest size that is believed; a model may allocate in proportion to it.
const LARGEST: usize = 1 << 16;

/// The settings that change `config` into a model of the shapes in `tensors`, where the shapes tell; what they do not
/// tell stays. The second value is the changed configuration.
pub(super) fn changes(tensors: &BTreeMap<String, Tensor>, config: &ModelConfig) -> Option<(Vec<Setting>, ModelConfig)> {
    let mut document = serde_json::to_value(config).ok()?;
    let shapes = Shapes(tensors);
    let told = match document["model"]["architecture"].as_str()? {
        "vgg" => shapes.vgg()?,
        "vit" => shapes.vit()?,
        _ => return None,
    };
    let mut changes = Vec::new();
    for setting in told {
        let (table, key) = setting.key.split_once('.')?;
        if document[table].get(key) == Some(&setting.value) {
            continue;
        }
        match key {
            // Another kind starts from its own defaults.
            "kind" => {
                let bare = json!({ "model": document["model"], "layer": { "kind": setting.value } });
                document = serde_json::to_value(serde_json::from_value::<ModelConfig>(bare).ok()?).ok()?;
            }
            _ if document[table].get(key).is_none() => continue,
            _ => document[table][key] = setting.value.clone(),
        }
        changes.push(setting);
    }
    Some((changes, serde_json::from_value(document).ok()?))
}

struct Shapes<'a>(&'a BTreeMap<String, Tensor>);

impl Shapes<'_> {
    /// The size of dimension `dim` of the tensor `name`.
    fn size(&self, name: &str, dim: usize) -> Option<usize> {
        let tensor = self.0.get(name).filter(|tensor| tensor.elem_count() > 0)?;
        tensor.dims().get(dim).copied().filter(|&size| size <= LARGEST)
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn vit(&self) -> Option<Vec<Setting>> {
        const PROJECTION: &str = "patch_embedding.linear_projection.weight";
        let (dim, patch) = (self.size(PROJECTION, 0)?, self.size(PROJECTION, 2)?);
        let mut told = vec![Setting::new("model.dim", dim), Setting::new("model.patch", patch)];
        if let Some(positions) = self.size("positional_encoding.pe", 1) {
            told.push(Setting::new("model.image", (positions - 1).isqrt() * patch));
        }
        told.extend(self.size("transformer_encoder.0.mlp.0.weight", 0).map(|mlp| Setting::new("model.mlp", mlp)));
        let blocks = (0..).take_while(|block| self.has(&format!("transformer_encoder.{block}.norm1.weight"))).count();
        told.push(Setting::new("model.layers", blocks));
        told.extend(self.mixer(dim).into_iter().flatten());
        Some(told)
    }

    fn mixer(&self, dim: usize) -> Option<Vec<Setting>> {
        let path = |name: &str| format!("transformer_encoder.0.attention.{name}");
        let kind = |kind: &str| Setting::new("layer.kind", kind);
        if let Some(rows) = self.size(&path("to_qkv.weight"), 0) {
            let mut told = vec![kind("local_attention")];
            // One frequency for each pair of channels.
            if let Some(pairs) = self.size(&path("rel_pos.inv_freq"), 0) {
                told.push(Setting::new("layer.dim_head", 2 * pairs));
                told.push(Setting::new("layer.heads", rows / (6 * pairs)));
            }
            return Some(told);
        }
        for (name, mixer) in [("qkv.weight", "kvt_attention"), ("q_proj.weight", "sparse_attention")] {
            if self.has(&path(name)) {
                return Some(vec![kind(mixer)]);
            }
        }
        let mut told = vec![kind("conv_nn_attention")];
        let kernel = if self.has(&path("conv.0.weight")) { "conv.0.weight" } else { "conv.weight" };
        let Some(neighbors) = self.size(&path(kernel), 2) else {
            return self.has(&path("W_q.weight")).then(|| vec![kind("multi_head_attention")]);
        };
        told.push(Setting::new("layer.neighbors", neighbors));
        let inputs = self.size(&path(kernel), 1)?;
        let (head, channels, kernel) = match kernel {
            "conv.0.weight" => {
                (self.size(&path("conv.1.weight"), 0)?, self.size(&path(kernel), 0)?, "depthwise_separable")
            }
            _ if inputs == 1 => (self.size(&path(kernel), 0)?, self.size(&path(kernel), 0)?, "depthwise"),
            _ => (self.size(&path(kernel), 0)?, inputs, "standard"),
        };
        told.push(Setting::new("layer.kernel", kernel));
        told.push(Setting::new("layer.heads", dim / head));
        told.push(Setting::new("layer.positions", channels > head));
        told.push(Setting::new("layer.bias", self.size(&path("W_q.bias"), 0).is_some()));
        Some(told)
    }

    fn vgg(&self) -> Option<Vec<Setting>> {
        // The layer at index i is followed by its batch norm at i + 1 and a ReLU at i + 2; a pool takes one index.
        let mut layers: Vec<(usize, usize)> = Vec::new();
        for name in self.0.keys() {
            let index = name.strip_prefix("features.").and_then(|rest| rest.strip_suffix(".running_mean"));
            let Some(norm) = index.and_then(|index| index.parse::<usize>().ok()) else { continue };
            layers.push((norm.checked_sub(1).filter(|&index| index < LARGEST)?, self.size(name, 0)?));
        }
        layers.sort_unstable();
        let (mut features, mut next) = (Vec::new(), 0);
        for &(index, width) in &layers {
            features.extend((next..index).map(|_| Value::from("M")));
            features.push(Value::from(width));
            next = index + 3;
        }
        // A last pool leaves no trace; every published VGG ends with one.
        features.push(Value::from("M"));
        let mut told = vec![Setting::new("model.features", features)];
        if let Some(hidden) = self.size("classifier.0.weight", 0) {
            told.push(Setting::new("model.head", "mlp"));
            told.push(Setting::new("model.hidden", hidden));
        } else {
            told.push(Setting::new("model.head", "linear"));
        }
        told.extend(self.layer(&layers).into_iter().flatten());
        Some(told)
    }

    /// The 2-D layer, told by the first one (whose input has 3 channels) and by the widest one.
    fn layer(&self, layers: &[(usize, usize)]) -> Option<Vec<Setting>> {
        let first = format!("features.{}", layers.first()?.0);
        let &(widest, width) = layers.iter().max_by_key(|(_, width)| *width)?;
        let widest = format!("features.{widest}");
        if let Some(side) = self.size(&format!("{first}.weight"), 2) {
            return Some(vec![Setting::new("layer.kind", "conv2d"), Setting::new("layer.kernel_size", side)]);
        }
        let branching =
            self.has(&format!("{first}.pointwise_conv.weight")) && !self.has(&format!("{first}.w_q.weight"));
        let branch = |path: &str| if branching { format!("{path}.branch1") } else { path.to_owned() };
        let projected = self.has(&format!("{}.w_q.weight", branch(&first)));
        let kind = match (branching, projected) {
            (true, true) => "branching_2d_attention",
            (true, false) => "branching_2d",
            (false, true) => "conv_nn_2d_attention",
            (false, false) => "conv_nn_2d",
        };
        let mut told = vec![Setting::new("layer.kind", kind)];
        if branching {
            let side = self.size(&format!("{first}.branch2.weight"), 2);
            told.extend(side.map(|side| Setting::new("layer.kernel_size", side)));
        }
        let kernel = |path: &str| format!("{}.conv1d_layer.weight", branch(path));
        let Some(neighbors) = self.size(&kernel(&first), 2) else {
            told.push(Setting::new("layer.branch_ratio", 0.0));
            return Some(told);
        };
        told.push(Setting::new("layer.neighbors", neighbors));
        let inputs = self.size(&kernel(&first), usize::from(!projected))?;
        let positions = inputs % 3 == 2;
        told.push(Setting::new("layer.values", if positions { "features_position" } else { "features" }));
        let rows = match projected {
            true => self.size(&format!("{}.w_o.weight", branch(&widest)), 0)?,
            false => self.size(&kernel(&widest), 0)?,
        };
        // Shuffling by s multiplies the 3 input channels by s² before, and the output channels after.
        let before = (inputs / 3).isqrt();
        let after = if branching { before } else { (rows / width).isqrt() };
        let shuffle = match (before > 1, after > 1) {
            (false, false) => "none",
            (true, false) => "before",
            (false, true) => "after",
            (true, true) => "both",
        };
        told.push(Setting::new("layer.shuffle", shuffle));
        told.push(Setting::new("layer.shuffle_scale", before.max(after)));
        if branching {
            told.push(Setting::new("layer.branch_ratio", (rows / (after * after).max(1)) as f64 / width as f64));
        }
        Some(told)
    }
}
