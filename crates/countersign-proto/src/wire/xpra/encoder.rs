//! The three encodings of values that are read and written.

use super::{Limits, Value, WireError, bencode, rencode, tree};

/// An encoding of values, named in each packet's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Encoder {
    /// Text and bytes are different types; 4.3 and later.
    Rencodeplus,
    /// One string type; 3.1 to 5.x.
    Rencode,
    /// One string type, no null, no floats, booleans are integers; 3.1 to 5.x.
    Bencode,
}

impl Encoder {
    /// All of them, the one with the most types first.
    pub const ALL: [Self; 3] = [Self::Rencodeplus, Self::Rencode, Self::Bencode];

    /// The name in a hello's `encoders` and of its boolean key.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rencodeplus => "rencodeplus",
            Self::Rencode => "rencode",
            Self::Bencode => "bencode",
        }
    }

    /// Decodes the one value that a payload holds.
    ///
    /// # Errors
    /// Anything that S-11 refuses: malformed, non-canonical or trailing bytes, and whatever is over the limits.
    pub fn decode(self, payload: &[u8], limits: &Limits) -> Result<Value, WireError> {
        let next = match self {
            Self::Rencodeplus => rencode::plus_token,
            Self::Rencode => rencode::token,
            Self::Bencode => bencode::token,
        };
        tree::decode(payload, limits, next)
    }

    /// Encodes a value as the real writers do, the shortest form first.
    ///
    /// # Errors
    /// [`WireError::Unrepresentable`] for null and floats in bencode, [`WireError::TooDeep`] beyond 16 containers.
    pub fn encode(self, value: &Value) -> Result<Vec<u8>, WireError> {
        let mut out = Vec::new();
        tree::encode(value, Limits::default().depth, self.writer(), &mut out)?;
        Ok(out)
    }

    /// Appends a list of `head` and `items`.
    pub(super) fn encode_list(
        self,
        head: &Value,
        items: &[Value],
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        let (length, depth) = (items.len().saturating_add(1), Limits::default().depth.saturating_sub(1));
        tree::encode_list(length, std::iter::once(head).chain(items), depth, self.writer(), out)
    }

    fn writer(self) -> &'static dyn tree::Write {
        match self {
            Self::Rencodeplus => &rencode::Dialect::Plus,
            Self::Rencode => &rencode::Dialect::Plain,
            Self::Bencode => &bencode::Bencode,
        }
    }
}
