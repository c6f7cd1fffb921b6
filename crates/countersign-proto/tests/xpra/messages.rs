//! The messages of a login, both ways: S-13, S-14, and what a hello may carry on to a backend.

use countersign_proto::chain::{CheckPeer, Exchange, OpenExchange};
use countersign_proto::challenge::Response;
use countersign_proto::wire::xpra::cipher::Parameters;
use countersign_proto::wire::xpra::{
    Caps, Challenge, ClientHello, Decoder, Disconnect, Encoder, Fault, Hello, Kind, Limits, Packet,
    ServerHello, Value, WireError,
};
use countersign_proto::{Chain, Claim, Identity, Link, Peer, Refusal, Secret, Verifier};

use crate::vectors::{bytes, load};

fn over_the_wire(packet: &Packet) -> Packet {
    let written = packet.encode().unwrap();
    let (read, consumed) = Decoder::new(Limits::default()).decode(&written).unwrap().unwrap();
    assert_eq!(consumed, written.len());
    read
}

fn recorded(file: &str, connection: usize, packet: usize) -> Packet {
    let wire = bytes(&load(file)["connections"][connection]["packets"][packet]["wire"]);
    Decoder::new(Limits::default()).decode(&wire).unwrap().unwrap().0
}

fn hello(entries: Vec<(&str, Value)>) -> Result<Hello, WireError> {
    let entries = entries.into_iter().map(|(name, value)| (name.into(), value)).collect();
    Hello::read(Packet::new(Encoder::Rencodeplus, Kind::Hello, vec![Value::Dict(entries)]))
}

fn texts(count: usize) -> Value {
    Value::List(vec!["x".into(); count])
}

#[test]
fn the_hello_of_a_modern_client_is_understood() {
    let hello = Hello::read(recorded("tcp-file-6.5.5.json", 0, 0)).unwrap();
    assert_eq!(hello.encoder, Encoder::Rencodeplus);
    assert_eq!((hello.username.as_deref(), hello.version.as_deref()), (Some("alice"), Some("6.5")));
    assert!(hello.digests.contains(&"hmac+sha512".to_owned()) && hello.digests.contains(&"xor".to_owned()));
    assert_eq!(hello.salt_digests.first().map(String::as_str), Some("hmac+sha512"));
    assert!(
        hello.expects_challenge && hello.response.is_none() && Parameters::read(hello.caps()) == Ok(None)
    );
    assert_eq!(hello.requests, ["info"]);
    assert_eq!(hello.encoders, [Encoder::Rencodeplus], "`{{\"\": true}}` is a true");
    assert!(hello.session_id.is_some() && hello.uuid.is_some());
    assert_eq!(hello.compression_level, None);

    let second = Hello::read(recorded("tcp-file-6.5.5.json", 0, 2)).unwrap();
    let response = second.response.unwrap();
    assert_eq!((response.value.expose().len(), response.client_salt.len()), (128, 32));
    assert!(!second.expects_challenge);
}

#[test]
fn the_hello_of_a_legacy_client_is_understood() {
    let hello = Hello::read(recorded("tcp-file-legacy.json", 0, 0)).unwrap();
    assert_eq!(hello.encoder, Encoder::Rencode);
    assert_eq!((hello.username.as_deref(), hello.version.as_deref()), (Some("alice"), Some("3.1.3")));
    assert_eq!((hello.hostname.as_deref(), hello.name.as_deref()), (Some("daemonhost"), Some("Alice")));
    assert_eq!(hello.requests, ["id", "info"], "it asks in both forms, and for two things");
    assert!(hello.requests("info") && !hello.requests("version"));
    assert_eq!(hello.encoders, [Encoder::Rencode, Encoder::Bencode]);
    assert_eq!(hello.compression_level, Some(1));
    assert_eq!(hello.caps().find("zlib.version").and_then(Value::to_text).as_deref(), Some("1.0"));
}

#[test]
fn a_name_is_found_flat_and_nested() {
    let nested = Value::Dict(vec![("".into(), Value::Bool(true)), ("version".into(), "1.9".into())]);
    let caps =
        Caps::default().with("lz4", nested).with("zlib", Value::Bool(true)).with("zlib.version", "1.0");
    let version = |name| caps.text(name, 255).unwrap();
    assert_eq!(version("lz4.version").as_deref(), Some("1.9"));
    assert_eq!(version("zlib.version").as_deref(), Some("1.0"));
    assert_eq!(version("none.version"), None);
    assert_eq!((caps.flag("lz4"), caps.flag("zlib"), caps.flag("none")), (Ok(true), Ok(true), Ok(false)));
    let nested = hello(vec![("display", Value::Dict(vec![("vrefresh".into(), Value::Int(60))]))]).unwrap();
    assert_eq!(nested.display, None, "modern clients describe their screen under this name");
}

