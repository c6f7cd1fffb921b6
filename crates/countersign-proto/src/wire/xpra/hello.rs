//! The client's `hello`: read by the gateway, written by our client, passed on to a backend without credentials.

use super::{Caps, Encoder, Fault, Kind, Packet, Value, WireError, cipher};
use crate::{Secret, chain::Wanted, challenge::Response, identity::Capabilities};

/// What a client says of itself, each field checked for type and size (S-13). Nothing in it is verified.
#[derive(Debug)]
#[non_exhaustive]
pub struct Hello {
    /// The encoder it came in: the one to answer in.
    pub encoder: Encoder,
    /// The client's version, such as `6.5` or `3.1.3`.
    pub version: Option<String>,
    /// The name to authenticate.
    pub username: Option<String>,
    /// A stable id of the client.
    pub uuid: Option<String>,
    /// Challenge digests it can answer.
    pub digests: Vec<String>,
    /// Digests for combining the salts.
    pub salt_digests: Vec<String>,
    /// It insists on a challenge, even on a socket that asks for nothing.
    pub expects_challenge: bool,
    /// The answer to the last challenge; a proof of at most 16 KiB, which is judged again by what was asked,
    /// and a salt of at most 4 KiB.
    pub response: Option<Response>,
    /// The answer to the question that need not be asked (`docs/protocol/xpra.md`, initial response).
    pub initial_response: Option<Response>,
    /// What the daemon is to hear first, if that answer lets the client in; at most [`FIRST_WORDS`] bytes.
    pub first_words: Vec<u8>,
    /// What it asks for in place of a session; a legacy client may ask in two ways at once, `request` comes first.
    pub requests: Vec<String>,
    /// The session it wants.
    pub display: Option<String>,
    /// The id it gives its session.
    pub session_id: Option<String>,
    /// The session's name.
    pub session_name: Option<String>,
    /// The client's host, by its own word.
    pub hostname: Option<String>,
    /// The person's name, by its own word.
    pub name: Option<String>,
    /// Encoders it reads, out of those we write.
    pub encoders: Vec<Encoder>,
    /// The compression level it asks for; 0: none.
    pub compression_level: Option<i64>,
    caps: Caps,
}

impl Hello {
    /// Reads a `hello` packet. Credentials, `argv` and `aliases` are taken out of the dictionary at once, so that
    /// nothing behind this point can pass them on.
    ///
    /// # Errors
    /// [`WireError::OtherPacket`] for any other packet (S-14), [`WireError::Field`] for a field of the wrong type or
    /// size (S-13), or a packet without its dictionary.
    pub fn read(packet: Packet) -> Result<Self, WireError> {
        if packet.kind != Kind::Hello {
            return Err(WireError::OtherPacket);
        }
        let Some(dict @ Value::Dict(_)) = packet.items.into_iter().next() else {
            return Err(WireError::Field("hello", Fault::Type));
        };
        let mut caps = Caps::read("hello", Some(dict))?;
        let response = take_response(&mut caps, ANSWER, Response::MAX_TOKEN_BYTES)?;
        let initial_response = take_response(&mut caps, INITIAL, Response::MAX_BYTES)?;
        let first_words = caps.take_bytes(WORDS, FIRST_WORDS)?.unwrap_or_default();
        let expects_challenge = caps.flag("challenge")?;
        caps.drop_named(is_withheld);
        let name = |name| caps.text(name, Caps::NAME);
        Ok(Self {
            encoder: packet.encoder,
            version: name("version")?,
            username: caps.exact_text("username", Caps::NAME)?,
            uuid: name("uuid")?,
            digests: caps.texts("digest")?,
            salt_digests: caps.texts("salt-digest")?,
            expects_challenge,
            response,
            initial_response,
            first_words,
            requests: requests(&caps)?,
            display: name("display")?,
            session_id: name("session-id")?,
            session_name: name("session-name")?,
            hostname: name("hostname")?,
            name: name("name")?,
            encoders: encoders(&caps)?,
            compression_level: level(&caps)?,
            caps,
        })
    }

    /// Whether it asks for this, in either form.
    #[must_use]
    pub fn requests(&self, name: &str) -> bool {
        self.requests.iter().any(|request| request == name)
    }

    /// All it says, without credentials, `argv` and `aliases`.
    #[must_use]
    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    /// What it says under this name, if that is a text of at most 4 KiB or a number. A credential is
    /// taken out, so that nothing behind this point can pass it on.
    pub fn said(&mut self, wanted: Wanted<'_>) -> Option<Secret> {
        match wanted.credential {
            true => self.caps.take_text(wanted.name, Capabilities::MAX_BYTES),
            false => self.caps.scalar_text(wanted.name, Capabilities::MAX_BYTES),
        }
    }

    /// The `hello` for a backend: everything of the client's but its credentials, `argv` (legacy clients put their
    /// password there), `aliases` (so the backend answers with names, not numbers), and what it announced of
    /// encryption, which ends here.
    #[must_use]
    pub fn forwarded(&self, encoder: Encoder) -> Packet {
        let mut caps = self.caps.clone();
        caps.drop_named(cipher::is_announcement);
        caps.into_packet(encoder, Kind::Hello)
    }
}

