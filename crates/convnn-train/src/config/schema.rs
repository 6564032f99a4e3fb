//! The JSON schema of a configuration, made from the types: for editors, for messages, and for the reference.

use super::RunConfig;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The schema of a configuration file. Every key may be left out.
pub fn document() -> Value {
    let mut schema = raw();
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("required");
        schema.insert("title".to_owned(), json!("Configuration of convnn train"));
    }
    finish(&mut schema);
    schema
}

/// The schema as it comes from the types.
pub(super) fn raw() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<RunConfig>().to_value()
}

/// Puts what this program alone understands into the terms of JSON Schema.
fn finish(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.remove("format");
            if let Some(Value::String(text)) = object.get_mut("description") {
                *text = super::keys::sentence(text);
            }
            object.remove("x-words");
            if object.remove("x-none").is_some() {
                let (texts, number): (Map<_, _>, Map<_, _>) = std::mem::take(object)
                    .into_iter()
                    .partition(|(name, _)| name == "description" || name == "default");
                *object = texts;
                object.insert("oneOf".to_owned(), json!([number, { "const": "none" }]));
            }
            if let Some(pattern) = shorthands(object) {
                let texts = json!({ "type": "string", "pattern": pattern, "description": "The same as one text." });
                if let Some(Value::Array(options)) = object.get_mut("oneOf") {
                    options.push(texts);
                }
            }
            object.values_mut().for_each(finish);
        }
        Value::Array(values) => values.iter_mut().for_each(finish),
        _ => {}
    }
}

/// The pattern of `random:32` for the choices of `object` that take numbers.
fn shorthands(object: &Map<String, Value>) -> Option<String> {
    let options = object.get("oneOf")?.as_array()?;
    let words: Vec<&str> = options
        .iter()
        .filter(|option| {
            option["type"] == "object" && option["properties"].as_object().is_some_and(|all| all.len() == 1)
        })
        .filter(|option| {
            option["properties"].get("kind").is_none() && option["properties"].get("architecture").is_none()
        })
        .filter_map(|option| option["required"][0].as_str())
        .collect();
    (!words.is_empty()).then(|| format!("^({})(:[0-9.eE+-]+)+$", words.join("|")))
}
