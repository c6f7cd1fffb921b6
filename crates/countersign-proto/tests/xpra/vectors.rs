//! Reading the recorded vectors, and comparing their JSON with values.

use std::path::Path;

use countersign_proto::wire::xpra::{Encoder, Value};
use serde_json::Value as Json;

#[expect(clippy::disallowed_methods, reason = "the rules read no files, their tests read the vectors")]
pub(crate) fn load(file: &str) -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/xpra").join(file);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub(crate) fn bytes(hex: &Json) -> Vec<u8> {
    from_hex(hex.as_str().unwrap())
}

pub(crate) fn from_hex(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2));
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// The value that the vectors' JSON stands for.
pub(crate) fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match number.as_i64() {
            Some(value) => Value::Int(value),
            None => Value::Float(number.as_f64().unwrap()),
        },
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => Value::List(items.iter().map(value).collect()),
        Json::Object(object) => {
            if let Some(hex) = object.get("$bytes") {
                Value::Bytes(bytes(hex))
            } else if let Some(digits) = object.get("$int") {
                Value::integer(digits.as_str().unwrap().as_bytes()).unwrap()
            } else if let Some(Json::Array(entries)) = object.get("$map") {
                Value::Dict(entries.iter().map(|entry| (value(&entry[0]), value(&entry[1]))).collect())
            } else {
                Value::Dict(
                    object.iter().map(|(key, item)| (Value::Text(key.clone()), value(item))).collect(),
                )
            }
        }
    }
}

/// The value as it comes back from an encoder that has fewer types, dictionaries in order of their keys.
pub(crate) fn as_seen_by(encoder: Encoder, value: Value) -> Value {
    match value {
        Value::Bool(value) if encoder == Encoder::Bencode => Value::Int(value.into()),
        Value::Float(value) if encoder == Encoder::Rencode => Value::Float((value as f32).into()),
        Value::Bytes(bytes) if encoder != Encoder::Rencodeplus => match String::from_utf8(bytes) {
            Ok(text) => Value::Text(text),
            Err(bytes) => Value::Bytes(bytes.into_bytes()),
        },
        Value::List(items) => Value::List(items.into_iter().map(|item| as_seen_by(encoder, item)).collect()),
        Value::Dict(entries) => {
            let mut entries: Vec<_> = entries
                .into_iter()
                .map(|(key, item)| (as_seen_by(encoder, key), as_seen_by(encoder, item)))
                .collect();
            entries.sort_by_key(|(key, _)| dump(key));
            Value::Dict(entries)
        }
        other => other,
    }
}

/// What `Debug` does not show.
pub(crate) fn dump(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::BigInt(digits) => digits.as_str().to_owned(),
        Value::Float(value) => format!("{value:?}"),
        Value::Text(text) => format!("{text:?}"),
        Value::Bytes(bytes) => format!("{bytes:02x?}"),
        Value::List(items) => format!("[{}]", items.iter().map(dump).collect::<Vec<_>>().join(", ")),
        Value::Dict(entries) => {
            let entries: Vec<_> =
                entries.iter().map(|(key, item)| format!("{}: {}", dump(key), dump(item))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        other => format!("{other:?}"),
    }
}

pub(crate) fn assert_same(encoder: Encoder, found: Value, expected: Value, what: &str) {
    let (found, expected) = (as_seen_by(encoder, found), as_seen_by(encoder, expected));
    assert!(found == expected, "{what}:\n found    {}\n expected {}", dump(&found), dump(&expected));
}
