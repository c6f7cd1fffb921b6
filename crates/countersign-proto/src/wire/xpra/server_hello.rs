//! The server's `hello`: success, or the answer to a request.

use super::{Caps, Encoder, Fault, Kind, Packet, Value, WireError};

/// The server's capabilities, or what a request asked for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ServerHello {
    /// The server's version; some answers write it as a list of numbers.
    pub version: Option<String>,
    caps: Caps,
}

impl ServerHello {
    /// The answer to a `version` request, which tells nothing else (S-14).
    #[must_use]
    pub fn with_version(version: &str) -> Self {
        Self { version: Some(version.to_owned()), caps: Caps::default().with("version", version) }
    }

    /// An answer that says all of this.
    ///
    /// # Errors
    /// [`WireError::Field`] if `version` is neither a text of at most 255 bytes nor a short list of numbers.
    pub fn with_caps(caps: Caps) -> Result<Self, WireError> {
        let version = match caps.find("version").and_then(Value::as_list) {
            Some(numbers) => Some(dotted(numbers)?),
            None => caps.text("version", Caps::NAME)?,
        };
        Ok(Self { version, caps })
    }

    /// Reads a `hello` packet of a server.
    ///
    /// # Errors
    /// [`WireError::OtherPacket`] for any other packet, [`WireError::Field`] for a `version` of the wrong type or size
    /// or a packet without its dictionary.
    pub fn read(packet: Packet) -> Result<Self, WireError> {
        if packet.kind != Kind::Hello {
            return Err(WireError::OtherPacket);
        }
        match packet.items.into_iter().next() {
            Some(dict @ Value::Dict(_)) => Self::with_caps(Caps::read("hello", Some(dict))?),
            _ => Err(WireError::Field("hello", Fault::Type)),
        }
    }

    /// All the server says.
    #[must_use]
    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    /// The packet.
    #[must_use]
    pub fn packet(&self, encoder: Encoder) -> Packet {
        self.caps.clone().into_packet(encoder, Kind::Hello)
    }
}

fn dotted(numbers: &[Value]) -> Result<String, WireError> {
    if numbers.len() > LONGEST_VERSION {
        return Err(WireError::Field("version", Fault::Size));
    }
    let parts: Option<Vec<_>> = numbers.iter().map(|part| Some(part.as_int()?.to_string())).collect();
    Ok(parts.ok_or(WireError::Field("version", Fault::Type))?.join("."))
}

const LONGEST_VERSION: usize = 4;
