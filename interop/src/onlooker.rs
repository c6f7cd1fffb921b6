//! Everything that a gateway sends in a login, and when: what is left for somebody who wants to know of names whether
//! they are known.

use std::{
    io::{Read, Write},
    os::unix::net::UnixListener,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{
    PATIENCE, Place,
    net::dial_unix,
    process::Finished,
    wire::{self, Received, Value, hello, honest, send, texts, with, without},
};

/// What the gateway sent, in order.
#[derive(Debug)]
pub struct Seen {
    /// Each of its answers.
    pub answers: Vec<Answer>,
}

/// A packet of the gateway, or the end of the connection.
#[derive(Debug)]
pub struct Answer {
    /// All of it, with its size; what is of chance in every login is told by its size alone, and the name by `NAME`.
    pub text: String,
    /// How long after the client's last word it came.
    pub took: Duration,
}

/// A login of our own bytes, which answers every question for a password with `secret`.
pub fn log_in(stream: &mut (impl Read + Write), name: &str, secret: &[u8]) -> Seen {
    let salt = *b"thirty-two bytes of client salt!";
    let caps = with(honest(name), "digest", texts(&["hmac+sha512", "xor"]));
    let mut seen = Seen { answers: Vec::new() };
    let mut message = hello(caps.clone());
    loop {
        send(stream, &message);
        let Some(packet) = seen.hear(stream, name) else { return seen };
        message = match wire::read(&mut &packet[..]) {
            Received::Packet(kind, items) if kind == "challenge" => {
                let challenge = Received::Packet(kind, items).challenge();
                let response = wire::answer(&challenge, &salt, secret);
                let caps =
                    with(without(caps.clone(), "challenge"), "challenge_response", response[..].into());
                hello(with(caps, "challenge_client_salt", Value::from(&salt[..])))
            }
            _ => Vec::new(),
        };
    }
}

/// A login of a client that `run` runs: it is given the socket to go to, where we listen and pass on to `gateway`.
pub fn listen_in(gateway: &Path, name: &str, run: impl FnOnce(&str) -> Finished + Send) -> (Seen, Finished) {
    let place = Place::new();
    let listener = UnixListener::bind(place.path("between")).expect("a socket in an own folder");
    thread::scope(|scope| {
        let client = scope.spawn(|| run(&place.text("between")));
        let (mut client_end, _) = listener.accept().expect("the client comes");
        client_end.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
        let mut gateway_end = dial_unix(gateway);
        let mut seen = Seen { answers: Vec::new() };
        // They take turns: each says one thing and waits.
        while let Some(packet) = packet(&mut client_end) {
            send(&mut gateway_end, &packet);
            let Some(packet) = seen.hear(&mut gateway_end, name) else { break };
            send(&mut client_end, &packet);
        }
        drop(client_end);
        (seen, client.join().expect("the client ends"))
    })
}

impl Seen {
    /// Waits for the next answer; `None` is the end.
    fn hear(&mut self, stream: &mut impl Read, name: &str) -> Option<Vec<u8>> {
        let since = Instant::now();
        let packet = packet(stream);
        let took = since.elapsed();
        let text = packet.as_deref().map_or_else(|| "the end".to_owned(), |packet| described(packet, name));
        self.answers.push(Answer { text, took });
        packet
    }
}

/// One packet as it is.
fn packet(stream: &mut impl Read) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 8];
    stream.read_exact(&mut bytes).ok()?;
    let [.., a, b, c, d] = bytes[..] else { unreachable!("a header has eight bytes") };
    let head = bytes.len();
    bytes.resize(head + u32::from_be_bytes([a, b, c, d]) as usize, 0);
    stream.read_exact(&mut bytes[head..]).ok()?;
    Some(bytes)
}

/// A packet in words, with its size.
fn described(packet: &[u8], name: &str) -> String {
    let Received::Packet(kind, mut items) = wire::read(&mut &packet[..]) else {
        panic!("a packet expected: {packet:?}")
    };
    if let (true, Some(salt)) = (kind == "challenge", items.first_mut()) {
        *salt = Value::Text(without_chance(&salt.bytes()));
    }
    format!("{} bytes: {kind} {items:?}", packet.len()).replace(name, "NAME")
}

/// What a challenge carries, without its salts: random bytes, or a message of SCRAM, which has nonce and salt of chance.
fn without_chance(message: &[u8]) -> String {
    match str::from_utf8(message) {
        Ok(text) if text.starts_with("r=") => {
            let part = |part: &str| match part.split_once('=') {
                Some((key @ ("r" | "s"), value)) => format!("{key}={} letters", value.len()),
                _ => part.to_owned(),
            };
            text.split(',').map(part).collect::<Vec<_>>().join(",")
        }
        _ => format!("{} bytes of salt", message.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_chance_is_left_out_and_nothing_else() {
        let challenge = |salt: &[u8], prompt: &str| {
            let items = [Value::from("challenge"), salt.into(), Value::Dict(Vec::new()), "xor".into()];
            wire::packet(&Value::List([&items[..], &["hmac".into(), prompt.into()]].concat()))
        };
        let told = |salt: &[u8], prompt: &str| described(&challenge(salt, prompt), "alice");
        assert_eq!(told(&[7; 64], "for alice"), told(&[9; 64], "for alice"));
        assert_ne!(told(&[7; 64], "for alice"), told(&[7; 63], "for alice"));
        assert_ne!(told(&[7; 64], "for alice"), told(&[7; 64], "for bobby"));
        assert_eq!(without_chance(b"r=abc,s=QQ==,i=4096"), "r=3 letters,s=4 letters,i=4096");
    }
}
