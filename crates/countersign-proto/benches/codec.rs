//! How fast packets are read and written: `cargo bench -p countersign-proto --bench codec`.
//!
//! The packets are made here in the shape of real ones: the short hello of `info` (some 30 entries) and
//! the long one of `attach` (48 KiB of icons and some 4,000 values). Each is read and written for half
//! a second in each encoder; shown is the median of nine such rounds.
#![allow(clippy::disallowed_methods, reason = "a bench looks at the clock")]
#![allow(clippy::unwrap_used, reason = "nothing here comes from a peer")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use countersign_proto::wire::xpra::{Caps, Decoder, Encoder, Hello, Kind, Limits, Packet, Value};

fn main() {
    if std::env::args().any(|word| word == "--test") {
        return;
    }
    println!("| packet | encoder | bytes | read, us | read, MB/s | write, us | write, MB/s |");
    println!("|---|---|---|---|---|---|---|");
    for (name, caps) in [("hello of info", short()), ("hello of attach", long())] {
        for encoder in [Encoder::Rencodeplus, Encoder::Rencode, Encoder::Bencode] {
            let items = vec![Value::Dict(caps.entries().to_vec())];
            let packet = Packet::new(encoder, Kind::Hello, items);
            let bytes = packet.encode().unwrap();
            let decoder = Decoder::new(Limits::default());
            let read = median(|| {
                let (packet, _) = decoder.decode(black_box(&bytes)).unwrap().unwrap();
                black_box(Hello::read(packet).unwrap());
            });
            let write = median(|| {
                black_box(black_box(&packet).encode().unwrap());
            });
            let rate = |time: Duration| bytes.len() as f64 / time.as_secs_f64() / 1e6;
            let micros = |time: Duration| time.as_secs_f64() * 1e6;
            println!(
                "| {name} | {} | {} | {:.1} | {:.0} | {:.1} | {:.0} |",
                encoder.name(),
                bytes.len(),
                micros(read),
                rate(read),
                micros(write),
                rate(write)
            );
        }
    }
}

/// The time of one run.
fn median(mut run: impl FnMut()) -> Duration {
    let mut rounds: Vec<Duration> = (0..9)
        .map(|_| {
            let (start, mut runs) = (Instant::now(), 0);
            while start.elapsed() < Duration::from_millis(500) {
                (0..16).for_each(|_| run());
                runs += 16;
            }
            start.elapsed() / runs
        })
        .collect();
    rounds.sort();
    rounds.swap_remove(rounds.len() / 2)
}

fn short() -> Caps {
    let digests = ["hmac+sha512", "hmac+sha384", "hmac+sha256", "hmac+sha224", "xor"];
    let list = || Value::List(digests.iter().map(|&name| name.into()).collect());
    let caps = Caps::default()
        .with("version", "6.5")
        .with("username", "alice")
        .with("uuid", "00112233445566778899aabbccddeeff")
        .with("request", "info")
        .with("digest", list())
        .with("salt-digest", list())
        .with("challenge_response", Value::Bytes(vec![b'a'; 128]))
        .with("challenge_client_salt", Value::Bytes(vec![7; 32]));
    (0..24_i64).fold(caps, |caps, number| caps.with(&format!("capability.{number}"), Value::Int(number * 97)))
}

fn long() -> Caps {
    let icon = |side: i64| {
        Value::List(vec![
            Value::Int(side),
            Value::Int(side),
            "png".into(),
            Value::Bytes(vec![0x5a; 12 << 10]),
        ])
    };
    let keys = (0..650_i64)
        .map(|key| {
            let names = ["a", "A", "ae", "AE"].iter().map(|&name| name.into()).collect();
            Value::List(vec![Value::Int(key), Value::List(names)])
        })
        .collect();
    let icons = Value::List([16, 32, 48, 64].map(icon).to_vec());
    short().with("icons", icons).with("keymap", Value::List(keys))
}