#[test]
fn s_013_each_field_has_a_type() {
    let wrong = [
        ("username", Value::Int(1)),
        ("username", Value::List(Vec::new())),
        ("username", Value::Dict(vec![("".into(), "alice".into())])),
        ("username", Value::Bytes(vec![b'a', 0xe9])),
        ("version", Value::Float(6.5)),
        ("uuid", Value::Bool(true)),
        ("display", Value::Int(10)),
        ("digest", "hmac+sha512".into()),
        ("digest", Value::List(vec![Value::Int(1)])),
        ("salt-digest", Value::Dict(Vec::new())),
        ("challenge", "yes".into()),
        ("challenge", Value::Int(2)),
        ("challenge_response", Value::Int(0)),
        ("challenge_response", Value::List(Vec::new())),
        ("challenge_client_salt", Value::Bool(false)),
        ("request", Value::List(Vec::new())),
        ("encoders", "rencode".into()),
        ("rencode", "true".into()),
        ("compression_level", "1".into()),
    ];
    for (name, value) in wrong {
        assert_eq!(hello(vec![(name, value)]).err(), Some(WireError::Field(name, Fault::Type)), "{name}");
    }
    for items in [vec![], vec!["text".into()], vec![Value::List(Vec::new())], vec![Value::Null]] {
        let packet = Packet::new(Encoder::Rencodeplus, Kind::Hello, items);
        assert_eq!(Hello::read(packet).err(), Some(WireError::Field("hello", Fault::Type)));
    }
}

#[test]
fn s_013_each_field_has_a_size() {
    let text = |length: usize| Value::Text("é".repeat(length / 2) + if length % 2 == 1 { "e" } else { "" });
    for name in [
        "username",
        "version",
        "uuid",
        "display",
        "session-id",
        "session-name",
        "hostname",
        "name",
        "request",
    ] {
        assert!(hello(vec![(name, text(255))]).is_ok(), "{name}");
        assert_eq!(hello(vec![(name, text(256))]).err(), Some(WireError::Field(name, Fault::Size)), "{name}");
    }
    for name in ["digest", "salt-digest", "encoders"] {
        assert!(hello(vec![(name, texts(64))]).is_ok(), "{name}");
        assert_eq!(hello(vec![(name, texts(65))]).err(), Some(WireError::Field(name, Fault::Size)), "{name}");
        let long = Value::List(vec![text(256)]);
        assert_eq!(hello(vec![(name, long)]).err(), Some(WireError::Field(name, Fault::Size)), "{name}");
    }
    // A response may be a token, which the conversation judges, for it knows what was asked.
    for (name, longest) in [("challenge_response", 16 * 1024), ("challenge_client_salt", 4096)] {
        assert!(hello(vec![(name, Value::Bytes(vec![0; longest]))]).is_ok(), "{name}");
        let long = Value::Bytes(vec![0; longest + 1]);
        assert_eq!(hello(vec![(name, long)]).err(), Some(WireError::Field(name, Fault::Size)), "{name}");
    }
}

#[test]
fn s_014_any_other_packet_is_no_hello() {
    for kind in [Kind::Challenge, Kind::Disconnect, Kind::Other("ping".to_owned())] {
        let packet = Packet::new(Encoder::Rencode, kind, vec![Value::Dict(Vec::new())]);
        assert_eq!(Hello::read(packet.clone()).err(), Some(WireError::OtherPacket));
        assert_eq!(ServerHello::read(packet), Err(WireError::OtherPacket));
    }
    let hello = Packet::new(Encoder::Rencode, Kind::Hello, vec![Value::Dict(Vec::new())]);
    assert_eq!(Challenge::read(hello.clone()), Err(WireError::OtherPacket));
    assert_eq!(Disconnect::read(&hello), Err(WireError::OtherPacket));
}

