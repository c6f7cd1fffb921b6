//! Payloads, by each decoder: the first byte chooses the encoder. What is read is written the same way twice.
#![no_main]

use countersign_proto::wire::xpra::{Compression, Encoder, Limits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((choice, payload)) = input.split_first() else { return };
    let limits = Limits::default();
    let compression = match choice >> 4 & 3 {
        0 => Compression::Zlib,
        1 => Compression::Lz4,
        _ => Compression::None,
    };
    let Ok(plain) = compression.inflate(payload, limits.decoded) else { return };
    assert!(plain.len() <= limits.decoded);
    let encoder = Encoder::ALL[usize::from(*choice) % Encoder::ALL.len()];
    let Ok(value) = encoder.decode(&plain, &limits) else { return };
    let written = encoder.encode(&value).expect("what was read can be written");
    let again = encoder.decode(&written, &limits).expect("what was written can be read");
    assert_eq!(encoder.encode(&again).expect("and written again"), written);
});
