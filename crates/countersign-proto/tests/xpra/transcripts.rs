//! Every recorded conversation decodes, encodes to the same bytes, and its answers verify.

use countersign_proto::Secret;
use countersign_proto::wire::detect::{Detected, detect};
use countersign_proto::wire::xpra::cipher::{Opener, Parameters, Sealer};
use countersign_proto::wire::xpra::{
    Challenge, Compression, Decoder, Encoder, Header, Hello, Kind, Limits, Packet, Reply, Value, WireError,
};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value as Json;
use sha2::Sha512;

use crate::vectors::{assert_same, bytes, load, value};

const FILES: [&str; 10] = [
    "aes.json",
    "chain.json",
    "refusals.json",
    "requests-unauthenticated.json",
    "scram.json",
    "tcp-file-6.5.5.json",
    "tcp-file-legacy.json",
    "tls.json",
    "users.json",
    "websocket.json",
];

fn each_connection(mut visit: impl FnMut(&str, &Json)) {
    for file in FILES {
        for connection in load(file)["connections"].as_array().unwrap() {
            visit(&format!("{file}, {}", connection["title"]), connection);
        }
    }
}

fn decoder() -> Decoder {
    Decoder::new(Limits::default())
}

/// The bytes of a recorded packet as they would be without encryption; `None` if they were not recorded whole.
fn plain(recorded: &Json) -> Option<Vec<u8>> {
    if recorded["wire_truncated"] == true || recorded["wire"].is_null() {
        return None;
    }
    let wire = bytes(&recorded["wire"]);
    if recorded["cipher"].is_null() {
        return Some(wire);
    }
    let payload = bytes(&recorded["decrypted"]);
    let mut header = wire[..Header::LENGTH].to_vec();
    header[1] &= !0x02;
    Some([header, payload].concat())
}

fn packet(recorded: &Json) -> Packet {
    decoder().decode(&plain(recorded).unwrap()).unwrap().unwrap().0
}

#[test]
fn every_packet_decodes_to_the_recorded_value_and_encodes_to_the_recorded_bytes() {
    let mut seen = 0;
    each_connection(|what, connection| {
        for recorded in connection["packets"].as_array().unwrap() {
            let Some(wire) = plain(recorded) else { continue };
            let what = format!("{what}, packet {}", recorded["n"]);
            let (packet, consumed) = decoder().decode(&wire).unwrap().unwrap();
            assert_eq!(consumed, wire.len(), "{what}");
            assert_eq!(packet.encoder.name(), recorded["encoder"], "{what}");

            let mut items = vec![Value::from(packet.kind.name())];
            items.extend(packet.items.iter().cloned());
            assert_same(packet.encoder, Value::List(items), value(&recorded["value"]), &what);

            let limits = Limits::default();
            let header = Header::read(wire.first_chunk().unwrap(), &limits).unwrap();
            let payload = header.compression.inflate(&wire[Header::LENGTH..], limits.decoded).unwrap();
            let written = packet.encode().unwrap();
            assert!(written[Header::LENGTH..] == payload[..], "{what}: it is written otherwise");
            assert_eq!(decoder().decode(&written).unwrap().unwrap().0, packet, "{what}");
            seen += 1;
        }
    });
    assert!(seen > 120, "{seen} packets");
}

#[test]
fn a_packet_in_another_encoder_says_the_same() {
    each_connection(|what, connection| {
        for recorded in connection["packets"].as_array().unwrap() {
            if plain(recorded).is_none() {
                continue;
            }
            let original = packet(recorded);
            for encoder in Encoder::ALL {
                let written =
                    Packet::new(encoder, original.kind.clone(), original.items.clone()).encode().unwrap();
                let read = decoder().decode(&written).unwrap().unwrap().0;
                let (found, expected) = (Value::List(read.items), Value::List(original.items.clone()));
                // An encoder with one string type takes the same view of both.
                let view = if encoder == Encoder::Rencodeplus { original.encoder } else { encoder };
                assert_same(view, found, expected, what);
            }
        }
    });
}

