//! Whether our full-size rows are trained as the published ones were: the resolved configuration against the arguments in the
//! authors' logs, field by field.

use serde_json::Value;

use crate::experiments::Published;
use crate::plan::Run;

/// The fields in which `run` differs from a published run, each as `FIELD is FOUND; published ARGUMENT`.
pub fn differences(run: &Run, published: &Published) -> Vec<String> {
    let argument = |name: &str| published.arguments.get(name).map_or("", String::as_str);
    let is_vgg = published.model == "vgg11";
    let layer = &run.config["layer"];
    let mut expected: Vec<(&str, String)> = vec![
        ("dataset", argument("dataset").to_owned()),
        ("learning_rate", argument("lr").to_owned()),
        ("epochs", argument("epochs").to_owned()),
        // The same in every published run; PAPER section 5 of the authors' code.
        ("batch_size", "256".to_owned()),
        ("optimizer", "adamw".to_owned()),
        ("weight_decay", "0.01".to_owned()),
        ("schedule", "constant".to_owned()),
        ("clip_grad_norm", "1".to_owned()),
        ("augmentation", "none".to_owned()),
    ];
    let kind = match argument("layer") {
        "Branching" => "branching_2d",
        "Branching_Attn" => "branching_2d_attention",
        "Attention" => "multi_head_attention",
        "ConvNNAttention" => "conv_nn_attention",
        "KvtAttention" => "kvt_attention",
        "LocalAttention" => "local_attention",
        "SparseAttention" => "sparse_attention",
        "BranchAttention" => "branching_tokens",
        other => other,
    };
    expected.push(("layer.kind", kind.to_owned()));
    let chooses =
        matches!(kind, "conv_nn_attention" | "branching_tokens") || (is_vgg && argument("branch_ratio") != "0.0");
    if chooses {
        let metric = if argument("metric") == "matmul" { "dot" } else { argument("metric") };
        expected.push(("layer.similarity", metric.to_owned()));
        expected.push((
            "layer.candidates",
            match argument("sampling") {
                "all" => "all".to_owned(),
                sampling => format!("{sampling}:{}", argument("num_samples")),
            },
        ));
    }
    if chooses || kind == "kvt_attention" {
        expected.push(("layer.neighbors", argument("k").to_owned()));
    }
    if is_vgg {
        expected.push(("layer.branch_ratio", argument("branch_ratio").to_owned()));
        expected.push(("layer.kernel_size", argument("conv_kernel").to_owned()));
        expected.push(("layer.padding", argument("padding").to_owned()));
        let (shuffle, scale) = if argument("shuffle") == "BA2" { ("both", "2") } else { ("none", "1") };
        expected.push(("layer.shuffle", shuffle.to_owned()));
        expected.push(("layer.shuffle_scale", scale.to_owned()));
        if chooses {
            let both = |column: &str| argument(column) == "Loc_Col";
            let compare =
                if both("similarity") { format!("blend:{}", argument("lambda")) } else { "features".to_owned() };
            expected.push(("layer.compare", compare));
            expected
                .push(("layer.values", if both("aggregation") { "features_position" } else { "features" }.to_owned()));
        }
    } else {
        expected.push(("layer.heads", argument("heads").to_owned()));
    }
    match kind {
        "conv_nn_attention" | "branching_tokens" => {
            expected.push(("layer.kernel", argument("conv_type").replace('-', "_")));
        }
        "sparse_attention" => {
            expected.push(("layer.mode", argument("sparse_mode").to_owned()));
            expected.push(("layer.window", argument("sparse_window").to_owned()));
        }
        _ => {}
    }
    let mut found: Vec<String> = expected
        .iter()
        .filter_map(|(key, expected)| {
            let value = key.split('.').fold(&run.config, |table, part| &table[part]);
            let value = short(value);
            (!same(&value, expected)).then(|| format!("{key} is {value}; published {expected}"))
        })
        .collect();
    if layer.is_null() {
        found.push("the configuration has no layer".to_owned());
    }
    if run.parameters != published.parameters {
        found.push(format!("{} parameters; published {}", run.parameters, published.parameters));
    }
    found
}

/// A configuration value as `--set` takes it: `{"random": {"n": 32}}` is `random:32`.
fn short(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(map) => match map.iter().next() {
            Some((name, Value::Object(inner))) => format!("{name}:{}", inner.get("n").map(short).unwrap_or_default()),
            Some((name, inner)) => format!("{name}:{}", short(inner)),
            None => String::new(),
        },
        other => other.to_string(),
    }
}

/// Whether two texts are equal, numbers in them as numbers.
fn same(a: &str, b: &str) -> bool {
    let parts = |text: &str| text.split(':').map(str::to_owned).collect::<Vec<_>>();
    let (a, b) = (parts(a), parts(b));
    let equal = |a: &String, b: &String| a == b || a.parse::<f64>().is_ok_and(|a| b.parse() == Ok(a));
    a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| equal(a, b))
}
