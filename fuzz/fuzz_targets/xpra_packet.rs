//! Bytes of a stream, as a gateway and as a client read them: whatever decodes is read as every message, and can be
//! written and read again.
#![no_main]

use countersign_proto::wire::xpra::{
    Challenge, Decoder, Disconnect, Encoder, Hello, Limits, Packet, Reply, ServerHello,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let decoder = Decoder::new(Limits::default());
    if let Ok(Some((reply, consumed))) = decoder.decode_reply(input) {
        assert!(consumed > 0 && consumed <= input.len());
        match reply {
            Reply::Packet(packet) => every_message(&decoder, packet),
            other => assert!(!format!("{other:?}").is_empty()),
        }
    }
});

fn every_message(decoder: &Decoder, packet: Packet) {
    let written = packet.encode().expect("what was read in an encoder can be written in it");
    if let Ok(Some((again, consumed))) = decoder.decode(&written) {
        assert_eq!(consumed, written.len());
        assert_eq!(again.kind, packet.kind);
    }
    let _ = Disconnect::read(&packet);
    let _ = ServerHello::read(packet.clone());
    if let Ok(challenge) = Challenge::read(packet.clone()) {
        let _ = challenge.packet(Encoder::Bencode).encode();
    }
    if let Ok(hello) = Hello::read(packet) {
        let forwarded =
            hello.forwarded(Encoder::Rencodeplus).encode().expect("rencodeplus writes every value");
        for withheld in [&b"challenge"[..], b"argv", b"aliases"] {
            assert!(hello.caps().entries().iter().all(|(key, _)| key.as_bytes() != Some(withheld)));
        }
        // What was just within a limit may grow beyond it in another encoder.
        let mut limits = Limits::default();
        (limits.wire, limits.decoded) = (usize::MAX, usize::MAX);
        let (passed, _) = Decoder::new(limits).decode(&forwarded).expect("well-formed").expect("whole");
        let passed = Hello::read(passed).expect("what was a hello is one");
        assert!(passed.response.is_none() && !passed.expects_challenge);
    }
}