#[test]
fn the_first_bytes_of_every_conversation_are_detected() {
    each_connection(|what, connection| {
        let first = &connection["packets"][0];
        match first["http"][0].as_str() {
            Some(line) => assert_eq!(detect(line.as_bytes(), false), Detected::Http, "{what}"),
            None => assert_eq!(detect(&bytes(&first["wire"]), false), Detected::Packets, "{what}"),
        }
    });
}

#[test]
fn encrypted_packets_are_refused_by_their_header() {
    let mut seen = 0;
    for connection in load("aes.json")["connections"].as_array().unwrap() {
        for recorded in connection["packets"].as_array().unwrap().iter().filter(|p| !p["cipher"].is_null()) {
            assert_eq!(decoder().decode(&bytes(&recorded["wire"])), Err(WireError::Encrypted));
            seen += 1;
        }
        let hello = Hello::read(packet(&connection["packets"][0])).unwrap();
        let wants = connection["padding_block"].is_number();
        assert_eq!(Parameters::read(hello.caps()).unwrap().is_some(), wants, "{}", connection["title"]);
    }
    assert_eq!(seen, 9);
}

#[test]
fn encrypted_packets_open_to_the_recorded_ones_and_are_sealed_to_the_same_bytes() {
    let mut seen = 0;
    for connection in load("aes.json")["connections"].as_array().unwrap() {
        let packets = connection["packets"].as_array().unwrap();
        for recorded in packets.iter().filter(|packet| !packet["cipher"].is_null()) {
            // No parameters hold for more than one of the packets that were recorded.
            let announced = recorded["cipher"]["parameters_from_packet"].as_u64().unwrap();
            let announced = packet(&packets[usize::try_from(announced).unwrap()]);
            let caps = match announced.kind {
                Kind::Hello => Hello::read(announced).unwrap().caps().clone(),
                _ => Challenge::read(announced).unwrap().caps,
            };
            let parameters = Parameters::read(&caps).unwrap().unwrap();
            let material = Secret::new(connection["secrets"]["aes_key_material"].as_str().unwrap());
            let (mut opener, mut sealer) = (Opener::default(), Sealer::default());
            opener.rekey(&parameters.derive(&material)).unwrap();
            sealer.rekey(&parameters.derive(&material)).unwrap();

            let (wire, mut opened, mut sealed) = (bytes(&recorded["wire"]), Vec::new(), Vec::new());
            assert_eq!(opener.open(&wire, &mut opened), Ok(wire.len()), "{}", connection["title"]);
            assert_eq!(opened, plain(recorded).unwrap());
            sealer.seal(&opened, &mut sealed).unwrap();
            assert_eq!(sealed, wire);
            seen += 1;
        }
    }
    assert_eq!(seen, 9);
}

#[test]
fn a_packet_of_which_the_beginning_is_known_waits_for_the_rest() {
    let mut seen = 0;
    each_connection(|what, connection| {
        for recorded in connection["packets"].as_array().unwrap() {
            if recorded["wire_truncated"] == true {
                assert_eq!(decoder().decode(&bytes(&recorded["wire"])), Ok(None), "{what}");
                seen += 1;
            }
        }
    });
    assert!(seen >= 6, "{seen}");
}

#[test]
fn plain_text_refusals_are_read_by_the_client_alone() {
    let mut seen = 0;
    each_connection(|what, connection| {
        for recorded in connection["packets"].as_array().unwrap() {
            let Some(text) = recorded["raw_text"].as_str() else { continue };
            let raw = bytes(&recorded["raw"]);
            let (reply, consumed) = decoder().decode_reply(&raw).unwrap().unwrap();
            let reason = text.trim_start_matches("disconnect").trim_start_matches(':').trim();
            assert_eq!((reply, consumed), (Reply::PlainText(reason.to_owned()), raw.len()), "{what}");
            assert_eq!(decoder().decode(&raw), Err(WireError::Magic), "{what}");
            seen += 1;
        }
    });
    assert_eq!(seen, 2);
}

