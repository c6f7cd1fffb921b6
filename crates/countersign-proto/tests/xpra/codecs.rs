//! The three encodings: against the real codecs' output, and against themselves on any value.

use countersign_proto::wire::xpra::{Encoder, Limits, Value, WireError};
use proptest::prelude::*;
use serde_json::Value as Json;

use crate::vectors::{as_seen_by, assert_same, bytes, load, value};

fn decode(encoder: Encoder, payload: &[u8]) -> Result<Value, WireError> {
    encoder.decode(payload, &Limits::default())
}

fn entries(file: &Json, name: &str) -> Vec<Json> {
    let entries = file[name].as_array().unwrap().clone();
    assert!(!entries.is_empty());
    entries
}

#[test]
fn every_case_is_written_as_the_real_codec_writes_it_and_read_back() {
    let mut compared = 0;
    for case in entries(&load("codecs.json"), "cases") {
        for encoder in Encoder::ALL {
            let what = format!("{} in {}", case["name"], encoder.name());
            let written = encoder.encode(&value(&case["value"]));
            if case[encoder.name()].is_null() {
                assert_eq!(written, Err(WireError::Unrepresentable), "{what}");
                continue;
            }
            let expected = bytes(&case[encoder.name()]);
            assert_eq!(written.as_ref(), Ok(&expected), "{what}");
            assert_same(encoder, decode(encoder, &expected).unwrap(), value(&case["value"]), &what);
            compared += 1;
        }
    }
    assert!(compared > 120, "{compared} cases");
}

#[test]
fn input_that_no_writer_produces_is_read() {
    for case in entries(&load("codecs.json"), "decode_only") {
        let found = decode(Encoder::Rencodeplus, &bytes(&case["rencodeplus"])).unwrap();
        assert_same(Encoder::Rencodeplus, found, value(&case["value"]), &case["name"].to_string());
    }
    assert_eq!(decode(Encoder::Bencode, b"u5:hello").unwrap(), Value::from("hello"));
    assert_eq!(decode(Encoder::Rencode, b"\x2c\x3f\xf8\0\0\0\0\0\0").unwrap(), Value::Float(1.5));
}

#[test]
fn malformed_input_is_refused() {
    for case in entries(&load("codecs.json"), "reject") {
        assert!(decode(Encoder::Rencodeplus, &bytes(&case["rencodeplus"])).is_err(), "{}", case["name"]);
    }
}

#[test]
fn s_012_the_yaml_of_the_vectors_is_no_encoding_we_read() {
    for case in entries(&load("codecs.json"), "yaml") {
        for encoder in Encoder::ALL {
            assert!(decode(encoder, case["yaml"].as_str().unwrap().as_bytes()).is_err());
        }
    }
}

/// Values whose dictionaries have unique scalar keys; floats that 32 bits can hold.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-40_000_i64..70_000).prop_map(Value::Int),
        "-?[1-9][0-9]{19,62}".prop_map(|digits| Value::integer(digits.as_bytes()).unwrap()),
        any::<f32>().prop_filter("equal to itself", |f| !f.is_nan()).prop_map(|f| Value::Float(f.into())),
        ".{0,80}".prop_map(Value::Text),
        proptest::collection::vec(any::<u8>(), 0..80).prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(5, 200, 70, |inner| {
        let key = prop_oneof![
            3 => "[a-z.-]{0,70}".prop_map(Value::Text),
            1 => any::<i64>().prop_map(Value::Int),
        ];
        let dict = proptest::collection::vec((key, inner.clone()), 0..30).prop_map(|mut entries| {
            entries.sort_by_key(|(key, _)| crate::vectors::dump(key));
            entries.dedup_by(|one, other| one.0 == other.0);
            Value::Dict(entries)
        });
        prop_oneof![proptest::collection::vec(inner, 0..70).prop_map(Value::List), dict]
    })
}

/// What bencode can write of it.
fn without_null_and_floats(value: Value) -> Value {
    match value {
        Value::Null => Value::Int(0),
        Value::Float(_) => Value::from("float"),
        Value::List(items) => Value::List(items.into_iter().map(without_null_and_floats).collect()),
        Value::Dict(entries) => {
            Value::Dict(entries.into_iter().map(|(key, item)| (key, without_null_and_floats(item))).collect())
        }
        other => other,
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(original in any_value()) {
        for encoder in Encoder::ALL {
            let original =
                if encoder == Encoder::Bencode { without_null_and_floats(original.clone()) } else { original.clone() };
            let limits = { let mut limits = Limits::default(); limits.values = usize::MAX; limits };
            let read = encoder.decode(&encoder.encode(&original).unwrap(), &limits).unwrap();
            prop_assert_eq!(as_seen_by(encoder, read), as_seen_by(encoder, original));
        }
    }

    #[test]
    fn every_prefix_of_a_value_is_refused(original in any_value()) {
        for encoder in [Encoder::Rencodeplus, Encoder::Rencode] {
            let written = encoder.encode(&original).unwrap();
            for cut in 0..written.len().min(300) {
                prop_assert!(encoder.decode(&written[..cut], &Limits::default()).is_err());
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused_and_what_is_read_can_be_written(
        payload in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        for encoder in Encoder::ALL {
            if let Ok(value) = decode(encoder, &payload) {
                let written = encoder.encode(&value).unwrap();
                let again = decode(encoder, &written).unwrap();
                prop_assert_eq!(encoder.encode(&again).unwrap(), written);
            }
        }
    }
}
