//! A second, independent reading of the Xpra wire: enough to say what no honest client says.
//!
//! Written from the facts of the protocol and not from the product's codec, so that a mistake there is not repeated
//! here. Packets are rencodeplus, uncompressed.

use std::io::{ErrorKind, Read, Write};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha512;

/// A value of a packet.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// UTF-8 text.
    Text(String),
    /// A byte string.
    Bytes(Vec<u8>),
    /// An integer of at most 64 bits.
    Int(i64),
    /// True or false.
    Bool(bool),
    /// A list.
    List(Vec<Self>),
    /// A dictionary, in the order of the wire.
    Dict(Vec<(Self, Self)>),
    /// Nothing.
    Null,
}

impl Value {
    /// The text, or the bytes read as text.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("text expected: {other:?}"),
        }
    }

    /// The bytes, or the text's bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.clone().into_bytes(),
            Self::Bytes(bytes) => bytes.clone(),
            other => panic!("bytes expected: {other:?}"),
        }
    }

    /// The items of a list.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            other => panic!("a list expected: {other:?}"),
        }
    }

    /// Writes the value as rencodeplus.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.push(69),
            Self::Bool(true) => out.push(67),
            Self::Bool(false) => out.push(68),
            Self::Int(value) => {
                out.push(65);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Self::Text(text) => string(out, b':', text.as_bytes()),
            Self::Bytes(bytes) => string(out, b'/', bytes),
            Self::List(items) => {
                out.push(59);
                items.iter().for_each(|item| item.encode(out));
                out.push(127);
            }
            Self::Dict(entries) => {
                out.push(60);
                for (key, value) in entries {
                    key.encode(out);
                    value.encode(out);
                }
                out.push(127);
            }
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

/// A list of texts.
#[must_use]
pub fn texts(items: &[&str]) -> Value {
    Value::List(items.iter().map(|item| Value::from(*item)).collect())
}

/// One packet: header and payload.
#[must_use]
pub fn packet(value: &Value) -> Vec<u8> {
    let mut payload = Vec::new();
    value.encode(&mut payload);
    framed(RENCODEPLUS, 0, 0, &payload)
}

/// A packet with any header: flags, compression level, chunk index.
#[must_use]
pub fn framed(flags: u8, level: u8, index: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes =
        header(flags, level, index, u32::try_from(payload.len()).expect("a small packet")).to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

/// The eight bytes before a payload of this announced size.
#[must_use]
pub fn header(flags: u8, level: u8, index: u8, size: u32) -> [u8; 8] {
    let [a, b, c, d] = size.to_be_bytes();
    [b'P', flags, level, index, a, b, c, d]
}

/// The capabilities of an honest client that logs in with HMAC-SHA-512 and asks for `info`.
#[must_use]
pub fn honest(user: &str) -> Vec<(Value, Value)> {
    vec![
        ("version".into(), "6.5".into()),
        ("uuid".into(), "0123456789abcdef0123456789abcdef".into()),
        ("username".into(), user.into()),
        ("encoders".into(), texts(&["rencodeplus"])),
        ("rencodeplus".into(), Value::Bool(true)),
        ("compressors".into(), texts(&["none"])),
        ("compression_level".into(), Value::Int(0)),
        ("digest".into(), texts(&["hmac+sha512"])),
        ("salt-digest".into(), texts(&["hmac+sha512"])),
        ("request".into(), "info".into()),
        ("challenge".into(), Value::Bool(true)),
    ]
}

/// Capabilities with one entry replaced or added.
#[must_use]
pub fn with(mut caps: Vec<(Value, Value)>, key: &str, value: Value) -> Vec<(Value, Value)> {
    caps.retain(|(name, _)| *name != Value::from(key));
    caps.push((key.into(), value));
    caps
}

/// Capabilities with one entry left out.
#[must_use]
pub fn without(mut caps: Vec<(Value, Value)>, key: &str) -> Vec<(Value, Value)> {
    caps.retain(|(name, _)| *name != Value::from(key));
    caps
}

/// The packet that carries these capabilities.
#[must_use]
pub fn hello(caps: Vec<(Value, Value)>) -> Vec<u8> {
    packet(&Value::List(vec!["hello".into(), Value::Dict(caps)]))
}

/// A challenge as the server sent it.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// The server's salt.
    pub salt: Vec<u8>,
    /// How the secret is to be proved.
    pub digest: String,
    /// How the salts are combined.
    pub salt_digest: String,
}

/// Both salts in one, as the 128 letters that the secret meets.
#[must_use]
pub fn combined(challenge: &Challenge, client_salt: &[u8]) -> Vec<u8> {
    hex(&mac(client_salt, &challenge.salt)).into_bytes()
}

/// The answer to a challenge as it asks for it: HMAC-SHA-512 of the combined salt under the secret, as the 128 letters
/// sent, or the secret behind the mask of the combined salt.
#[must_use]
pub fn answer(challenge: &Challenge, client_salt: &[u8], secret: &[u8]) -> Vec<u8> {
    let combined = combined(challenge, client_salt);
    match challenge.digest.as_str() {
        "xor" => secret.iter().zip(combined).map(|(secret, mask)| secret ^ mask).collect(),
        _ => hex(&mac(secret, &combined)).into_bytes(),
    }
}

/// Logs in with our own bytes, by whatever is asked for, and returns what the other end makes of it: a `hello` or a
/// `disconnect`.
pub fn log_in(stream: &mut (impl Read + Write), user: &str, secret: &[u8]) -> Received {
    let salt = *b"thirty-two bytes of client salt!";
    let caps = with(honest(user), "digest", texts(&["hmac+sha512", "xor"]));
    send(stream, &hello(caps.clone()));
    let challenge = read(stream).challenge();
    let response = answer(&challenge, &salt, secret);
    let caps = with(without(caps, "challenge"), "challenge_response", response.as_slice().into());
    send(stream, &hello(with(caps, "challenge_client_salt", Value::from(salt.as_slice()))));
    read(stream)
}

/// What the other end sent next.
#[derive(Debug)]
pub enum Received {
    /// A packet: its type and what follows it.
    Packet(String, Vec<Value>),
    /// Plain text instead of a packet, up to the end of the line.
    Text(String),
    /// The connection ended.
    End,
}

impl Received {
    /// Whether it is the answer to a login that was let in.
    #[must_use]
    pub fn is_welcome(&self) -> bool {
        matches!(self, Self::Packet(kind, _) if kind == "hello")
    }

    /// The challenge, if this is one.
    #[must_use]
    pub fn challenge(self) -> Challenge {
        match self {
            Self::Packet(kind, items) if kind == "challenge" => {
                Challenge { salt: items[0].bytes(), digest: items[2].text(), salt_digest: items[3].text() }
            }
            other => panic!("a challenge expected: {other:?}"),
        }
    }
}

/// Reads one packet, or the line of text that a server without a common encoder writes.
pub fn read(stream: &mut impl Read) -> Received {
    let mut first = [0];
    match stream.read(&mut first) {
        Ok(1) if first == *b"P" => {}
        Ok(1) => return Received::Text(line(first[0], stream)),
        Ok(_) => return Received::End,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => return Received::End,
        Err(error) => panic!("neither a packet nor the end of the connection: {error}"),
    }
    let mut rest = [0; 7];
    if stream.read_exact(&mut rest).is_err() {
        return Received::End;
    }
    let [flags, level, index, a, b, c, d] = rest;
    assert_eq!(
        (flags & RENCODEPLUS, level, index),
        (RENCODEPLUS, 0, 0),
        "an uncompressed rencodeplus packet"
    );
    let mut payload = vec![0; u32::from_be_bytes([a, b, c, d]) as usize];
    stream.read_exact(&mut payload).expect("the whole payload");
    let mut bytes = payload.as_slice();
    let mut items = decode(&mut bytes).items().to_vec();
    let kind = items.remove(0).text();
    Received::Packet(kind, items)
}

/// Sends bytes; a peer that has already closed is not an error, for that is what most of them wait for.
pub fn send(stream: &mut impl Write, bytes: &[u8]) {
    let _ = stream.write_all(bytes).and_then(|()| stream.flush());
}

/// The flag of rencodeplus in the header.
pub const RENCODEPLUS: u8 = 0x10;

fn line(first: u8, stream: &mut impl Read) -> String {
    let mut text = vec![first];
    let mut byte = [0];
    while text.len() < 1024 && matches!(stream.read(&mut byte), Ok(1)) && byte != *b"\n" {
        text.push(byte[0]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn string(out: &mut Vec<u8>, mark: u8, bytes: &[u8]) {
    out.extend_from_slice(bytes.len().to_string().as_bytes());
    out.push(mark);
    out.extend_from_slice(bytes);
}

fn decode(input: &mut &[u8]) -> Value {
    match take(input, 1)[0] {
        code @ 0..=43 => Value::Int(code.into()),
        first @ b'0'..=b'9' => explicit(first, input),
        59 => Value::List(until_end(input)),
        60 => pairs(until_end(input)),
        62 => Value::Int(i8::from_be_bytes(array(input)).into()),
        63 => Value::Int(i16::from_be_bytes(array(input)).into()),
        64 => Value::Int(i32::from_be_bytes(array(input)).into()),
        65 => Value::Int(i64::from_be_bytes(array(input))),
        67 => Value::Bool(true),
        68 => Value::Bool(false),
        69 => Value::Null,
        code @ 70..=101 => Value::Int(69 - i64::from(code)),
        code @ 102..=126 => pairs((0..2 * usize::from(code - 102)).map(|_| decode(input)).collect()),
        code @ 128..=191 => Value::Text(utf8(take(input, usize::from(code - 128)))),
        code @ 192..=255 => Value::List((192..code).map(|_| decode(input)).collect()),
        code => panic!("type byte {code} is not expected from a server"),
    }
}

fn explicit(first: u8, input: &mut &[u8]) -> Value {
    let mut digits = String::from(char::from(first));
    loop {
        match take(input, 1)[0] {
            digit @ b'0'..=b'9' => digits.push(char::from(digit)),
            mark => {
                let content = take(input, digits.parse().expect("a length"));
                return if mark == b'/' { content.into() } else { Value::Text(utf8(content)) };
            }
        }
    }
}

fn until_end(input: &mut &[u8]) -> Vec<Value> {
    let mut items = Vec::new();
    while input.first() != Some(&127) {
        items.push(decode(input));
    }
    take(input, 1);
    items
}

fn pairs(items: Vec<Value>) -> Value {
    let mut entries = Vec::new();
    let mut items = items.into_iter();
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        entries.push((key, value));
    }
    Value::Dict(entries)
}

fn take<'a>(input: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at_checked(count).expect("a whole value");
    *input = rest;
    taken
}

fn array<const N: usize>(input: &mut &[u8]) -> [u8; N] {
    take(input, N).try_into().expect("the length asked for")
}

fn utf8(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text is UTF-8")
}

fn mac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha512>::new_from_slice(key).expect("any key length");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let value = Value::List(vec![
            "hello".into(),
            Value::Dict(vec![
                ("salt".into(), [0, 255, 7].as_slice().into()),
                ("n".into(), Value::Int(-70_000)),
            ]),
            Value::List(vec![
                Value::Bool(true),
                Value::Bool(false),
                Value::Null,
                texts(&["a", &"b".repeat(80)]),
            ]),
        ]);
        let mut bytes = Vec::new();
        value.encode(&mut bytes);
        assert_eq!(decode(&mut bytes.as_slice()), value);
    }

    #[test]
    fn short_forms_of_real_servers_are_read() {
        // ["a", {"b": 300}, -1, [b"\x01"]] as Xpra itself writes it.
        let bytes = [196, 129, b'a', 103, 129, b'b', 63, 1, 44, 70, 193, b'1', b'/', 1];
        let expected = Value::List(vec![
            "a".into(),
            Value::Dict(vec![("b".into(), Value::Int(300))]),
            Value::Int(-1),
            Value::List(vec![[1].as_slice().into()]),
        ]);
        assert_eq!(decode(&mut bytes.as_slice()), expected);
    }
}