#[test]
fn s_014_requests_are_seen_in_every_form() {
    let asked = |entries| hello(entries).unwrap().requests;
    assert!(asked(vec![]).is_empty());
    assert_eq!(asked(vec![("request", "version".into())]), ["version"]);
    assert_eq!(asked(vec![("version_request", Value::Bool(true))]), ["version"]);
    assert_eq!(asked(vec![("version_request", Value::Int(1))]), ["version"]);
    assert_eq!(
        asked(vec![("request", "version".into()), ("version_request", Value::Bool(true))]),
        ["version"]
    );
    assert_eq!(asked(vec![("connect_test_request", "echo".into())]), ["connect_test"]);
    assert!(asked(vec![("stop_request", Value::Bool(false)), ("request", "".into())]).is_empty());
    assert_eq!(asked(vec![("stop_request", Value::Int(7))]), ["stop"], "what is not false asks");
    assert_eq!(Hello::read(recorded("requests-unauthenticated.json", 0, 0)).unwrap().requests, ["version"]);
    assert_eq!(
        Hello::read(recorded("requests-unauthenticated.json", 2, 0)).unwrap().requests,
        ["connect_test"]
    );
}

#[test]
fn a_forwarded_hello_keeps_everything_but_credentials_command_line_and_aliases() {
    for (file, number) in [("tcp-file-6.5.5.json", 2), ("tcp-file-legacy.json", 2)] {
        let original = recorded(file, 0, number);
        let Value::Dict(entries) = original.items[0].clone() else { panic!("{file}: no dictionary") };
        let hello = Hello::read(original.clone()).unwrap();
        for encoder in Encoder::ALL {
            let passed = over_the_wire(&hello.forwarded(encoder));
            assert_eq!((passed.encoder, &passed.kind, passed.items.len()), (encoder, &Kind::Hello, 1));
            let Value::Dict(kept) = &passed.items[0] else { panic!("{file}: no dictionary") };
            let names: Vec<_> = kept.iter().map(|(key, _)| key.to_text().unwrap()).collect();
            let expected: Vec<_> = entries
                .iter()
                .map(|(key, _)| key.to_text().unwrap())
                .filter(|key| !key.starts_with("challenge") && key != "argv" && key != "aliases")
                .collect();
            assert_eq!(names, expected, "{file} in {}", encoder.name());
            assert!(names.len() < entries.len());
        }
    }
}

#[test]
fn what_a_chain_takes_from_a_hello_as_a_credential_is_not_forwarded_in_any_form() {
    let links = [("oauth.token", true), ("front-door", false)];
    let token = |text: &str| Value::Dict(vec![("token".into(), text.into()), ("kind".into(), "kept".into())]);
    let said = |entries: Vec<(Value, Value)>| {
        let packet = Packet::new(Encoder::Rencodeplus, Kind::Hello, vec![Value::Dict(entries)]);
        let mut hello = Hello::read(packet).unwrap();
        let chain = chain_that_reads(links);
        let said: Vec<_> = chain.capabilities().map(|wanted| hello.said(wanted)).collect();
        let forwarded = hello.forwarded(Encoder::Rencodeplus).encode().unwrap();
        (said, String::from_utf8_lossy(&forwarded).into_owned())
    };
    let (both, forwarded) = said(vec![
        ("oauth.token".into(), "flat".into()),
        ("oauth".into(), token("nested")),
        ("front-door".into(), Value::Int(7)),
    ]);
    let [Some(credential), Some(fact)] = &both[..] else { panic!("{both:?}") };
    assert!(credential.matches(b"flat") && fact.matches(b"7"));
    assert!(!forwarded.contains("flat") && !forwarded.contains("nested"), "{forwarded}");
    assert!(forwarded.contains("kept") && forwarded.contains("front-door"), "{forwarded}");
    let (odd, forwarded) = said(vec![("oauth.token".into(), Value::List(vec!["hidden".into()]))]);
    assert!(odd.iter().all(Option::is_none) && !forwarded.contains("hidden"));
    let (long, _) = said(vec![("front-door".into(), Value::from("x".repeat(4096).as_str()))]);
    assert!(long[1].is_some());
    let (long, _) = said(vec![("oauth.token".into(), Value::from("x".repeat(4097).as_str()))]);
    assert!(long[0].is_none(), "longer than 4 KiB");
}

