//! Messages of SCRAM, as each end reads them, and keys as text: whoever does not know the password never comes to an
//! end that the other takes for right, on whichever channel.
#![no_main]

use countersign_proto::{
    Secret,
    mechanism::{
        Hash,
        scram::{ClientFirst, Greeting, ITERATIONS, Keys, Variant},
    },
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((choice, message)) = input.split_first() else { return };
    let variant = Variant::STRONGEST_FIRST[usize::from(choice & 3)];
    let binding = (choice & 4 != 0).then_some(&b"exported by TLS"[..]);
    if let Ok(text) = std::str::from_utf8(message) {
        keys(text);
    }
    server(variant, binding, message);
    client(variant, binding, message);
});

fn keys(text: &str) {
    if let Ok(keys) = text.parse::<Keys>() {
        assert!(ITERATIONS.contains(&keys.iterations()));
        let written = keys.to_text();
        assert_eq!(written.parse::<Keys>().expect("what was written can be read").to_text(), written);
    }
}

/// Both messages of a client, a line each.
fn server(variant: Variant, binding: Option<&[u8]>, messages: &[u8]) {
    let end = messages.iter().position(|byte| *byte == b'\n').unwrap_or(messages.len());
    let (first, last) = messages.split_at(end);
    let Ok(greeting) = Greeting::read(variant, binding, first) else { return };
    let keys = Keys::decoy(variant.hash(), &Secret::new("key"), greeting.name(), 16, 4096);
    let (server_first, pending) = greeting.answer(&[7; 24], keys).expect("the keys are for this hash");
    assert!(server_first.is_ascii());
    assert!(pending.judge(last.get(1..).unwrap_or_default()).is_err(), "nobody has these keys");
}

/// Both messages of a server, a line each; where they leave the nonce to us, ours stands there.
fn client(variant: Variant, binding: Option<&[u8]>, messages: &[u8]) {
    let Ok(client) = ClientFirst::new(variant, "alice", &[7; 24], binding) else {
        assert!(variant.is_bound() && binding.is_none());
        return;
    };
    let first = String::from_utf8(client.message()).expect("text");
    let nonce = first.rsplit("r=").next().unwrap_or_default();
    let messages = String::from_utf8_lossy(messages).replace("NONCE", nonce);
    let (server_first, server_final) = messages.split_once('\n').unwrap_or((&messages, ""));
    // Iterations are time, which says nothing here.
    if iterations(server_first).is_some_and(|count| count > 5000) {
        return;
    }
    let Ok((proof, expected)) = client.prove(server_first.as_bytes(), &Secret::new("pencil")) else { return };
    assert!(proof.is_ascii());
    assert!(expected.confirm(server_final.as_bytes()).is_err(), "nobody guesses a signature");
    assert_ne!(variant.hash(), Hash::Sha224);
}

fn iterations(server_first: &str) -> Option<u64> {
    server_first.split(',').find_map(|part| part.strip_prefix("i="))?.parse().ok()
}