#[test]
fn recorded_answers_verify() {
    let (mut proofs, mut messages) = (0, 0);
    each_connection(|what, connection| {
        for pair in connection["challenges"].as_array().unwrap_or(&Vec::new()) {
            let recorded = |n: &Json| &connection["packets"][usize::try_from(n.as_u64().unwrap()).unwrap()];
            let asked = &recorded(&pair["challenge_packet"]);
            let answered = &recorded(&pair["response_packet"]);
            let challenge = if plain(asked).is_some() {
                Challenge::read(packet(asked)).unwrap()
            } else {
                panic!("{what}: a challenge was not recorded whole")
            };
            assert_eq!(challenge.digest, pair["digest"], "{what}");
            if plain(answered).is_none() {
                continue;
            }
            let response = Hello::read(packet(answered)).unwrap().response.unwrap();
            if let Some(text) = pair["response_text"].as_str() {
                assert_eq!(response.value.expose(), text.as_bytes(), "{what}");
                messages += 1;
                continue;
            }
            assert_eq!(challenge.salt, bytes(&pair["server_salt"]), "{what}");
            assert_eq!(challenge.salt_digest.as_deref(), pair["salt_digest"].as_str(), "{what}");
            let secret = pair["secret_utf8"].as_str().unwrap().as_bytes();
            let combined = hmac(&response.client_salt, &challenge.salt);
            let expected = match &*challenge.digest {
                "hmac+sha512" => hmac(secret, combined.as_bytes()).into_bytes(),
                "xor" => secret.iter().zip(combined.bytes()).map(|(a, b)| a ^ b).collect(),
                other => panic!("{what}: {other}"),
            };
            assert_eq!(response.value.expose(), expected, "{what}");
            proofs += 1;
        }
    });
    assert!(proofs >= 25 && messages >= 6, "{proofs} proofs, {messages} messages");
}

fn hmac(key: &[u8], message: &[u8]) -> String {
    let mut mac = Hmac::<Sha512>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_legacy_server_answers_with_the_alias_that_its_client_announced() {
    let first = packet(&load("tcp-file-legacy.json")["connections"][0]["packets"][0]);
    let aliases = first.items[0].find("aliases").unwrap().clone();
    let answer = b"P\x01\0\0\0\0\0\x03\xc2\x01\x66";
    let decoder = decoder();
    assert_eq!(decoder.decode(answer), Err(WireError::UnknownAlias));
    let decoder = decoder.with_aliases(aliases);
    assert_eq!(decoder.decode(answer).unwrap().unwrap().0.kind, Kind::Hello);
    assert_eq!(decoder.decode(b"P\x01\0\0\0\0\0\x02\xc1\x11").unwrap().unwrap().0.kind, Kind::Disconnect);
    assert_eq!(decoder.decode(b"P\x01\0\0\0\0\0\x02\xc1\x00"), Err(WireError::UnknownAlias));
}

#[test]
fn the_clients_of_the_recordings_compress_as_they_did() {
    let level = |file: &str| {
        let wire = bytes(&load(file)["connections"][0]["packets"][0]["wire"]);
        Header::read(wire.first_chunk().unwrap(), &Limits::default()).unwrap().compression
    };
    assert_eq!(level("tcp-file-legacy.json"), Compression::Zlib);
    assert_eq!(level("tcp-file-6.5.5.json"), Compression::Lz4);
}

/// An honest conversation with its bytes changed is read or refused, never a panic.
#[test]
fn s_020_changed_packets_are_read_or_refused() {
    for file in ["tcp-file-6.5.5.json", "tcp-file-legacy.json"] {
        for recorded in load(file)["connections"][0]["packets"].as_array().unwrap() {
            let Some(wire) = plain(recorded) else { continue };
            for at in 0..wire.len() {
                for change in [0x01, 0x80, 0xff] {
                    let mut changed = wire.clone();
                    changed[at] ^= change;
                    if let Ok(Some((packet, consumed))) = decoder().decode(&changed) {
                        assert!(consumed <= changed.len());
                        let _ = Hello::read(packet.clone())
                            .map(|hello| hello.forwarded(Encoder::Bencode).encode());
                        let _ = Challenge::read(packet);
                    }
                }
            }
        }
    }
}
