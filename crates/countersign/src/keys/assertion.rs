//! What a key signs at a login, put together at the server and at the client.
//!
//! ```text
//! response    = flags (1) | counter (4, big endian) | signature
//! signed data = SHA-256(application id) | flags | counter | SHA-256(client data)
//! ```
//!
//! That is U2F's raw message ("FIDO U2F Raw Message Formats", 5.4), and just as well the authenticator
//! data of WebAuthn without extensions (WebAuthn Level 3, 6.1). The client data are Xpra's, which both ends
//! write down from the challenge and the origin, or those of a browser, which come with the answer.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// A key's answer to a challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Assertion {
    /// What the key saw, as bits.
    pub flags: u8,
    /// How often the key signed before, by its own count; 0 for a key that does not count.
    pub counter: u32,
    /// In the form of the key's algorithm.
    pub signature: Vec<u8>,
}

impl Assertion {
    /// Somebody was there and touched the key.
    pub const PRESENT: u8 = 0x01;
    /// The key knows who was there: by a PIN or a finger.
    pub const VERIFIED: u8 = 0x04;

    /// An answer.
    pub fn new(flags: u8, counter: u32, signature: Vec<u8>) -> Self {
        Self { flags, counter, signature }
    }

    /// Reads a response. `None` if it is too short to be one (W07).
    pub fn parse(response: &[u8]) -> Option<Self> {
        let (flags, rest) = response.split_first()?;
        let (counter, signature) = rest.split_first_chunk::<4>()?;
        let counter = u32::from_be_bytes(*counter);
        (!signature.is_empty()).then(|| Self::new(*flags, counter, signature.to_owned()))
    }

    /// The response that carries it.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&[self.flags], &self.counter.to_be_bytes()[..], &self.signature].concat()
    }

    /// What the signature is over.
    pub fn signed(&self, app_id: &str, client_data_hash: &[u8; 32]) -> Vec<u8> {
        signed(app_id, self.flags, self.counter, client_data_hash)
    }

    /// Whether all these bits are set.
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}

pub(super) fn signed(app_id: &str, flags: u8, counter: u32, client_data_hash: &[u8; 32]) -> Vec<u8> {
    [&hash(app_id.as_bytes())[..], &[flags], &counter.to_be_bytes(), client_data_hash].concat()
}

pub(super) fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// What the client says that it had signed, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientData {
    /// SHA-256 over it.
    pub hash: [u8; 32],
    /// The server that the client believes to log in at.
    pub origin: String,
}

impl ClientData {
    /// Reads what came beside a response to `challenge`: the origin as text, as Xpra's clients send it, or
    /// with `browsers` the client data of `navigator.credentials.get` in JSON.
    ///
    /// # Errors
    /// It is neither, or it is for another challenge or purpose (WebAuthn Level 3, 7.2 steps 11 and 12).
    pub fn read(beside: &[u8], challenge: &[u8], browsers: bool) -> Result<Self, &'static str> {
        if !(browsers && beside.starts_with(b"{")) {
            let origin = std::str::from_utf8(beside).map_err(|_| "the origin is no text")?;
            let json = client_data(challenge, origin).ok_or("the origin holds other than ASCII signs")?;
            return Ok(Self { hash: hash(&json), origin: origin.to_owned() });
        }
        let json: Value = serde_json::from_slice(beside).map_err(|_| "the client data are no JSON")?;
        let text = |key| json.get(key).and_then(Value::as_str);
        if text("type") != Some("webauthn.get") {
            return Err("the client data are not those of a login");
        }
        // Public by now: it is compared for its own sake, and needs no constant time.
        if text("challenge") != Some(&*URL_SAFE_NO_PAD.encode(challenge)) {
            return Err("the client data are for another challenge");
        }
        if json.get("crossOrigin").and_then(Value::as_bool) == Some(true) {
            return Err("the client data come from inside another site's page");
        }
        let origin = text("origin").ok_or("the client data name no origin")?.to_owned();
        Ok(Self { hash: hash(beside), origin })
    }
}

/// The client data of Xpra's clients: sorted keys, `", "` and `": "` between them. `None` for an origin
/// that is empty, longer than 255 bytes, or not of printable ASCII without quotation mark and backslash,
/// which JSON spells in more than one way.
pub fn client_data(challenge: &[u8], origin: &str) -> Option<Vec<u8>> {
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if !(1..=255).contains(&origin.len()) || !origin.bytes().all(plain) {
        return None;
    }
    let challenge = URL_SAFE_NO_PAD.encode(challenge);
    let json = format!(
        r#"{{"challenge": "{challenge}", "origin": "{origin}", "typ": "navigator.id.getAssertion"}}"#
    );
    Some(json.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w_07_a_response_is_read_back_and_a_short_one_is_none() {
        let assertion = Assertion::new(0x01, 0x0102_0304, vec![9, 8]);
        assert_eq!(assertion.to_bytes(), [1, 1, 2, 3, 4, 9, 8]);
        assert_eq!(Assertion::parse(&assertion.to_bytes()), Some(assertion));
        for short in 0..6 {
            assert_eq!(Assertion::parse(&vec![1; short]), None);
        }
        assert_eq!(Assertion::parse(&[1; 6]).unwrap().signed("Xpra", &[7; 32]).len(), 69);
    }

    #[test]
    fn the_client_data_are_written_as_xpra_writes_them() {
        let json = client_data(&[0xfb, 0xff, 0xfe], "laptop").unwrap();
        let expected = r#"{"challenge": "-__-", "origin": "laptop", "typ": "navigator.id.getAssertion"}"#;
        assert_eq!(json, expected.as_bytes());
        let long = "x".repeat(256);
        for odd in ["", "a\"b", "a\\b", "a\nb", "ä", &long] {
            assert_eq!(client_data(&[1], odd), None, "{odd}");
            assert!(ClientData::read(odd.as_bytes(), &[1], true).is_err(), "{odd}");
        }
    }

    #[test]
    fn s_076_client_data_of_a_browser_are_for_this_challenge_and_a_login() {
        let data = |kind: &str, challenge: &str, more: &str| {
            format!(r#"{{"type":"{kind}","challenge":"{challenge}","origin":"https://a.example"{more}}}"#)
        };
        let read = |json: String| ClientData::read(json.as_bytes(), &[0xfb, 0xff, 0xfe], true);
        let good = data("webauthn.get", "-__-", r#","crossOrigin":false,"extra":1"#);
        let found = read(good.clone()).unwrap();
        assert_eq!((found.origin.as_str(), found.hash), ("https://a.example", hash(good.as_bytes())));
        assert!(read(data("webauthn.create", "-__-", "")).is_err());
        assert!(read(data("webauthn.get", "-__A", "")).is_err());
        assert!(read(data("webauthn.get", "+//+", "")).is_err());
        assert!(read(data("webauthn.get", "-__-", r#","crossOrigin":true"#)).is_err());
        assert!(read("{".to_owned()).is_err());
        // U2F knows no such data: there they are an odd origin.
        assert!(ClientData::read(good.as_bytes(), &[0xfb, 0xff, 0xfe], false).is_err());
    }
}
