//! The messages of Multipass's front door against what protobuf's own writer made of them, and noise.

use std::path::Path;

use countersign_proto::{
    Secret,
    wire::multipass::{
        AuthenticateReply, AuthenticateRequest, Frames, GetReply, GetRequest, Message, SetReply, SetRequest,
        Status, framed, read_timeout,
    },
};
use proptest::prelude::*;
use serde_json::Value as Json;

#[test]
fn messages_are_what_protobuf_writes() {
    let vectors = load("messages.json");
    let cases = vectors.as_array().unwrap();
    assert_eq!(cases.len(), 10);
    for case in cases {
        let bytes = from_hex(case["hex"].as_str().unwrap());
        let written = match case["message"].as_str().unwrap() {
            "AuthenticateRequest" => again(&bytes, |request: &AuthenticateRequest| {
                assert!(request.passphrase.matches(text(case, "passphrase").as_bytes()));
                assert_eq!(i64::from(request.verbosity_level), number(case, "verbosity_level"));
            }),
            "AuthenticateReply" => again(&bytes, |reply: &AuthenticateReply| {
                assert_eq!(reply.log_line, text(case, "log_line"));
            }),
            "GetRequest" => again(&bytes, |request: &GetRequest| assert_eq!(request.key, text(case, "key"))),
            "GetReply" => again(&bytes, |reply: &GetReply| assert_eq!(reply.value, text(case, "value"))),
            "SetRequest" => again(&bytes, |request: &SetRequest| {
                assert_eq!(request.key, text(case, "key"));
                assert!(request.val.matches(text(case, "val").as_bytes()));
                assert_eq!(i64::from(request.verbosity_level), number(case, "verbosity_level"));
            }),
            "SetReply" => again(&bytes, |reply: &SetReply| {
                assert_eq!(reply.reply_message, text(case, "reply_message"));
                assert_eq!(reply.needs_authorization, case["fields"]["needs_authorization"] == true);
            }),
            other => panic!("{other}: not a message of ours"),
        };
        assert!(written.matches(&bytes), "{case}");
    }
}

#[test]
fn what_is_framed_is_read_whatever_the_cuts() {
    let request = framed(&SetRequest::new("local.passphrase", Secret::new("foo")));
    for step in 1..=request.expose().len() {
        let (mut frames, mut found) = (Frames::new(), None);
        for mut piece in request.expose().chunks(step) {
            found = frames.read(&mut piece).unwrap();
        }
        let read = SetRequest::decode(found.unwrap().expose()).unwrap();
        assert!(read.val.matches(b"foo") && read.key == "local.passphrase");
    }
}

proptest! {
    // S-20: noise is read or refused.
    #[test]
    fn s_020_noise_never_panics(input in proptest::collection::vec(any::<u8>(), 0..256)) {
        let mut rest = input.as_slice();
        let mut frames = Frames::new();
        while let Ok(Some(message)) = frames.read(&mut rest) {
            let _ = AuthenticateRequest::decode(message.expose());
        }
        let _ = SetRequest::decode(&input);
        let _ = SetReply::decode(&input);
        let _ = read_timeout(&input);
        let _ = Status::read(&input, &input).to_string();
    }

    #[test]
    fn a_status_text_survives_its_header(text in "\\PC*[\\x00-\\x20%]*") {
        let status = Status::new(countersign_proto::wire::multipass::Code::Unknown, text);
        let encoded = status.encoded_message();
        prop_assert!(encoded.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        prop_assert_eq!(Status::read(b"2", encoded.as_bytes()), status);
    }

    #[test]
    fn numbers_keep_their_sign(level in any::<i32>()) {
        let mut request = GetRequest::new("key");
        request.verbosity_level = level;
        prop_assert_eq!(GetRequest::decode(request.encode().expose()).unwrap(), request);
    }
}

/// Reads a message, lets `look` compare it, and writes it again.
fn again<M: Message>(bytes: &[u8], look: impl FnOnce(&M)) -> Secret {
    let message = M::decode(bytes).unwrap();
    look(&message);
    message.encode()
}

fn text<'a>(case: &'a Json, field: &str) -> &'a str {
    case["fields"][field].as_str().unwrap_or_default()
}

fn number(case: &Json, field: &str) -> i64 {
    case["fields"][field].as_i64().unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "the rules read no files, their tests read the vectors")]
fn load(file: &str) -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/multipass").join(file);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn from_hex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}