/// The hello of our client: the smallest that every server from 3.1 on takes.
#[derive(Debug, Default)]
pub struct ClientHello {
    /// Protocol version to claim; servers refuse a missing one and those below 3.0.
    pub version: String,
    /// The name to authenticate.
    pub username: String,
    /// A stable id of this client.
    pub uuid: String,
    /// Challenge digests that can be answered.
    pub digests: Vec<String>,
    /// Digests for combining the salts.
    pub salt_digests: Vec<String>,
    /// What to ask for in place of a session.
    pub request: Option<String>,
    /// The session wanted behind a gateway.
    pub display: Option<String>,
    /// The server must challenge.
    pub expects_challenge: bool,
    /// The answer to its last challenge.
    pub response: Option<Response>,
    /// The answer to the question that it need not ask.
    pub initial_response: Option<Response>,
    /// What the daemon is to hear first if that answer is right; at most [`FIRST_WORDS`] bytes.
    pub first_words: Vec<u8>,
    /// Random bytes sent beside a response so that its length does not show; see [`ClientHello::padding`].
    pub padding: Vec<u8>,
}

impl ClientHello {
    /// How many random bytes to send beside a response of this length.
    #[must_use]
    pub fn padding(response: usize) -> usize {
        512_usize.saturating_sub(response).max(32)
    }

    /// The packet. It asks for answers in `encoder`, uncompressed.
    #[must_use]
    pub fn packet(&self, encoder: Encoder) -> Packet {
        let mut caps = Caps::default()
            .with("version", self.version.as_str())
            .with("uuid", self.uuid.as_str())
            .with("username", self.username.as_str())
            .with("compression_level", 0)
            .with("compressors", list(["none"]))
            .with("encoders", list([encoder.name()]))
            .with(encoder.name(), true)
            .with("digest", list(self.digests.iter().map(String::as_str)))
            .with("salt-digest", list(self.salt_digests.iter().map(String::as_str)));
        for (name, value) in [("request", &self.request), ("display", &self.display)] {
            if let Some(value) = value {
                caps = caps.with(name, value.as_str());
            }
        }
        if self.expects_challenge {
            caps = caps.with("challenge", true);
        }
        for (response, [value, salt]) in [(&self.response, ANSWER), (&self.initial_response, INITIAL)] {
            let Some(response) = response else { continue };
            caps = caps.with(value, Value::Bytes(response.value.expose().to_vec()));
            if !response.client_salt.is_empty() {
                caps = caps.with(salt, Value::Bytes(response.client_salt.clone()));
            }
        }
        if !self.first_words.is_empty() {
            caps = caps.with(WORDS, Value::Bytes(self.first_words.clone()));
        }
        if self.response.is_some() {
            caps = caps.with("challenge_padding", Value::Bytes(self.padding.clone()));
        }
        caps.into_packet(encoder, Kind::Hello)
    }
}

fn take_response(
    caps: &mut Caps,
    [value, salt]: [&'static str; 2],
    longest: usize,
) -> Result<Option<Response>, WireError> {
    let value = caps.take_bytes(value, longest)?.map(Secret::new);
    let salt = caps.take_bytes(salt, Response::MAX_BYTES)?;
    Ok(value.map(|value| Response::new(value, salt.unwrap_or_default())))
}

fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> Value {
    Value::List(names.into_iter().map(Value::from).collect())
}

fn is_withheld(key: &[u8]) -> bool {
    key.starts_with(b"challenge") || [b"argv".as_slice(), b"aliases"].contains(&key)
}

fn requests(caps: &Caps) -> Result<Vec<String>, WireError> {
    let mut found: Vec<_> =
        caps.text("request", Caps::NAME)?.filter(|name| !name.is_empty()).into_iter().collect();
    // Modern clients say none of these: one look instead of one for each.
    let is_legacy = |key: &Value| key.as_bytes().is_some_and(|key| key.ends_with(b"_request"));
    if !caps.entries().iter().any(|(key, _)| is_legacy(key)) {
        return Ok(found);
    }
    for (legacy, name) in LEGACY_REQUESTS {
        // `connect_test_request` holds a text to be sent back, the others are booleans.
        let asked = caps.find(legacy).is_some_and(|value| match value.as_bytes() {
            Some(text) => !text.is_empty(),
            None => value.as_bool() != Some(false),
        });
        if asked && !found.iter().any(|known| known == name) {
            found.push(name.to_owned());
        }
    }
    Ok(found)
}

fn encoders(caps: &Caps) -> Result<Vec<Encoder>, WireError> {
    let listed = caps.texts("encoders")?;
    let mut found = Vec::new();
    for encoder in Encoder::ALL {
        if listed.iter().any(|name| name == encoder.name()) || caps.flag(encoder.name())? {
            found.push(encoder);
        }
    }
    Ok(found)
}

fn level(caps: &Caps) -> Result<Option<i64>, WireError> {
    const NAME: &str = "compression_level";
    caps.find(NAME).map(|value| value.as_int().ok_or(WireError::Field(NAME, Fault::Type))).transpose()
}

/// The keys of the answer to a challenge: proof and salt.
const ANSWER: [&str; 2] = ["challenge_response", "challenge_client_salt"];

/// The most bytes for the daemon that a hello holds.
pub const FIRST_WORDS: usize = 4096;

/// Their key. It starts as credentials do, so that no backend is told twice.
const WORDS: &str = "challenge_first_words";

/// Those of the initial response. No program but ours looks at them.
const INITIAL: [&str; 2] = ["challenge_initial_response", "challenge_initial_salt"];

/// The form of requests before `request`: a key of its own each.
const LEGACY_REQUESTS: [(&str, &str); 13] = [
    ("version_request", "version"),
    ("id_request", "id"),
    ("connect_test_request", "connect_test"),
    ("info_request", "info"),
    ("screenshot_request", "screenshot"),
    ("icon_request", "icon"),
    ("detach_request", "detach"),
    ("stop_request", "stop"),
    ("exit_request", "exit"),
    ("command_request", "command"),
    ("print_request", "print"),
    ("run_request", "run"),
    ("register_request", "register"),
];
