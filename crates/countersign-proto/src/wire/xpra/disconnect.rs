//! `disconnect`: the end, in words. Written and read by both sides.

use super::{Encoder, Kind, Packet, Value, WireError};

/// The end of a connection, with the reasons the peer gave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Disconnect {
    /// The reason, then further texts; at most 16 of at most 1 KiB each, without controls.
    pub reasons: Vec<String>,
}

impl Disconnect {
    /// What a server says to every failed login; clients give it an exit code of its own.
    pub const AUTHENTICATION_FAILED: &'static str = "authentication failed";

    /// With one reason.
    #[must_use]
    pub fn new(reason: &str) -> Self {
        Self { reasons: vec![reason.to_owned()] }
    }

    /// Reads a `disconnect` packet. Whatever is no text is left out, and what is too long is cut: the connection ends
    /// either way, and a person wants to know why.
    ///
    /// # Errors
    /// [`WireError::OtherPacket`] for any other packet.
    pub fn read(packet: &Packet) -> Result<Self, WireError> {
        if packet.kind != Kind::Disconnect {
            return Err(WireError::OtherPacket);
        }
        let readable = |value: &Value| -> Option<String> {
            Some(value.to_text()?.chars().filter(|c| !c.is_control()).take(LONGEST / 4).collect())
        };
        Ok(Self { reasons: packet.items.iter().filter_map(readable).take(MOST).collect() })
    }

    /// Whether the server refused the credentials.
    #[must_use]
    pub fn is_authentication_failure(&self) -> bool {
        self.reasons.iter().any(|reason| reason == Self::AUTHENTICATION_FAILED)
    }

    /// The packet.
    #[must_use]
    pub fn packet(&self, encoder: Encoder) -> Packet {
        Packet::new(
            encoder,
            Kind::Disconnect,
            self.reasons.iter().map(|reason| reason.as_str().into()).collect(),
        )
    }
}

const MOST: usize = 16;
/// Bytes; a character has at most four.
const LONGEST: usize = 1024;
