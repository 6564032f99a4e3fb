//! Hyperparameters, as TensorBoard's plugin `hparams` reads them.
//!
//! The plugin finds messages `HParamsPluginData` (`tensorboard/plugins/hparams/plugin_data.proto`) in the metadata of
//! three summaries with fixed tags.

use super::protobuf::Message;
use serde_json::Value;

/// The summaries that introduce a run: its hyperparameters, and the scalars that it is judged by.
pub(super) fn start(
    name: &str,
    parameters: &[(String, Value)],
    metrics: &[&str],
    seconds: f64,
) -> [(String, Message); 2] {
    let mut experiment = Message::new();
    for (key, value) in parameters {
        let kind = match value {
            Value::Bool(_) => BOOL,
            Value::Number(_) => FLOAT,
            _ => STRING,
        };
        experiment.message(4, Message::new().text(1, key).number(4, kind));
    }
    for metric in metrics {
        experiment.message(5, Message::new().message(1, Message::new().text(2, metric)));
    }
    let mut session = Message::new();
    for (key, value) in parameters {
        let mut entry = Message::new();
        entry.text(1, key);
        entry.message(2, &of_json(value));
        session.message(1, &entry);
    }
    session.text(4, name).double(5, seconds);
    [entry("experiment", 2, &experiment), entry("session_start_info", 3, &session)]
}

/// The summary that ends a run which has succeeded.
pub(super) fn end(seconds: f64) -> (String, Message) {
    entry("session_end_info", 4, Message::new().number(1, SUCCESS).double(2, seconds))
}

const STRING: u64 = 1;
const BOOL: u64 = 2;
const FLOAT: u64 = 3;
const SUCCESS: u64 = 1;

/// A tag with the metadata that hold `data` as field `field` of the plugin's message.
fn entry(tag: &str, field: u8, data: &Message) -> (String, Message) {
    let mut plugin = Message::new();
    plugin.text(1, "hparams").message(2, Message::new().message(field, data));
    let mut metadata = Message::new();
    metadata.message(1, &plugin);
    (format!("_hparams_/{tag}"), metadata)
}

/// A `google.protobuf.Value`.
fn of_json(value: &Value) -> Message {
    let mut message = Message::new();
    match value {
        Value::Null => message.number(1, 0),
        Value::Bool(value) => message.number(4, u64::from(*value)),
        Value::Number(value) => message.double(2, value.as_f64().unwrap_or(f64::NAN)),
        Value::String(value) => message.text(3, value),
        other => message.text(3, &other.to_string()),
    };
    message
}