/// A chain whose links look at these capabilities, as credentials or as facts.
fn chain_that_reads(names: [(&str, bool); 2]) -> Chain {
    struct Reads([String; 1]);
    impl CheckPeer for Reads {
        fn check(&self, _: &Peer, _: &Claim) -> Result<Option<Identity>, Refusal> {
            Ok(None)
        }
        fn reads(&self) -> &[String] {
            &self.0
        }
    }
    impl OpenExchange for Reads {
        fn open(&self, _: &Peer, _: &Claim) -> Result<Box<dyn Exchange>, Refusal> {
            Err(Refusal::unknown_user())
        }
        fn takes(&self) -> &[String] {
            &self.0
        }
    }
    let link = |(name, credential): (&str, bool)| {
        let reads = Box::new(Reads([name.to_owned()]));
        Link::new("reads", if credential { Verifier::Exchange(reads) } else { Verifier::Peer(reads) })
    };
    Chain::new(names.map(link).into()).unwrap()
}

#[test]
fn credentials_are_withheld_whatever_the_type_of_their_key() {
    let entries =
        ["challenge", "challenge_response", "challenge_padding", "challenge-more", "argv", "aliases", "kept"]
            .map(|name| (Value::Bytes(name.into()), Value::Null));
    let packet = Packet::new(Encoder::Rencodeplus, Kind::Hello, vec![Value::Dict(entries.to_vec())]);
    let kept = Hello::read(packet).unwrap().caps().entries().to_vec();
    assert_eq!(kept, [(Value::Bytes(b"kept".to_vec()), Value::Null)]);
}

#[test]
fn s_088_debug_of_messages_shows_no_credentials() {
    let packet = recorded("tls.json", 1, 2);
    let hello = Hello::read(packet.clone()).unwrap();
    let response = hello.response.as_ref().unwrap().value.expose();
    let as_list = format!("{:?}", &response[..4]);
    let as_text = String::from_utf8_lossy(&response[..4]);
    for shown in [format!("{packet:?}"), format!("{hello:?}"), format!("{:?}", hello.response)] {
        assert!(!shown.contains(as_list.trim_matches(['[', ']'])) && !shown.contains(&*as_text), "{shown}");
    }
}

#[test]
fn our_client_hello_is_read_in_every_encoder() {
    let mut ours = ClientHello {
        version: "6.5".to_owned(),
        username: "zoë".to_owned(),
        uuid: "0123".to_owned(),
        digests: vec!["hmac+sha512".to_owned(), "hmac+sha256".to_owned()],
        salt_digests: vec!["hmac+sha512".to_owned()],
        request: Some("info".to_owned()),
        display: Some(":10".to_owned()),
        expects_challenge: true,
        ..ClientHello::default()
    };
    for encoder in Encoder::ALL {
        let hello = Hello::read(over_the_wire(&ours.packet(encoder))).unwrap();
        assert_eq!((hello.username.as_deref(), hello.uuid.as_deref()), (Some("zoë"), Some("0123")));
        assert_eq!((&hello.digests, &hello.salt_digests), (&ours.digests, &ours.salt_digests));
        assert_eq!((hello.requests, hello.display.as_deref()), (vec!["info".to_owned()], Some(":10")));
        assert_eq!((hello.encoders, hello.compression_level), (vec![encoder], Some(0)));
        assert!(hello.expects_challenge && hello.response.is_none());
    }
    ours.expects_challenge = false;
    ours.response = Some(Response::new(Secret::new([0, 0xff, b'a']), vec![0xfe; 32]));
    ours.padding = vec![0x80; ClientHello::padding(3)];
    for encoder in Encoder::ALL {
        let hello = Hello::read(over_the_wire(&ours.packet(encoder))).unwrap();
        let response = hello.response.unwrap();
        assert!(response.value.matches(&[0, 0xff, b'a']) && response.client_salt == [0xfe; 32]);
        assert!(!hello.expects_challenge);
    }
    assert_eq!((ClientHello::padding(3), ClientHello::padding(500)), (509, 32));
}

