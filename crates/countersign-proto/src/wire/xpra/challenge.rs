//! The server's `challenge`: written by the gateway, read by our client.

use super::caps::bounded_text;
use super::{Caps, Encoder, Fault, Kind, Packet, Value, WireError};

/// A challenge. It is answered by another `hello`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Challenge {
    /// The server's salt, or its message where the mechanism has messages; at most 4 KiB.
    pub salt: Vec<u8>,
    /// Cipher parameters; empty where there is no cipher.
    pub caps: Caps,
    /// `NAME` or `NAME:ARGUMENT`.
    pub digest: String,
    /// How to combine the salts. Very old servers leave it out and mean `xor`, which must be refused.
    pub salt_digest: Option<String>,
    /// What to ask a person; at most 1 KiB.
    pub prompt: Option<String>,
}

impl Challenge {
    /// Reads a `challenge` packet.
    ///
    /// # Errors
    /// [`WireError::OtherPacket`] for any other packet, [`WireError::Field`] for an item that is missing or has the
    /// wrong type or size.
    pub fn read(packet: Packet) -> Result<Self, WireError> {
        if packet.kind != Kind::Challenge {
            return Err(WireError::OtherPacket);
        }
        let mut items = packet.items.into_iter();
        let salt = match items.next() {
            Some(Value::Bytes(bytes)) => bytes,
            Some(Value::Text(text)) => text.into_bytes(),
            Some(_) => return Err(WireError::Field("salt", Fault::Type)),
            None => return Err(WireError::Field("salt", Fault::Missing)),
        };
        if salt.len() > LONGEST_SALT {
            return Err(WireError::Field("salt", Fault::Size));
        }
        let caps = Caps::read("caps", items.next())?;
        let digest = items.next().ok_or(WireError::Field("digest", Fault::Missing))?;
        let mut optional = |name, most| match items.next() {
            Some(Value::Null) | None => Ok(None),
            Some(value) => bounded_text(name, &value, most).map(Some),
        };
        Ok(Self {
            salt,
            caps,
            digest: bounded_text("digest", &digest, Caps::NAME)?,
            salt_digest: optional("salt-digest", Caps::NAME)?,
            prompt: optional("prompt", LONGEST_PROMPT)?,
        })
    }

    /// The packet. Without a salt digest it ends before the prompt.
    #[must_use]
    pub fn packet(&self, encoder: Encoder) -> Packet {
        let mut items =
            vec![Value::Bytes(self.salt.clone()), self.caps.clone().into(), self.digest.as_str().into()];
        if let Some(salt_digest) = &self.salt_digest {
            items.push(salt_digest.as_str().into());
            items.extend(self.prompt.as_deref().map(Value::from));
        }
        Packet::new(encoder, Kind::Challenge, items)
    }
}

/// Servers send 64 bytes, at most 1,023 by configuration; messages of other mechanisms are longer.
const LONGEST_SALT: usize = 4096;
const LONGEST_PROMPT: usize = 1024;