#[test]
fn challenges_are_read_as_recorded_and_as_written() {
    let modern = Challenge::read(recorded("tcp-file-6.5.5.json", 0, 1)).unwrap();
    assert_eq!((modern.salt.len(), &*modern.digest), (64, "hmac+sha512"));
    assert_eq!(modern.salt_digest.as_deref(), Some("hmac+sha512"));
    assert_eq!(modern.prompt.as_deref(), Some("password for user 'alice'"));
    let legacy = Challenge::read(recorded("tcp-file-legacy.json", 0, 1)).unwrap();
    assert_eq!((legacy.caps, legacy.prompt.as_deref()), (Caps::default(), Some("password")));
    for encoder in Encoder::ALL {
        assert_eq!(Challenge::read(over_the_wire(&modern.packet(encoder))).unwrap(), modern);
    }
    let oldest = Challenge { salt_digest: None, prompt: None, ..modern };
    let read = Challenge::read(over_the_wire(&oldest.packet(Encoder::Rencode))).unwrap();
    assert_eq!((read.salt_digest, read.prompt), (None, None));
}

#[test]
fn malformed_challenges_are_refused() {
    let read = |items| Challenge::read(Packet::new(Encoder::Rencodeplus, Kind::Challenge, items));
    let (salt, caps, digest) =
        (Value::Bytes(vec![7; 64]), Value::Dict(Vec::new()), Value::from("hmac+sha512"));
    let wrong = |name, fault| Err(WireError::Field(name, fault));
    assert_eq!(read(vec![]), wrong("salt", Fault::Missing));
    assert_eq!(read(vec![Value::Int(1)]), wrong("salt", Fault::Type));
    assert_eq!(read(vec![Value::Bytes(vec![0; 4097])]), wrong("salt", Fault::Size));
    assert_eq!(read(vec![salt.clone(), Value::Int(1)]), wrong("caps", Fault::Type));
    assert_eq!(read(vec![salt.clone(), caps.clone()]), wrong("digest", Fault::Missing));
    assert_eq!(read(vec![salt.clone(), caps.clone(), Value::Null]), wrong("digest", Fault::Type));
    assert_eq!(
        read(vec![salt.clone(), caps.clone(), digest.clone(), caps.clone()]),
        wrong("salt-digest", Fault::Type)
    );
    let long = Value::Text("p".repeat(1025));
    assert_eq!(read(vec![salt, caps, digest.clone(), digest, long]), wrong("prompt", Fault::Size));
}

#[test]
fn disconnects_are_read_as_recorded_and_as_written() {
    let refused = Disconnect::read(&recorded("refusals.json", 0, 3)).unwrap();
    assert!(refused.is_authentication_failure());
    for encoder in Encoder::ALL {
        let ours = Disconnect::new(Disconnect::AUTHENTICATION_FAILED).packet(encoder);
        assert_eq!(Disconnect::read(&over_the_wire(&ours)).unwrap(), refused);
    }
    assert!(!Disconnect::new("authentication error").is_authentication_failure());
    let odd = vec![Value::Null, "\x1b[2Jgone\n".into(), Value::Int(3), Value::Text("é".repeat(5000))];
    let odd = Disconnect::read(&Packet::new(Encoder::Rencode, Kind::Disconnect, odd)).unwrap();
    assert_eq!(odd.reasons.first().map(String::as_str), Some("[2Jgone"));
    assert!(odd.reasons.len() == 2 && odd.reasons[1].len() <= 1024);
    let other_name = Decoder::new(Limits::default()).decode(b"P\x10\0\0\0\0\0\x12\xc1\x90connection-close");
    assert_eq!(other_name.unwrap().unwrap().0.kind, Kind::Disconnect);
}

#[test]
fn server_hellos_are_read_as_recorded_and_as_written() {
    let version = ServerHello::read(recorded("requests-unauthenticated.json", 0, 1)).unwrap();
    assert_eq!(version, ServerHello::with_version("6.5.5-r0"));
    let id = ServerHello::read(recorded("requests-unauthenticated.json", 1, 1)).unwrap();
    assert_eq!(id.version.as_deref(), Some("6.5"), "written as a list of numbers");
    for encoder in Encoder::ALL {
        assert_eq!(ServerHello::read(over_the_wire(&version.packet(encoder))).unwrap(), version);
    }
    let caps = Caps::default().with("version", Value::Bool(true));
    assert_eq!(ServerHello::with_caps(caps), Err(WireError::Field("version", Fault::Type)));
}

#[test]
fn reasons_are_stable_and_tell_nothing_of_the_payload() {
    let error = hello(vec![("username", Value::Int(1))]).unwrap_err();
    assert_eq!(
        (error.reason(), error.to_string()),
        ("xpra-field-type", "field `username`: it has the wrong type".into())
    );
    assert_eq!(WireError::RawChunk.reason(), "xpra-raw-chunk");
}
